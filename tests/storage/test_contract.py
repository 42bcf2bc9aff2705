"""Tests that both storages must pass, with real files and a real S3 server."""

import asyncio
import hashlib
import random
import socket
import tracemalloc
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from registry.errors import StorageUnavailable
from registry.storage.base import CHUNK_BYTES, BlobExists, BlobMismatch, BlobMissing, InvalidKey
from registry.storage.local import open_local
from registry.storage.s3 import open_s3
from registry.storage.s3_upload import TimeLimits

MIB = 1024 * 1024


def new_key(name: str = "my-lib", version: str = "1.0.0") -> str:
    return f"{name}/{version}/{uuid.uuid4().hex}.tar.gz"


async def read(storage, key: str, *span: int) -> bytes:
    async with storage.open(key, *span) as chunks:
        return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("size", [0, 1, 1000, CHUNK_BYTES, 3 * CHUNK_BYTES + 7])
async def test_a_stored_blob_is_read_back(storage, source, size):
    file, key = source(random.randbytes(size)), new_key()
    await storage.put(key, **file.facts)
    assert await read(storage, key) == file.data
    assert await storage.stat(key) == size


@pytest.mark.parametrize("size", [0, 1, 1000, 9 * MIB])
async def test_bytes_are_stored_like_a_file(storage, source, size):
    file, key = source(random.randbytes(size)), new_key()
    await storage.put(key, **file.in_memory)
    assert await read(storage, key) == file.data
    with pytest.raises(BlobExists):
        await storage.put(key, **source(b"other").in_memory)
    assert await read(storage, key) == file.data


async def test_bytes_of_another_size_are_refused(storage, source):
    file, key = source(b"half"), new_key()
    with pytest.raises(BlobMismatch):
        await storage.put(key, **{**file.in_memory, "size": 5})
    assert await storage.stat(key) is None


@pytest.mark.parametrize(
    "span", [(0,), (1,), (0, 1), (10, 500), (999,), (999, 1000), (0, 1000), (990, 5000), (1000,), (1000, 1200), (7, 7)]
)
async def test_ranges_work_like_slices(storage, source, span):
    file, key = source(random.randbytes(1000)), new_key()
    await storage.put(key, **file.facts)
    start, end = (*span, None)[:2]
    assert await read(storage, key, *span) == file.data[start:end]


@pytest.mark.parametrize("span", [(-1,), (5, 4)])
async def test_an_invalid_range_is_refused(storage, span):
    with pytest.raises(ValueError, match="not a range"):
        await read(storage, new_key(), *span)


async def test_chunks_are_small(storage, source):
    file, key = source(random.randbytes(2 * MIB)), new_key()
    await storage.put(key, **file.facts)
    async with storage.open(key) as chunks:
        assert max([len(chunk) async for chunk in chunks]) <= CHUNK_BYTES


async def test_a_reader_may_stop_early(storage, source):
    file, key = source(random.randbytes(2 * MIB)), new_key()
    await storage.put(key, **file.facts)
    async with storage.open(key) as chunks:
        first = await anext(chunks)
    assert file.data.startswith(first)
    assert await read(storage, key) == file.data


async def test_a_missing_blob_has_its_own_error(storage):
    key = new_key()
    assert await storage.stat(key) is None
    for span in [(), (5,), (3, 3)]:
        with pytest.raises(BlobMissing):
            await read(storage, key, *span)
    assert BlobMissing.status == 503


@pytest.mark.parametrize("size", [100, 9 * MIB])
async def test_a_key_is_written_once(storage, source, leftovers, size):
    first, second, key = source(random.randbytes(size)), source(random.randbytes(size)), new_key()
    await storage.put(key, **first.facts)
    with pytest.raises(BlobExists):
        await storage.put(key, **second.facts)
    assert await read(storage, key) == first.data
    assert await leftovers() == []


async def test_a_blob_stays_after_its_source_is_removed(storage, source):
    file, key = source(b"spooled"), new_key()
    await storage.put(key, **file.facts)
    file.path.unlink()
    assert await read(storage, key) == b"spooled"


@pytest.mark.parametrize(("size", "announced"), [(1000, 999), (1000, 1001), (9 * MIB, 9 * MIB + 1)])
async def test_a_source_of_another_size_is_refused(storage, source, leftovers, size, announced):
    file, key = source(random.randbytes(size)), new_key()
    with pytest.raises(BlobMismatch):
        await storage.put(key, **{**file.facts, "size": announced})
    assert await storage.stat(key) is None
    assert await leftovers() == []


async def test_nothing_is_stored_if_the_source_is_missing(storage, source):
    file, key = source(b"gone"), new_key()
    file.path.unlink()
    with pytest.raises(StorageUnavailable) as caught:
        await storage.put(key, **file.facts)
    assert not isinstance(caught.value, BlobMissing)
    assert await storage.stat(key) is None


async def test_a_blob_of_twenty_mebibytes_is_never_whole_in_memory(storage, source):
    file, key = source(random.randbytes(20 * MIB)), new_key()
    digest = hashlib.sha256(file.data).hexdigest()
    facts = file.facts
    await storage.put(new_key(), **facts)  # imports modules and opens connections, which are not measured
    tracemalloc.start()
    try:
        await storage.put(key, **facts)
        _, put_peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        seen = hashlib.sha256()
        async with storage.open(key) as chunks:
            async for chunk in chunks:
                seen.update(chunk)
        _, open_peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen.hexdigest() == digest
    assert put_peak < 18 * MIB
    assert open_peak < 3 * MIB


@pytest.mark.parametrize("delay", [0, 0.002, 0.02, 0.06])
async def test_a_cancelled_put_leaves_nothing(storage, source, leftovers, delay):
    file, key = source(random.randbytes(24 * MIB)), new_key()
    putting = asyncio.create_task(storage.put(key, **file.facts))
    await asyncio.sleep(delay)
    putting.cancel()
    [outcome] = await asyncio.gather(putting, return_exceptions=True)
    kept = file.data if outcome is None else None
    assert (await read(storage, key) if await storage.stat(key) is not None else None) == kept
    assert await leftovers() == []


async def test_delete_may_be_repeated(storage, source):
    file, key = source(b"short lived"), new_key()
    await storage.put(key, **file.facts)
    await storage.delete(key)
    await storage.delete(key)
    assert await storage.stat(key) is None


async def test_list_returns_each_blob_once(storage, source):
    keys = [new_key(name, version) for name in ("aa", "aa-b", "b") for version in ("1.0.0", "1.0.0-rc.1", "2.0.0+x")]
    before = datetime.now(UTC) - timedelta(seconds=5)
    for size, key in enumerate(keys):
        await storage.put(key, **source(bytes(size)).facts)
    blobs = [blob async for blob in storage.list()]
    assert sorted((blob.key, blob.size) for blob in blobs) == sorted((key, size) for size, key in enumerate(keys))
    assert all(before < blob.modified < datetime.now(UTC) + timedelta(seconds=5) for blob in blobs)
    assert all(blob.modified.utcoffset() == timedelta(0) for blob in blobs)


@pytest.mark.parametrize("prefix", ["aa", "aa/", "aa/1.0.0", "aa/1.0.0/", "aa/1.0.0-rc", "zz", "aa//", "../"])
async def test_list_filters_by_a_text_prefix(storage, source, prefix):
    keys = [new_key(name, version) for name in ("aa", "aa-b") for version in ("1.0.0", "1.0.0-rc.1")]
    for key in keys:
        await storage.put(key, **source(b"x").facts)
    assert {blob.key async for blob in storage.list(prefix)} == {key for key in keys if key.startswith(prefix)}


async def test_an_empty_storage_lists_nothing(storage):
    assert [blob async for blob in storage.list()] == []


async def test_fifty_puts_at_once(storage, source, leftovers):
    files = {new_key(f"lib-{number % 7}"): source(random.randbytes(20_000)) for number in range(50)}
    await asyncio.gather(*(storage.put(key, **file.facts) for key, file in files.items()))
    found = await asyncio.gather(*(read(storage, key) for key in files))
    assert found == [file.data for file in files.values()]
    assert await leftovers() == []


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a/../b", "a//b", "a/", ".hidden/a", "a\\b", "a\0b", "a\n", "é"])
async def test_every_method_refuses_an_invalid_key(storage, source, key):
    file = source(b"x")
    with pytest.raises(InvalidKey):
        await storage.put(key, **file.facts)
    with pytest.raises(InvalidKey):
        await read(storage, key)
    for call in (storage.stat, storage.delete):
        with pytest.raises(InvalidKey):
            await call(key)
    with pytest.raises(InvalidKey):
        await storage.presign(key, expires=60, filename="x", cache_control="no-cache")


async def test_check_passes_and_a_storage_can_be_closed_twice(storage):
    await storage.check()
    await storage.aclose()
    await storage.aclose()


@pytest.fixture(params=["no folder", "refused", "silent"])
async def broken(request, root):
    """A storage whose folder is gone, whose server is down, or whose server never answers."""
    if request.param == "no folder":
        async with open_local(root) as storage:
            root.rename(root.with_name("unmounted"))
            yield storage
        return
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if request.param == "silent":
            server.listen()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        limits = TimeLimits(answer_seconds=2, body_seconds=2, detect_seconds=2)
        async with open_s3(
            bucket="gone", region="us-east-1", endpoint=endpoint, access_key="a", secret_key="s", limits=limits
        ) as storage:
            yield storage


async def test_check_fails_when_the_storage_is_unavailable(broken):
    async with asyncio.timeout(60):
        with pytest.raises(StorageUnavailable) as caught:
            await broken.check()
    assert int(caught.value.headers["Retry-After"]) > 0


async def test_reads_and_writes_fail_when_the_storage_is_unavailable(broken, source):
    async with asyncio.timeout(30):
        with pytest.raises(StorageUnavailable):
            await broken.put(new_key(), **source(b"x").facts)
        with pytest.raises(StorageUnavailable):
            await read(broken, new_key())
