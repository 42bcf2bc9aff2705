"""Tarballs over HTTP: exact bytes, validators, ranges, and which requests are counted."""

import asyncio
import logging
import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

import aiohttp
import pytest

from registry.keys import SETTINGS
from tests.client import API, Registry, sha256, tarball
from tests.conftest import MakeRegistry
from tests.downloads.counts import counted

DATA = tarball(name="demo", version="1.0.0", files={"x": b"some content"})
SIZE = len(DATA)
HERE = "/packages/demo/1.0.0/tarball"


@pytest.fixture
async def demo(registry: Registry) -> Registry:
    await (await registry.user()).publish("demo", "1.0.0", data=DATA)
    return registry


async def test_a_tarball_is_the_exact_bytes_with_their_headers(demo: Registry):
    answer = await demo.get(HERE, headers={"Accept-Encoding": "gzip, br"})
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers["Content-Type"] == "application/gzip"
    assert "Content-Encoding" not in answer.headers
    assert answer.headers["Content-Length"] == str(SIZE)
    assert answer.headers["X-Checksum-SHA256"] == sha256(DATA)
    assert answer.headers["ETag"] == f'"{sha256(DATA)}"'
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="demo-1.0.0.tar.gz"'
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert parsedate_to_datetime(answer.headers["Last-Modified"]) <= datetime.now(UTC)


async def test_head_has_the_same_headers_and_counts_nothing(demo: Registry):
    full = await demo.get(HERE)
    for headers in ({}, {"Range": "bytes=0-3"}):
        head = await demo.call("HEAD", HERE, headers=headers)
        assert (head.status, head.body) == (200, b"")
        for name in ("Content-Length", "ETag", "Content-Type", "X-Checksum-SHA256", "Cache-Control", "Last-Modified"):
            assert head.headers[name] == full.headers[name], name
    assert await counted(demo) == 1


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/gzip"),
        ("application/octet-stream", "application/octet-stream"),
        ("application/octet-stream, application/json;q=0.5", "application/octet-stream"),
        ("application/octet-stream, application/gzip", "application/gzip"),
        ("application/octet-stream;q=0", "application/gzip"),
    ],
)
async def test_a_client_that_accepts_only_bytes_gets_them_as_bytes(demo: Registry, accept: str, expected: str):
    answer = await demo.get(HERE, headers={"Accept": accept})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == expected
    assert answer.headers["Vary"] == "Accept"
    assert "Content-Encoding" not in answer.headers


async def test_latest_serves_the_tarball_of_the_latest_version(demo: Registry):
    ada = await demo.user()
    await ada.publish("demo", "2.0.0-rc.1")
    answer = await demo.get("/packages/demo/latest/tarball")
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers["Content-Location"] == f"{API}{HERE}"
    assert "immutable" not in answer.headers["Cache-Control"]
    assert "Content-Location" not in (await demo.get(HERE)).headers


async def test_a_look_alike_name_redirects_and_counts_nothing(registry: Registry):
    await (await registry.user()).publish("my-lib")
    answer = await registry.get("/packages/my_lib/1.0.0/tarball?x=1")
    assert (answer.status, answer.headers["Location"]) == (301, f"{API}/packages/my-lib/1.0.0/tarball?x=1")
    assert await counted(registry) == 0


@pytest.mark.parametrize("read", ["bytes={}", "Bytes={}"])
async def test_a_single_range_is_served(demo: Registry, read: str):
    for asked, start, end in (
        ("0-0", 0, 1), ("0-9", 0, 10), ("5-9", 5, 10), ("10-", 10, SIZE), ("0-", 0, SIZE), ("-10", SIZE - 10, SIZE),
        (f"5-{SIZE + 100}", 5, SIZE), (f"-{SIZE + 5}", 0, SIZE), (f"{SIZE - 1}-", SIZE - 1, SIZE),
    ):  # fmt: skip
        answer = await demo.get(HERE, headers={"Range": read.format(asked)})
        assert answer.body == DATA[start:end], asked
        assert answer.headers["Content-Length"] == str(end - start)
        if end - start == SIZE:
            assert answer.status in (200, 206)
        else:
            assert answer.status == 206
            assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
        assert answer.headers["ETag"] == f'"{sha256(DATA)}"'


async def test_a_range_beyond_the_end_is_416(demo: Registry):
    for asked in (f"{SIZE}-", f"{SIZE + 5}-{SIZE + 9}", "-0", "9" * 18 + "-"):
        answer = await demo.get(HERE, headers={"Range": f"bytes={asked}"})
        assert (answer.status, answer.json["code"]) == (416, "range_not_satisfiable"), asked
        assert answer.headers["Content-Range"] == f"bytes */{SIZE}"
    assert await counted(demo) == 0


async def test_anything_but_a_single_range_gets_the_whole_tarball(demo: Registry):
    for asked in ("bytes=5-2", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1", "bytes", "", "bytes=--1", "9" * 9):
        answer = await demo.get(HERE, headers={"Range": asked})
        assert (answer.status, answer.body) == (200, DATA), asked


async def test_conditional_requests_are_304_and_count_nothing(demo: Registry):
    tag = f'"{sha256(DATA)}"'
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    earlier = "Mon, 01 Jan 2024 00:00:00 GMT"
    for headers in ({"If-None-Match": tag}, {"If-None-Match": f'W/{tag}, "x"'}, {"If-None-Match": "*"},
                    {"If-Modified-Since": later}, {"If-None-Match": tag, "If-Modified-Since": earlier},
                    {"If-None-Match": tag, "Range": "bytes=0-1"}):  # fmt: skip
        answer = await demo.get(HERE, headers=headers)
        assert (answer.status, answer.body) == (304, b""), headers
        assert answer.headers["ETag"] == tag
    assert await counted(demo) == 0
    for headers in ({"If-None-Match": '"x"'}, {"If-Modified-Since": earlier}, {"If-Modified-Since": "junk"},
                    {"If-None-Match": '"x"', "If-Modified-Since": later}):  # fmt: skip
        assert (await demo.get(HERE, headers=headers)).status == 200, headers
    assert await counted(demo) == 4


async def test_if_match_and_if_unmodified_since_are_412_if_they_do_not_match(demo: Registry):
    tag = f'"{sha256(DATA)}"'
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    earlier = "Mon, 01 Jan 2024 00:00:00 GMT"
    for headers in ({"If-Match": '"x"'}, {"If-Match": f"W/{tag}"}, {"If-Unmodified-Since": earlier}):
        answer = await demo.get(HERE, headers=headers)
        assert (answer.status, answer.json["code"]) == (412, "precondition_failed"), headers
    assert await counted(demo) == 0
    for headers in ({"If-Match": tag}, {"If-Match": f'"x", {tag}'}, {"If-Match": "*"}, {"If-Unmodified-Since": later},
                    {"If-Match": tag, "If-Unmodified-Since": earlier}):  # fmt: skip
        assert (await demo.get(HERE, headers=headers)).status == 200, headers


async def test_if_range_serves_the_range_only_of_the_same_bytes(demo: Registry):
    modified = (await demo.get(HERE)).headers["Last-Modified"]
    for validator, status in ((f'"{sha256(DATA)}"', 206), (modified, 206), ('"other"', 200),
                              ("Mon, 01 Jan 2024 00:00:00 GMT", 200), (f'W/"{sha256(DATA)}"', 200)):  # fmt: skip
        answer = await demo.get(HERE, headers={"Range": "bytes=1-2", "If-Range": validator})
        assert answer.status == status, validator


async def test_only_gets_that_start_at_byte_zero_count(demo: Registry):
    for asked, total in ((None, 1), ("0-3", 2), ("0-", 3), ("4-", 3), ("1-2", 3), ("-3", 3), (f"-{SIZE}", 4)):
        await demo.get(HERE, headers={"Range": f"bytes={asked}"} if asked else {})
        assert await counted(demo) == total, asked
    for path in ("/packages/demo/9.9.9/tarball", "/packages/nothing/1.0.0/tarball"):
        assert (await demo.get(path)).status == 404
    assert await counted(demo) == 4


async def test_a_large_tarball_is_served_whole_and_in_ranges(registry: Registry):
    noise = os.urandom(3_000_000)
    data = tarball(name="demo", version="1.0.0", files={"noise": noise})
    await (await registry.user()).publish("demo", "1.0.0", data=data)
    assert sha256((await registry.get(HERE)).body) == sha256(data)
    part = await registry.get(HERE, headers={"Range": "bytes=1000000-2500000"})
    assert part.body == data[1000000:2500001]


@pytest.mark.parametrize(("cut", "status"), [("storage", 503), ("client", 499)])
async def test_a_broken_transfer_is_recorded_with_the_status_of_the_side_that_broke_it(
    registry: Registry, caplog: pytest.LogCaptureFixture, cut: str, status: int
):
    data = tarball(name="demo", version="1.0.0", files={"noise": os.urandom(20_000_000)})
    await (await registry.user()).publish("demo", "1.0.0", data=data)
    caplog.set_level(logging.INFO, logger="registry.access")
    caplog.clear()
    if cut == "storage":
        [blob] = (registry.app[SETTINGS].storage.path / "blobs" / "demo").iterdir()
        os.truncate(blob, 10_000_000)
    async with registry.session.get(f"{registry.url}{API}{HERE}") as answer:
        await answer.content.readexactly(1_000_000)
        if cut == "storage":
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        else:
            answer.close()
    async with asyncio.timeout(20):
        while not (recorded := [record for record in caplog.records if record.name == "registry.access"]):
            await asyncio.sleep(0.02)
    assert [record.status for record in recorded] == [status]


async def test_a_private_registry_serves_tarballs_only_to_signed_in_users(make_registry: MakeRegistry):
    public = await make_registry()
    ada = await public.user()
    await ada.publish("demo", "1.0.0", data=DATA)
    private = await make_registry(REGISTRY_ACCESS="private")
    for method in ("GET", "HEAD"):
        assert (await private.call(method, HERE)).status == 401
    answer = await private.get(HERE, headers=ada.headers)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "private, max-age=31536000, immutable")


async def test_the_service_serves_tarballs_from_s3(make_registry: MakeRegistry, s3_variables):
    registry = await make_registry(**s3_variables)
    await (await registry.user()).publish("demo", "1.0.0", data=DATA)
    assert (await registry.get(HERE)).body == DATA
    assert (await registry.get(HERE, headers={"Range": "bytes=3-7"})).body == DATA[3:8]
    assert (await registry.call("HEAD", HERE)).headers["Content-Length"] == str(SIZE)
    assert await counted(registry) == 1


async def test_with_redirects_s3_serves_the_tarball(make_registry: MakeRegistry, s3_variables):
    registry = await make_registry(**s3_variables, REGISTRY_S3_REDIRECT="true")
    assert registry.app[SETTINGS].storage.s3_redirect
    await (await registry.user()).publish("demo", "1.0.0", data=DATA)
    answer = await registry.get(HERE)
    assert answer.status == 302
    assert answer.headers["Cache-Control"] == "no-store"
    async with (
        aiohttp.ClientSession(auto_decompress=False) as elsewhere,
        elsewhere.get(answer.headers["Location"]) as given,
    ):
        assert (given.status, await given.read()) == (200, DATA)
        assert "demo-1.0.0.tar.gz" in given.headers["Content-Disposition"]
    assert (await registry.get(HERE, headers={"Range": "bytes=5-"})).status == 302
    assert (await registry.call("HEAD", HERE)).status == 200
    assert (await registry.get(HERE, headers={"If-None-Match": f'"{sha256(DATA)}"'})).status == 304
    assert (await registry.get("/packages/demo/9.9.9/tarball")).status == 404
    assert await counted(registry) == 1
