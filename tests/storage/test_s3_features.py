"""S3 servers other than Amazon's: they refuse some request headers, and clients reach them by another address."""

import asyncio
import base64
import hashlib
import logging
import random
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp
import pytest

from registry.errors import StorageUnavailable
from registry.keys import STORAGE
from registry.storage.base import BlobExists
from registry.storage.s3 import open_s3
from registry.storage.s3_features import PROBE_FOLDER
from registry.storage.s3_upload import TimeLimits
from tests.conftest import MakeRegistry
from tests.faults.toxic import Fate, Judge, Link, Toxic, answer, tcp, toxic

KEY = "my-lib/1.0.0/abc-1.tar.gz"
MIB = 1024 * 1024
CHECKSUM, CONDITION = "x-amz-checksum-sha256", "If-None-Match"
# The answers of such servers. Ceph and Garage send 501, Google 403 (a wrong signature), others 400.
ANSWERS = {
    501: answer(501, "Not Implemented", b"<Error><Code>NotImplemented</Code></Error>"),
    400: answer(400, "Bad Request", b"<Error><Code>InvalidArgument</Code></Error>"),
    403: answer(403, "Forbidden", b"<Error><Code>SignatureDoesNotMatch</Code></Error>"),
}
WAIT_SECONDS = 60.0


def refusing(headers: list[str], status: int = 501) -> Judge:
    """Refuses requests with one of `headers`. The checksum header stands for all `x-amz-checksum-*` headers."""
    refused = [header.lower().removesuffix("-sha256").encode() for header in headers]

    def judge(link: Link, sent: bytes) -> Fate | bytes:
        if not sent.startswith((b"PUT ", b"POST ")):
            return Fate.PASS  # the body of a request
        head, complete, _ = sent.lower().partition(b"\r\n\r\n")
        if not complete:
            return Fate.KEEP
        return ANSWERS[status] if any(header in head for header in refused) else Fate.PASS

    return judge


@pytest.fixture
async def wire(s3) -> AsyncIterator[Toxic]:
    async with toxic(tcp(int(s3.url.rpartition(":")[2]))) as wire:
        yield wire


@pytest.fixture
def given(s3_settings, wire: Toxic) -> dict[str, object]:
    return {**s3_settings, "endpoint": f"http://127.0.0.1:{wire.port}", "prefix": "tarballs"}


async def read(storage, key: str) -> bytes:
    async with storage.open(key) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def left(client, bucket: str) -> list[str]:
    blobs = (await client.list_objects_v2(Bucket=bucket)).get("Contents", ())
    uploads = (await client.list_multipart_uploads(Bucket=bucket)).get("Uploads", ())
    return [each["Key"] for each in (*blobs, *uploads)]


@pytest.mark.parametrize(
    ("headers", "status"),
    [([], 501), ([CHECKSUM], 501), ([CONDITION], 501), ([CHECKSUM, CONDITION], 400), ([CHECKSUM], 403)],
)
async def test_uploads_work_without_the_headers_that_the_server_refuses(
    wire: Toxic, given, source, s3_client, bucket, caplog, headers: list[str], status: int
):
    wire.judge = refusing(headers, status)
    async with open_s3(**given) as storage:
        await storage.detect_features()
        assert storage.refused_headers == headers
        assert await left(s3_client, bucket) == []  # the probe is removed
        for number, size in enumerate((1000, 9 * MIB)):
            file = source(random.randbytes(size))
            await storage.put(f"{KEY}{number}", **file.facts)
            assert await read(storage, f"{KEY}{number}") == file.data
            with pytest.raises(BlobExists):
                await storage.put(f"{KEY}{number}", **source(random.randbytes(size)).facts)
            assert await read(storage, f"{KEY}{number}") == file.data
    logged = [
        record.headers for record in caplog.records if record.levelno == logging.WARNING and "refuses" in record.msg
    ]
    assert logged == ([headers] if headers else [])


async def test_without_checksums_content_md5_detects_a_changed_body(wire: Toxic, given, source, s3_client, bucket):
    refuse = refusing([CHECKSUM])
    wire.judge = refuse
    async with open_s3(**given) as storage:
        await storage.detect_features()
        sent: list[bytes] = []
        wire.judge = lambda link, data: (sent.append(data), refuse(link, data))[1]
        file = source(b"these bytes")
        await storage.put(KEY, **file.facts)
    head = sent[0].lower()
    assert b"content-md5: " in head
    assert b"x-amz-checksum" not in head
    with pytest.raises(Exception, match=r"BadDigest|InvalidDigest"):
        await s3_client.put_object(Bucket=bucket, Key="changed", Body=b"other bytes", ContentMD5=md5(file.data))


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


async def test_the_start_does_not_wait_for_an_unavailable_server(wire: Toxic, given, source):
    wire.refusing = True
    limits = TimeLimits(detect_retry_seconds=0.1)
    async with asyncio.timeout(WAIT_SECONDS), open_s3(**given, limits=limits) as storage:
        with pytest.raises(StorageUnavailable):
            await storage.detect_features()
        wire.heal()
        wire.judge = refusing([CONDITION])
        while storage.refused_headers != [CONDITION]:  # it tries again by itself
            await asyncio.sleep(0.05)


async def test_a_failure_that_no_header_causes_makes_the_storage_unavailable(given, s3_settings):
    async with open_s3(**{**given, "secret_key": "wrong-0123456789"}) as storage:
        with pytest.raises(StorageUnavailable):
            await storage.detect_features()


async def test_lists_ignore_objects_of_a_killed_probe(s3_storage, s3_client, bucket):
    await s3_client.put_object(Bucket=bucket, Key=f"tarballs/{PROBE_FOLDER}/left", Body=b"x")
    assert [blob.key async for blob in s3_storage.list()] == []


async def test_packages_are_published_and_health_names_the_header(make_registry: MakeRegistry, wire: Toxic, s3, bucket):
    wire.judge = refusing([CONDITION])
    registry = await make_registry(
        REGISTRY_STORAGE_TYPE="s3",
        REGISTRY_S3_BUCKET=bucket,
        REGISTRY_S3_ENDPOINT=f"http://127.0.0.1:{wire.port}",
        REGISTRY_S3_ACCESS_KEY=s3.access_key,
        REGISTRY_S3_SECRET_KEY=s3.secret_key,
    )
    user = await registry.user("ada")
    await user.publish("demo")
    component = (await registry.get("/health")).json["components"]["storage"]
    assert component["status"] == "healthy"
    assert CONDITION in component["detail"]
    assert registry.app[STORAGE].refused_headers == [CONDITION]


@pytest.mark.parametrize("endpoint", ["https://files.example", "http://files.example:9000"])
async def test_presigned_addresses_are_made_for_the_public_endpoint(s3_settings, endpoint: str):
    async with open_s3(**s3_settings, public_endpoint=endpoint) as storage:
        url = await storage.presign(KEY, expires=60, filename="x.tar.gz", cache_control="no-cache")
    assert url is not None
    assert url.startswith(f"{endpoint}/{s3_settings['bucket']}/{KEY}?")


async def test_only_presigned_addresses_use_the_public_endpoint(wire: Toxic, s3_settings, source):
    """The proxy is the public address of the server. The registry itself does not use it."""
    seen: list[bytes] = []
    wire.judge = lambda link, data: (seen.append(data), Fate.PASS)[1]
    public = f"http://127.0.0.1:{wire.port}"
    file = source(b"these bytes")
    async with open_s3(**s3_settings, public_endpoint=public) as storage:
        await storage.put(KEY, **file.facts)
        assert seen == []
        url = await storage.presign(KEY, expires=60, filename="x.tar.gz", cache_control="no-cache")
    assert url is not None
    assert urlsplit(url).port == wire.port
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert (response.status, await response.read()) == (200, file.data)
    assert len(seen) == 1
