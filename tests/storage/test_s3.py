"""Tests of S3 only: credentials, presigned addresses, uploads in parts and lost responses."""

import asyncio
import logging
import random
import socket
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import aiohttp
import pytest

from registry.errors import StorageUnavailable
from registry.storage.base import BlobMismatch, BlobMissing
from registry.storage.s3 import open_s3
from tests.until import until

KEY = "my-lib/1.0.0/abc-1.tar.gz"
MIB = 1024 * 1024


async def read(storage, key: str) -> bytes:
    async with storage.open(key) as chunks:
        return b"".join([chunk async for chunk in chunks])


@asynccontextmanager
async def losing_answers(upstream: str, marker: bytes):
    """A proxy to `upstream` that drops the first response containing `marker` and closes its connection."""
    address = urlsplit(upstream)
    cuts: list[bytes] = []

    async def pump(reader, writer, *, answers: bool) -> None:
        try:
            while data := await reader.read(65536):
                if answers and not cuts and marker in data:
                    cuts.append(data)
                    break
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the other end was cut
        finally:
            writer.close()

    async def connect(reader, writer) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(address.hostname, address.port)
        await asyncio.gather(pump(reader, upstream_writer, answers=False), pump(upstream_reader, writer, answers=True))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", cuts


async def test_a_presigned_address_serves_the_exact_bytes(s3_storage, source):
    file = source(random.randbytes(300_000))
    await s3_storage.put(KEY, **file.facts)
    url = await s3_storage.presign(KEY, expires=60, filename="my-lib-1.0.0+b.tar.gz", cache_control="max-age=9")
    async with aiohttp.ClientSession(auto_decompress=False) as session, session.get(url) as answer:
        assert answer.status == 200
        assert await answer.read() == file.data
        assert answer.headers["Content-Disposition"] == 'attachment; filename="my-lib-1.0.0+b.tar.gz"'
        assert answer.headers["Content-Type"] == "application/gzip"
        assert answer.headers["Cache-Control"] == "max-age=9"
        assert "Content-Encoding" not in answer.headers


async def test_a_presigned_address_expires_and_is_valid_for_one_blob(s3_storage, source):
    await s3_storage.put(KEY, **source(b"x").facts)
    url = await s3_storage.presign(KEY, expires=1, filename="x.tar.gz", cache_control="no-cache")
    async with aiohttp.ClientSession() as session:
        async with session.get(url.replace("abc-1", "abc-2")) as answer:
            assert answer.status == 403

        async def is_refused() -> bool:
            async with session.get(url) as answer:
                return answer.status == 403

        await until(is_refused)


async def test_blobs_stay_below_the_prefix(s3_storage, s3_client, bucket, source):
    await s3_client.put_object(Bucket=bucket, Key="elsewhere", Body=b"x")
    await s3_client.put_object(Bucket=bucket, Key="tarballs/.strange", Body=b"x")
    file = source(b"x")
    await s3_storage.put(KEY, **file.facts)
    head = await s3_client.head_object(Bucket=bucket, Key=f"tarballs/{KEY}")
    assert head["ContentType"] == "application/gzip"
    assert head["Metadata"]["sha256"] == file.facts["sha256"]
    assert [blob.key async for blob in s3_storage.list()] == [KEY]


async def test_list_reads_all_pages(s3_storage, s3_client, bucket):
    keys = {f"lib/{number}.0.0/x.tar.gz" for number in range(1005)}
    gate = asyncio.Semaphore(10)

    async def write(key: str) -> None:
        async with gate:
            await s3_client.put_object(Bucket=bucket, Key=f"tarballs/{key}", Body=b"x")

    await asyncio.gather(*map(write, keys))
    listed = [blob.key async for blob in s3_storage.list("lib/")]
    assert len(listed) == 1005
    assert set(listed) == keys


@pytest.mark.parametrize(("size", "marker"), [(1000, b" 200 "), (9 * MIB, b"CompleteMultipartUploadResult")])
async def test_a_retry_after_a_lost_response_does_not_report_an_existing_blob(
    s3, s3_settings, s3_client, bucket, source, size, marker
):
    file = source(random.randbytes(size))
    async with (
        losing_answers(s3.url, marker) as (endpoint, cuts),
        open_s3(**{**s3_settings, "endpoint": endpoint}) as storage,
    ):
        await storage.put(KEY, **file.facts)
        assert len(cuts) == 1
        assert await read(storage, KEY) == file.data
    assert "Uploads" not in await s3_client.list_multipart_uploads(Bucket=bucket)


async def test_a_source_with_another_checksum_is_refused(s3_storage, source):
    file = source(b"these bytes")
    with pytest.raises(BlobMismatch):
        await s3_storage.put(KEY, **{**file.facts, "sha256": "00" * 32})
    assert await s3_storage.stat(KEY) is None


async def test_only_old_unfinished_uploads_are_aborted(s3_storage, s3_client, bucket):
    for key in ("tarballs/a/x", "tarballs/b/x", "elsewhere"):
        await s3_client.create_multipart_upload(Bucket=bucket, Key=key)
    assert await s3_storage.stale_uploads(timedelta(hours=1)) == 0
    assert await s3_storage.abort_stale_uploads(timedelta(hours=1)) == 0

    async def are_both_stale() -> bool:
        return await s3_storage.stale_uploads(timedelta(0)) == 2

    await until(are_both_stale)  # a server may round the time of an upload to whole seconds
    assert await s3_storage.abort_stale_uploads(timedelta(0)) == 2
    left = await s3_client.list_multipart_uploads(Bucket=bucket)
    assert [upload["Key"] for upload in left["Uploads"]] == ["elsewhere"]


@pytest.mark.parametrize("wrong", ["access_key", "secret_key"])
async def test_wrong_credentials_make_the_storage_unavailable_and_are_not_logged(s3_settings, source, caplog, wrong):
    caplog.set_level(logging.DEBUG)
    given = {**s3_settings, wrong: "wrong-0123456789"}
    async with open_s3(**given) as storage:
        for attempt in (
            storage.check(),
            storage.stat(KEY),
            storage.put(KEY, **source(b"x").facts),
            storage.put(KEY, **source(bytes(9 * MIB)).facts),
            storage.delete(KEY),
            read(storage, KEY),
            anext(storage.list()),
            storage.abort_stale_uploads(timedelta(0)),
        ):
            with pytest.raises(StorageUnavailable) as caught:
                await attempt
            assert not isinstance(caught.value, BlobMissing)
            assert given["secret_key"] not in f"{caught.value!r} {caught.value.__cause__!r}"
    logged = "\n".join(str(vars(record)) + record.getMessage() for record in caplog.records)
    assert "blob storage failed" in logged
    assert given["secret_key"] not in logged


async def test_a_missing_bucket_makes_the_storage_unavailable(s3_settings):
    async with open_s3(**{**s3_settings, "bucket": "nobody-made-this-one"}) as storage:
        for attempt in (storage.check(), storage.stat(KEY), read(storage, KEY)):
            with pytest.raises(StorageUnavailable) as caught:
                await attempt
            assert not isinstance(caught.value, BlobMissing)


async def test_an_upload_to_an_unreachable_server_fails_soon(s3_settings, source):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with asyncio.timeout(20), open_s3(**{**s3_settings, "endpoint": endpoint}) as storage:
            with pytest.raises(StorageUnavailable):
                await storage.put(KEY, **source(bytes(9 * MIB)).facts)


async def test_a_server_that_is_not_s3_makes_the_storage_unavailable(s3_settings, aiohttp_server):
    async def greet(request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(text="<html>welcome", content_type="text/html")

    app = aiohttp.web.Application()
    app.router.add_get("/{any:.*}", greet)
    server = await aiohttp_server(app)
    async with open_s3(**{**s3_settings, "endpoint": str(server.make_url("")).rstrip("/")}) as storage:
        with pytest.raises(StorageUnavailable):
            [blob async for blob in storage.list()]
        with pytest.raises(StorageUnavailable):
            await storage.abort_stale_uploads(timedelta(0))
