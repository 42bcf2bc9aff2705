"""A shared cache, nginx's proxy_cache, in front of the registry: no client gets another client's answer."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from ephemeral_port_reserve import reserve

from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.deploy.nginx_server import Nginx
from tests.web.shape import case

FIRST, SECOND = "https://first.example", "https://second.example"
TARBALL = "/packages/demo/1.0.0/tarball"
CACHING = """\
pid {folder}/nginx.pid;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/tmp/body;
    proxy_temp_path {folder}/tmp/proxy;
    fastcgi_temp_path {folder}/tmp/fastcgi;
    uwsgi_temp_path {folder}/tmp/uwsgi;
    scgi_temp_path {folder}/tmp/scgi;
    proxy_cache_path {folder}/tmp/cache keys_zone=answers:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://{registry};
            proxy_cache answers;
            proxy_cache_valid any 1h;
            add_header X-Cache $upstream_cache_status always;
        }}
    }}
    server {{
        listen 127.0.0.1:{alive_port};
        location / {{ return 200; }}
    }}
}}
"""

Behind = Callable[[Registry], Registry]


class Cache(Nginx):
    """An nginx that caches all answers that allow it, and answers without Cache-Control for an hour."""

    def _write_configuration(self) -> None:
        self.temporary.mkdir(exist_ok=True)
        (self.folder / "nginx.conf").write_text(
            CACHING.format(folder=self.folder, port=self.port, registry=self._registry, alive_port=self._alive_port)
        )


@pytest.fixture
def behind_cache(nginx: Path, stack_folder: Path) -> Iterator[Behind]:
    """Puts a cache in front of a registry. Returns a client that uses the cache."""
    with ExitStack() as stack:

        def put(registry: Registry) -> Registry:
            cache = stack.enter_context(Cache(nginx, stack_folder / f"cache-{reserve()}", registry.url))
            return replace(registry, url=cache.url)

        yield put


async def test_each_origin_gets_its_own_cors_headers(make_registry: MakeRegistry, behind_cache: Behind):
    registry = await make_registry(REGISTRY_CORS_ORIGINS=f"{FIRST},{SECOND}")
    await (await registry.user("ada")).publish("demo")
    cached = behind_cache(registry)
    for found in ("MISS", "HIT"):
        for origin in (None, FIRST, SECOND, "https://evil.example"):
            with case((found, origin)):
                answer = await cached.get(TARBALL, headers={"Origin": origin} if origin else {})
                assert (answer.status, answer.headers["X-Cache"]) == (200, found)
                allowed = origin if origin in (FIRST, SECOND) else None
                assert answer.headers.get("Access-Control-Allow-Origin") == allowed


async def test_errors_and_redirects_are_not_cached(registry: Registry, behind_cache: Behind):
    cached = behind_cache(registry)
    ada = await registry.user("ada")
    for path in ("/packages/look_alike", "/packages/look-alike", "/packages/look-alike/1.0.0/tarball"):
        assert (await cached.get(path)).status == 404
    await ada.publish("look-alike")
    assert (await cached.get("/packages/look-alike")).status == 200
    assert (await cached.get("/packages/look-alike/1.0.0/tarball")).status == 200
    assert (await cached.get("/packages/look_alike")).status == 301
    assert (await ada.call("DELETE", "/packages/look-alike/1.0.0")).status == 204
    assert (await cached.get("/packages/look_alike")).status == 404


async def test_each_client_gets_the_media_type_it_accepts(registry: Registry, behind_cache: Behind):
    await (await registry.user("ada")).publish("demo")
    cached = behind_cache(registry)
    series = "/packages/demo/stats?from=2026-01-01&to=2026-01-02"
    for path, other in ((series, "text/csv"), ("/packages/nobody", "application/problem+json")):
        for accept, content_type in (("*/*", "application/json"), (other, other), ("*/*", "application/json")):
            with case((path, accept)):
                answer = await cached.get(path, headers={"Accept": accept})
                assert answer.headers["Content-Type"].startswith(content_type)


async def test_a_private_response_is_never_given_to_another_client(make_registry: MakeRegistry, behind_cache: Behind):
    ada = await (await make_registry()).user("ada")
    await ada.publish("demo")
    private = await make_registry(REGISTRY_ACCESS="private")
    await private.drain()
    cached = behind_cache(private)
    for path in (
        "/packages",
        "/packages/demo",
        "/packages/demo/versions",
        TARBALL,
        "/packages/demo/latest/tarball",
        "/packages/demo/badge/version.svg",
        "/search?q=demo",
        "/search/suggest?q=demo",
        "/stats",
        "/metrics",
        "/auth/me",
    ):
        with case(path):
            assert (await cached.get(path, headers=ada.headers)).status == 200
            assert (await cached.get(path)).status == 401
