"""S3 behind a faulty network: refused requests, interrupted transfers, a slow server."""

import asyncio
import random
from collections.abc import AsyncIterator
from uuid import uuid4

import aiohttp
import pytest
from aiobotocore.session import get_session

from registry.keys import STORAGE
from tests.client import API, Registry, User, sha256, tarball
from tests.conftest import MakeRegistry
from tests.downloads.counts import counted
from tests.faults.toxic import Fate, Judge, Link, Toxic, answer, tcp, toxic

HERE = "/packages/demo/1.0.0/tarball"
ERRORS = {
    "500 InternalError": answer(500, "Internal Server Error", b"<Error><Code>InternalError</Code></Error>"),
    "503 SlowDown": answer(503, "Slow Down", b"<Error><Code>SlowDown</Code></Error>", head="Retry-After: 1\r\n"),
    "429 TooManyRequests": answer(429, "Too Many Requests", b"<Error><Code>TooManyRequests</Code></Error>"),
}


def refusing(method: bytes, refusal: bytes, times: int = 1_000_000) -> Judge:
    """Answers the next `times` requests of this method with `refusal`."""

    def judge(link: Link, sent: bytes) -> Fate | bytes:
        nonlocal times
        if times and sent.startswith(method + b" "):
            times -= 1
            return refusal
        return Fate.PASS

    return judge


@pytest.fixture
async def wire(s3) -> AsyncIterator[Toxic]:
    async with toxic(tcp(int(s3.url.rpartition(":")[2]))) as wire:
        yield wire


@pytest.fixture
async def bucket(s3) -> AsyncIterator[tuple[str, object]]:
    """The name of a new bucket, and a client that connects to the server directly."""
    keys = {"aws_access_key_id": s3.access_key, "aws_secret_access_key": s3.secret_key}
    async with get_session().create_client("s3", region_name="us-east-1", endpoint_url=s3.url, **keys) as client:
        name = f"test-{uuid4().hex}"
        await client.create_bucket(Bucket=name)
        yield name, client


@pytest.fixture
async def registry(make_registry: MakeRegistry, wire: Toxic, s3, bucket) -> Registry:
    registry = await make_registry(
        REGISTRY_STORAGE_TYPE="s3",
        REGISTRY_S3_BUCKET=bucket[0],
        REGISTRY_S3_ENDPOINT=f"http://127.0.0.1:{wire.port}",
        REGISTRY_S3_ACCESS_KEY=s3.access_key,
        REGISTRY_S3_SECRET_KEY=s3.secret_key,
    )
    await registry.app[STORAGE].detect_features()  # what follows spoils no request of the detection
    return registry


@pytest.fixture
async def ada(registry: Registry) -> User:
    return await registry.user("ada")


def large(size: int = 3_000_000) -> bytes:
    """A tarball of several chunks."""
    noise = random.Random(5).randbytes(size)
    return tarball({"name": "demo", "version": "1.0.0", "description": "A demo"}, files={"noise": noise})


async def stored(bucket) -> list[str]:
    name, client = bucket
    blobs = (await client.list_objects_v2(Bucket=name)).get("Contents", ())
    uploads = (await client.list_multipart_uploads(Bucket=name)).get("Uploads", ())
    return [each["Key"] for each in (*blobs, *uploads)]


@pytest.mark.parametrize("kind", ERRORS)
async def test_refusals_are_503_keep_nothing_and_pass(kind: str, wire: Toxic, ada: User, bucket):
    data = tarball(name="demo", version="1.0.0", description="A demo")
    wire.judge = refusing(b"PUT", ERRORS[kind])
    refused = await ada.put("demo", "1.0.0", data=data)
    assert (refused.status, refused.json["code"]) == (503, "storage_unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    assert wire.spoiled > 0
    assert await stored(bucket) == []
    assert (await ada.registry.get("/packages/demo")).status == 404

    wire.judge = refusing(b"PUT", ERRORS[kind], times=1)
    assert (await ada.put("demo", "1.0.0", data=data)).status == (503 if kind.startswith("429") else 201)
    wire.heal()
    assert (await ada.put("demo", "1.0.0", data=data)).status in (201, 409)
    assert len(await stored(bucket)) == 1

    wire.judge = refusing(b"GET", ERRORS[kind])
    refused = await ada.registry.get(HERE)
    assert (refused.status, refused.json["code"]) == (503, "storage_unavailable")
    wire.heal()
    assert (await ada.registry.get(HERE)).body == data
    assert await counted(ada.registry) == 1


@pytest.mark.parametrize("size", [3_000_000, 20_000_000])
async def test_an_upload_cut_half_way_keeps_nothing_and_can_be_repeated(size: int, wire: Toxic, ada: User, bucket):
    data = large(size)
    wire.cut_sent = 1_000_000
    cut = await ada.put("demo", "1.0.0", data=data)
    assert (cut.status, cut.json["code"]) == (503, "storage_unavailable")
    assert wire.spoiled > 0
    assert (await ada.registry.get("/packages/demo")).status == 404
    wire.heal()
    # The server has a file of its own beside the key until it notices that nothing more comes.
    async with asyncio.timeout(10):
        while await stored(bucket):
            await asyncio.sleep(0.05)
    assert (await ada.put("demo", "1.0.0", data=data)).status == 201
    assert sha256((await ada.registry.get(HERE)).body) == sha256(data)
    assert len(await stored(bucket)) == 1


async def test_a_download_cut_half_way_is_seen_to_be_broken_and_is_not_counted(wire: Toxic, ada: User):
    data = large()
    await ada.put("demo", "1.0.0", data=data)
    wire.cut_answered = 1_000_000
    for _ in range(3):
        async with ada.registry.session.get(f"{ada.registry.url}{API}{HERE}") as cut:
            assert (cut.status, cut.content_length) == (200, len(data))
            with pytest.raises(aiohttp.ClientPayloadError):
                await cut.read()
    wire.cut_answered = 0
    refused = await ada.registry.get(HERE)
    assert (refused.status, refused.json["code"]) == (503, "storage_unavailable")
    wire.heal()
    assert await counted(ada.registry) == 0
    assert (await ada.registry.get(HERE)).body == data
    assert await counted(ada.registry) == 1


async def test_a_truncated_blob_is_never_a_complete_response(ada: User, bucket):
    """As after a wrong restore of the storage: the object is shorter than what was published."""
    data = large()
    await ada.put("demo", "1.0.0", data=data)
    name, client = bucket
    [key] = await stored(bucket)
    for kept in (1_000_000, 100, 0):
        await client.put_object(Bucket=name, Key=key, Body=data[:kept])
        broken = False
        try:
            async with asyncio.timeout(20):
                answer = await ada.registry.get(HERE)
        except aiohttp.ClientPayloadError:
            broken = True
        assert broken or answer.status == 503, kept
    assert await counted(ada.registry) == 0


async def test_a_slow_storage_only_delays_uploads_and_downloads(wire: Toxic, ada: User):
    await ada.publish("other")
    wire.latency = 1.5
    data = tarball(name="demo", version="1.0.0", description="A demo")
    publishing = asyncio.create_task(ada.put("demo", "1.0.0", data=data))
    others = await asyncio.gather(*(ada.registry.get("/packages/other") for _ in range(20)))
    assert {answer.status for answer in others} == {200}
    assert not publishing.done()
    assert (await publishing).status == 201
    assert (await ada.registry.get(HERE)).body == data
    assert await counted(ada.registry) == 1
