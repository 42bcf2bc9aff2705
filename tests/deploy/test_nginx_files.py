"""nginx with the configuration of deploy/, sending tarballs from a folder while the registry checks and counts."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path

import pytest
from ephemeral_port_reserve import reserve

from registry.storage.local import FILE_MODE
from tests.client import Registry, sha256, tarball
from tests.conftest import MakeRegistry
from tests.deploy.nginx_server import Nginx, readable

PACKED = tarball(name="demo", version="1.0.0", description="A demo", readme="words " * 50_000)
HERE = "/packages/demo/1.0.0/tarball"
TAG = f'"{sha256(PACKED)}"'
ORIGIN = {"Origin": "https://pages.example"}
# Headers that differ between requests or connections, and one in which nginx leaves out a name.
OWN = {"date", "server", "connection", "x-request-id", "ratelimit", "access-control-expose-headers"}


@pytest.fixture
def folder(stack_folder: Path) -> Path:
    return readable(stack_folder / f"registry-{reserve()}")


@pytest.fixture
async def behind(make_registry: MakeRegistry, folder: Path) -> Registry:
    return await make_registry(
        REGISTRY_STORAGE_PATH=str(folder / "packages"),
        REGISTRY_SPOOL_PATH=str(folder / "spool"),
        REGISTRY_ACCEL_LOCATION="/tarballs/",
        REGISTRY_TRUSTED_PROXIES="127.0.0.1/32",
        REGISTRY_RATE_LIMITS="download=1000/minute",
        REGISTRY_CORS_ORIGINS="https://pages.example",
    )


@pytest.fixture
def blobs(folder: Path) -> Path:
    return folder / "packages" / "blobs"


@pytest.fixture
def through(nginx: Path, behind: Registry, blobs: Path, stack_folder: Path) -> Iterator[Registry]:
    """The registry's client, through nginx."""
    with Nginx(nginx, stack_folder / f"nginx-{reserve()}", behind.url, blobs=blobs) as front:
        yield replace(behind, url=front.url)


async def downloads(registry: Registry) -> int:
    await registry.flush()
    return (await registry.get("/packages/demo/stats")).json["downloads"]["total"]


async def test_whole_tarballs_come_from_the_file_with_exactly_the_headers_of_the_registry(
    through: Registry, behind: Registry
):
    await (await through.user()).publish("demo", data=PACKED)
    handed = await behind.get(HERE)
    assert (handed.status, handed.body) == (200, b"")
    assert handed.headers["X-Accel-Redirect"].startswith("/tarballs/")
    for version in ("1.0.0", "latest"):
        here = f"/packages/demo/{version}/tarball"
        answer = await through.get(here, headers=ORIGIN)
        assert (answer.status, answer.body) == (200, PACKED)
        head = await behind.call("HEAD", here, headers=ORIGIN)
        names = {name.lower() for name in (*answer.headers, *head.headers)} - OWN
        assert {"etag", "x-checksum-sha256", "last-modified", "access-control-allow-origin"} < names
        for name in names:
            assert answer.headers.getall(name, []) == head.headers.getall(name, []), name
        assert answer.headers.getall("RateLimit")
        assert "X-Checksum-SHA256" in answer.headers["Access-Control-Expose-Headers"]
        assert len(answer.headers.getall("X-Request-ID")) == 1
    assert (await through.get(HERE, headers={"X-Request-ID": "mine-42"})).headers["X-Request-ID"] == "mine-42"
    head = await through.call("HEAD", HERE)
    assert (head.status, head.headers["Content-Length"], head.body) == (200, str(len(PACKED)), b"")


async def test_conditions_and_ranges_are_answered_as_the_registry_would_and_each_download_is_counted_once(
    through: Registry,
):
    await (await through.user()).publish("demo", data=PACKED)
    published = parsedate_to_datetime((await through.call("HEAD", HERE)).headers["Last-Modified"])
    at, before, after = (
        format_datetime(published + timedelta(seconds=seconds), usegmt=True) for seconds in (0, -60, 60)
    )
    for headers, status, part in (
        ({}, 200, slice(None)),
        ({"If-None-Match": TAG}, 304, None),
        ({"If-None-Match": '"other"'}, 200, slice(None)),
        ({"If-None-Match": '"other"', "If-Modified-Since": after}, 200, slice(None)),
        ({"If-Modified-Since": at}, 304, None),
        ({"If-Modified-Since": before}, 200, slice(None)),
        ({"If-Match": TAG}, 200, slice(None)),
        ({"If-Match": '"other"'}, 412, None),
        ({"If-Unmodified-Since": at}, 200, slice(None)),
        ({"If-Unmodified-Since": before}, 412, None),
        ({"Range": "bytes=5-9"}, 206, slice(5, 10)),
        ({"Range": "bytes=-7"}, 206, slice(-7, None)),
        ({"Range": "bytes=0-"}, 206, slice(None)),
        ({"Range": "bytes=0-0,5-9"}, 200, slice(None)),
        ({"Range": "bytes=9-5"}, 200, slice(None)),
        ({"Range": "bytes=5-9", "If-Range": '"other"'}, 200, slice(None)),
        ({"Range": f"bytes={len(PACKED)}-"}, 416, None),
    ):
        counted = await downloads(through)
        answer = await through.get(HERE, headers=headers)
        assert answer.status == status, headers
        if part is not None:
            assert answer.body == PACKED[part], headers
        whole = part is not None and part == slice(None)
        assert await downloads(through) == counted + whole, headers


async def test_a_file_that_is_missing_short_or_unreadable_is_a_503_in_json(through: Registry, blobs: Path):
    await (await through.user()).publish("demo", data=PACKED)
    [blob] = [path for path in blobs.rglob("*") if path.is_file()]
    moved = blob.with_suffix(".moved")

    async def check(code: str) -> None:
        answer = await through.get(HERE)
        assert (answer.status, answer.json["code"]) == (503, code)
        assert answer.json["error"] == answer.json["detail"]
        assert int(answer.headers["Retry-After"]) > 0

    blob.rename(moved)
    await check("blob_missing")
    blob.write_bytes(PACKED[:-1])
    await check("storage_unavailable")
    assert await downloads(through) == 0
    moved.rename(blob)
    blob.chmod(0)
    await check("storage_unavailable")
    blob.chmod(FILE_MODE)
    assert (await through.get(HERE)).body == PACKED


async def test_clients_cannot_request_the_files_directly(through: Registry, blobs: Path):
    await (await through.user()).publish("demo", data=PACKED)
    [blob] = [path.relative_to(blobs) for path in blobs.rglob("*") if path.is_file()]
    for path in (f"/tarballs/{blob}", f"//tarballs/{blob}", f"/x/../tarballs/{blob}", f"/%74arballs/{blob}"):
        answer = await through.call("GET", f"{through.url}{path}")
        assert (answer.status, answer.json["code"]) == (404, "not_found"), path
