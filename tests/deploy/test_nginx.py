"""nginx with the configuration of deploy/, in front of the real registry and a real S3 server."""

import asyncio
import gzip
import http.client
import json
import os
import ssl
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import aiobotocore.session
import aiohttp
import pytest
from aiohttp import web
from ephemeral_port_reserve import reserve

from registry.changes.handlers import FEED
from registry.devstack.processes import hand_over, unprivileged_user
from registry.keys import STORAGE
from tests.changes.reading import streaming
from tests.client import Registry, sha256, tarball
from tests.deploy.nginx_server import Nginx
from tests.deploy.stack import FILES, services
from tests.web.raw import request, send_raw
from tests.web.shape import case, check_error

PACKED = tarball(name="demo", version="1.0.0", description="A demo", readme="words " * 50_000)


@pytest.fixture
async def bucket(s3) -> str:
    name = f"nginx-{uuid.uuid4().hex[:12]}"
    options = {"endpoint_url": s3.url, "aws_access_key_id": s3.access_key, "aws_secret_access_key": s3.secret_key}
    async with aiobotocore.session.get_session().create_client("s3", region_name="us-east-1", **options) as client:
        await client.create_bucket(Bucket=name)
    return name


@pytest.fixture
async def behind(make_registry, s3, bucket) -> Registry:
    """The registry as in the compose stack: tarballs in S3, redirects, and a trusted proxy."""
    return await make_registry(
        REGISTRY_STORAGE_TYPE="s3",
        REGISTRY_S3_BUCKET=bucket,
        REGISTRY_S3_ENDPOINT=s3.url,
        REGISTRY_S3_ACCESS_KEY=s3.access_key,
        REGISTRY_S3_SECRET_KEY=s3.secret_key,
        REGISTRY_S3_REDIRECT="true",
        REGISTRY_TRUSTED_PROXIES="127.0.0.1/32",
        REGISTRY_RATE_LIMITS="download=1000/minute",
        REGISTRY_CORS_ORIGINS="https://pages.example",
    )


@pytest.fixture
def front(nginx, behind, stack_folder) -> Iterator[Nginx]:
    with Nginx(nginx, stack_folder / f"nginx-{reserve()}", behind.url) as server:
        yield server


@pytest.fixture
def through(front, behind) -> Registry:
    """The registry's client, through nginx."""
    return replace(behind, url=front.url)


async def downloads(registry: Registry) -> int:
    await registry.flush()
    return (await registry.get("/packages/demo/stats")).json["downloads"]["total"]


async def test_publishing_searching_and_reading_work_through_it(through):
    ada = await through.user()
    await ada.publish("demo", data=PACKED)
    assert await through.search("demo") == ["demo"]
    assert (await ada.post("other", "1.0.0")).status == 201


async def test_a_tarball_comes_with_the_registrys_own_bytes_and_headers(through, behind):
    await (await through.user()).publish("demo", data=PACKED)
    page = {"Origin": "https://pages.example", "Accept-Encoding": "gzip"}
    answer = await through.get("/packages/demo/1.0.0/tarball", headers=page)
    head = await behind.call("HEAD", "/packages/demo/1.0.0/tarball", headers=page)
    assert answer.status == 200
    assert answer.body == PACKED
    for name in (
        "Content-Type",
        "Content-Length",
        "ETag",
        "X-Checksum-SHA256",
        "Cache-Control",
        "Content-Disposition",
        "Last-Modified",
        "Accept-Ranges",
        "X-Content-Type-Options",
        "RateLimit-Policy",
        "Vary",
    ):
        assert answer.headers.getall(name) == head.headers.getall(name), name
    assert answer.headers["X-Checksum-SHA256"] == sha256(PACKED)
    assert answer.headers["X-Request-ID"]
    assert answer.headers["RateLimit"]
    assert answer.headers["Access-Control-Allow-Origin"] == "https://pages.example"
    assert answer.headers["Access-Control-Expose-Headers"]
    assert not {"Content-Encoding", "Location", "Content-Location"} & set(answer.headers)
    assert not [name for name in answer.headers if name.lower().startswith("x-amz")]


async def test_the_latest_tarball_names_its_version(through):
    await (await through.user()).publish("demo", data=PACKED)
    answer = await through.get("/packages/demo/latest/tarball")
    assert answer.status == 200
    assert answer.headers["Content-Location"] == "/api/v1/packages/demo/1.0.0/tarball"
    assert answer.headers["Cache-Control"] == "no-cache"


async def test_each_download_is_counted_once(through):
    await (await through.user()).publish("demo", data=PACKED)
    path = "/packages/demo/1.0.0/tarball"
    for _ in range(3):
        assert (await through.get(path)).status == 200
    tag = f'"{sha256(PACKED)}"'
    assert (await through.get(path, headers={"If-None-Match": tag})).status == 304
    assert (await through.get(path, headers={"Range": "bytes=10-"})).status == 206
    assert (await through.call("HEAD", path)).status == 200
    assert await downloads(through) == 3


@pytest.mark.parametrize(
    ("headers", "status", "part"),
    [
        ({"Range": "bytes=5-9"}, 206, slice(5, 10)),
        ({"Range": "bytes=-7"}, 206, slice(-7, None)),
        ({"Range": "BYTES=5-"}, 206, slice(5, None)),
        ({"Range": "bytes=0-0,5-9"}, 200, slice(None)),
        ({"Range": "bytes=9-5"}, 200, slice(None)),
        ({"Range": "lines=1-2"}, 200, slice(None)),
        ({"Range": "bytes=5-9", "If-Range": f'"{sha256(PACKED)}"'}, 206, slice(5, 10)),
        ({"Range": "bytes=5-9", "If-Range": '"other"'}, 200, slice(None)),
        ({"Range": "bytes=5-9", "If-Range": f'W/"{sha256(PACKED)}"'}, 200, slice(None)),
    ],
)
async def test_ranges_are_answered_as_the_registry_would(through, headers, status, part):
    await (await through.user()).publish("demo", data=PACKED)
    answer = await through.get("/packages/demo/1.0.0/tarball", headers=headers)
    assert (answer.status, answer.body) == (status, PACKED[part])


async def test_a_range_beyond_the_end_gets_the_error_of_the_registry(through):
    await (await through.user()).publish("demo", data=PACKED)
    answer = await through.get("/packages/demo/1.0.0/tarball", headers={"Range": f"bytes={len(PACKED)}-"})
    assert answer.status == 416
    assert answer.json["code"] == "range_not_satisfiable"


async def test_credentials_never_reach_the_storage(through):
    ada = await through.user()
    await ada.publish("demo", data=PACKED)
    answer = await ada.call("GET", "/packages/demo/1.0.0/tarball", headers={"Cookie": "a=b"})
    assert (answer.status, answer.body) == (200, PACKED)


async def test_a_lost_tarball_gives_a_503_in_json(through, behind):
    await (await through.user()).publish("demo", data=PACKED)
    storage = behind.app[STORAGE]
    async for blob in storage.list():
        await storage.delete(blob.key)
    answer = await through.get("/packages/demo/1.0.0/tarball")
    assert answer.status == 503
    assert answer.json["code"] == "storage_unavailable"
    assert answer.json["error"] == answer.json["detail"]
    assert answer.headers["Retry-After"]


async def test_unknown_packages_and_other_spellings_are_answered_by_the_registry(through):
    await (await through.user()).publish("my-demo")
    assert (await through.get("/packages/absent/1.0.0/tarball")).json["code"] == "not_found"
    moved = await through.get("/packages/my_demo/1.0.0/tarball")
    assert moved.status == 301
    assert moved.headers["Location"] == "/api/v1/packages/my-demo/1.0.0/tarball"


async def test_json_is_compressed_on_request_and_still_answers_304(through):
    await (await through.user()).publish("demo", data=PACKED, description="words " * 500)
    plain = await through.get("/packages/demo/1.0.0", headers={"Accept-Encoding": "identity"})
    small = await through.get("/packages/demo/1.0.0", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    assert small.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.body) == plain.body
    again = await through.get("/packages/demo/1.0.0", headers={"If-None-Match": small.headers["ETag"]})
    assert again.status == 304


async def test_each_change_passes_through_at_once(through, behind):
    behind.app[FEED].comment_seconds = 0.05
    ada = await through.user()
    for _ in range(2):
        async with streaming(through, {"Accept-Encoding": "gzip"}) as stream:
            assert "Content-Encoding" not in stream.response.headers
            assert (await stream.block())[0].startswith(":")
            published = await ada.publish(f"demo-{uuid.uuid4().hex}")
            while (await stream.event())[0] < published["seq"]:
                pass


async def test_a_stream_goes_on_after_a_restart_of_the_registry(through, behind):
    ada = await through.user()
    async with streaming(through) as stream:
        published = await ada.publish("demo", data=PACKED)
        while (last := (await stream.event())[0]) < published["seq"]:
            pass
        behind.app[FEED].close()
        assert await stream.ended()
    await ada.publish("other")
    behind.app[FEED].is_closed = False
    async with streaming(through, {"Last-Event-ID": str(last)}) as stream:
        assert (await stream.event())[2]["package"] == "other"


async def test_answers_about_accounts_are_never_compressed(through):
    ada = await through.user()
    for number in range(30):
        made = await ada.call("POST", "/auth/tokens", json={"name": f"token number {number}", "scopes": ["read"]})
        assert made.status == 201, made.body
    answer = await ada.call("GET", "/auth/tokens", headers={"Accept-Encoding": "gzip"})
    assert len(answer.body) > 1024
    assert "Content-Encoding" not in answer.headers


async def test_a_client_cannot_forge_its_address(make_registry, nginx, stack_folder):
    behind = await make_registry(REGISTRY_TRUSTED_PROXIES="127.0.0.0/8", REGISTRY_RATE_LIMITS="login=2/hour")
    with Nginx(nginx, stack_folder / f"nginx-{reserve()}", behind.url) as front:
        through = replace(behind, url=front.url)
        statuses = []
        for number in range(3):
            headers = {"X-Forwarded-For": f"203.0.113.{number}"}
            body = {"username": "ada", "password": "wrong"}
            statuses.append((await through.call("POST", "/auth/login", json=body, headers=headers)).status)
    assert statuses == [401, 401, 429]


@pytest.mark.parametrize(
    "path", ["/metrics", "/api/v1/metrics", "//metrics", "/%6detrics", "/metrics/", "/x/../metrics"]
)
async def test_metrics_are_not_public(front, path):
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=10)
    connection.request("GET", path)
    answer = await asyncio.to_thread(connection.getresponse)
    assert answer.status == 404
    assert json.loads(answer.read())["code"] == "not_found"
    connection.close()


async def test_an_upload_can_be_refused_before_its_body_is_sent(front):
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(
        b"PUT /api/v1/packages/demo/1.0.0 HTTP/1.1\r\nHost: x\r\nContent-Type: application/gzip\r\n"
        b"Content-Length: 50000000\r\n\r\nonly a little"
    )
    async with asyncio.timeout(20):
        assert b" 401 " in await reader.readline()
    writer.close()


async def test_a_large_upload_is_not_buffered_on_disk(through, front):
    data = tarball({"name": "big", "version": "1.0.0", "description": "Big"}, {"data": uuid.uuid4().bytes * (1 << 19)})
    assert (await (await through.user()).put("big", "1.0.0", data=data)).status == 201
    kept = [file for file in front.temporary.rglob("*") if file.is_file() and file.name != "nginx.pid"]
    assert kept == []


async def test_a_tarball_over_the_limit_is_refused_by_the_registry(through):
    ada = await through.user()
    answer = await ada.put("demo", "1.0.0", data=b"x" * (101 << 20))
    assert answer.status == 413
    assert answer.json["code"] == "too_large"


async def test_unusual_paths_reach_the_registry_unchanged(through, behind):
    for path in ("/packages/a%2Fb", "/packages/%C3%BC", "/search?q=%2B%26%00", "/packages//x", "/packages/a/../b"):
        direct, proxied = await behind.get(path), await through.get(path)
        assert (proxied.status, proxied.json["code"]) == (direct.status, direct.json["code"]), path


async def test_the_response_has_the_request_id_of_the_client(through):
    answer = await through.get("/stats", headers={"X-Request-ID": "mine-42"})
    assert answer.headers["X-Request-ID"] == "mine-42"


async def test_without_a_registry_nginx_answers_503_in_json(nginx, stack_folder):
    with Nginx(nginx, stack_folder / f"nginx-{reserve()}", f"http://127.0.0.1:{reserve()}") as front:
        async with aiohttp.ClientSession() as session:
            for path in ("/api/v1/stats", "/api/v1/packages/demo/1.0.0/tarball"):
                async with session.get(front.url + path) as answer:
                    assert answer.status == 503
                    assert answer.headers["Retry-After"]
                    problem = await answer.json()
                    assert problem["error"] == problem["detail"]


REFUSED_BY_NGINX = [
    (b"nonsense\r\n\r\n", 400),
    (request("GET / HTTP/1.1", "Host: other"), 400),
    (request("GET / HTTP/1.1", "Content-Length: ten"), 400),
    (request("POST / HTTP/1.1", "Transfer-Encoding: rot13"), 400),
    (request("GET /../../x HTTP/1.1"), 400),
    (request("GET /nginx/malformed HTTP/1.1"), 404),
    (request(f"GET /{'a' * 9000} HTTP/1.1"), 414),
    (request("GET / HTTP/1.1", f"X-A: {'a' * 9000}"), 431),
    (request("GET / HTTP/1.1", *(f"X-{n}: {'a' * 4000}" for n in range(40))), 431),
]


async def test_connections_to_the_registry_are_reused(nginx, aiohttp_server, stack_folder):
    connections = set()

    async def answer(request: web.Request) -> web.Response:
        connections.add(request.transport.get_extra_info("peername"))
        return web.Response()

    app = web.Application()
    app.router.add_get("/", answer)
    server = await aiohttp_server(app)
    with Nginx(nginx, stack_folder / f"nginx-{reserve()}", f"http://127.0.0.1:{server.port}") as front:
        for _ in range(20):
            async with aiohttp.request("GET", front.url) as answered:
                assert answered.status == 200
    assert 1 <= len(connections) <= os.cpu_count()  # one for each nginx worker


async def test_errors_of_nginx_have_the_shape_of_the_registrys(through):
    for data, status in REFUSED_BY_NGINX:
        with case(data[:60]):
            check_error(await send_raw(through, data), status)


async def test_https_works_and_http_redirects_to_it(nginx, behind, stack_folder, tmp_path):
    certificates = certificate(tmp_path)
    with Nginx(nginx, stack_folder / f"nginx-{reserve()}", behind.url, certificates=certificates) as front:
        trusted = ssl.create_default_context(cafile=certificates / "fullchain.pem")
        address = f"https://localhost:{front.tls_port}/api/v1"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{address}/stats", ssl=trusted) as answer:
                assert answer.status == 200
                assert answer.headers["Strict-Transport-Security"]
            async with session.get(f"{address}/packages/x/1.0.0/tarball", ssl=trusted) as answer:
                assert answer.status == 404
                assert answer.headers["Strict-Transport-Security"]
            plain = f"http://localhost:{front.port}/api/v1/stats?x=1"
            async with session.post(plain, allow_redirects=False) as answer:
                assert answer.status == 308
                assert answer.headers["Location"] == "https://localhost/api/v1/stats?x=1"


def certificate(folder: Path) -> Path:
    """A folder with a certificate for localhost, as compose.tls.yml expects it."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", "privkey.pem", "-out", "fullchain.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    hand_over(folder, unprivileged_user())
    return folder


def test_compose_mounts_folders_of_configuration():
    """If files were mounted, a container would keep the old file after Git replaced it, and a reload would not help."""
    plain, tls = (services(*files)["nginx"]["volumes"] for files in (FILES[:1], FILES))
    assert plain == ["./deploy/nginx:/etc/nginx/registry:ro", "./deploy/nginx/plain:/etc/nginx/server:ro"]
    assert plain[0] in tls
    assert "./deploy/nginx/tls:/etc/nginx/server:ro" in tls
