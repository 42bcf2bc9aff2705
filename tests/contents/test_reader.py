import asyncio
import gzip
import hashlib
import io
import tarfile
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace

import pytest

from registry.contents import reader as module
from registry.contents.files import BYTES, TEXT
from registry.contents.reader import Contents
from registry.downloads.tarballs import Tarballs
from registry.errors import NotFound, StorageUnavailable, Unavailable
from registry.storage.local import LocalStorage
from tests.client import tarball
from tests.until import until

BIG = 6 << 20


class Counted(LocalStorage):
    """Counts the blobs that are opened and closed. `gate` holds back all chunks but the first."""

    def __init__(self, root):
        super().__init__(root)
        self.opened = self.closed = 0
        self.gate = asyncio.Event()
        self.gate.set()

    @asynccontextmanager
    async def open(self, key, start=0, end=None):
        self.opened += 1
        try:
            async with super().open(key, start, end) as chunks, aclosing(self._gated(chunks)) as gated:
                yield gated
        finally:
            self.closed += 1

    async def _gated(self, chunks):
        yield await anext(chunks)
        await self.gate.wait()
        async for chunk in chunks:
            yield chunk


@pytest.fixture
def storage(tmp_path):
    return Counted(tmp_path / "packages")


@pytest.fixture
def contents(storage):
    made = Contents(Tarballs(None, storage, None))
    yield made
    made.close()


@pytest.fixture
def stored(storage, tmp_path):
    """Stores a tarball and returns the row of its version."""

    async def store(data):
        path = tmp_path / "upload"
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        await storage.put(f"a/{digest}", path, size=len(data), sha256=digest)
        path.unlink()
        return SimpleNamespace(tarball_path=f"a/{digest}", tarball_size=len(data))

    return store


def packed(*members, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), 1)


def incompressible(size):
    return b"".join(hashlib.blake2b(number.to_bytes(8, "big")).digest() for number in range(size // 64))


async def test_files_are_listed_and_read(contents, stored):
    row = await stored(tarball(files={"docs/a.md": b"# A", "b.bin": bytes(700), "é ?#%.txt": b"x"}))
    listing = await contents.listing(row)
    assert [(file.path, file.size, file.media_type) for file in listing.files][1:] == [
        ("docs/a.md", 3, TEXT), ("synapse.json", listing.find("synapse.json").size, TEXT), ("é ?#%.txt", 1, TEXT),
    ]  # fmt: skip
    assert listing.find("b.bin").media_type == BYTES
    read = await contents.read(row, listing.files)
    assert read["docs/a.md"] == b"# A"
    assert read["b.bin"] == bytes(700)
    assert b'"demo"' in read["synapse.json"]


@pytest.mark.parametrize("other", ["._package", "._package/x"])
async def test_paths_begin_at_the_folder_of_the_manifest(contents, stored, other):
    row = await stored(packed(("package/synapse.json", b"{}"), (other, b"mac"), ("package/lib/x", b"1")))
    assert [file.path for file in (await contents.listing(row)).files] == ["lib/x", "synapse.json"]


async def test_the_last_of_two_files_with_one_name_is_read(contents, stored):
    row = await stored(packed(("synapse.json", b"{}"), ("x", b"first"), ("x", b"last")))
    listing = await contents.listing(row)
    assert await contents.read(row, [listing.find("x")]) == {"x": b"last"}


async def test_equal_contents_have_equal_digests(contents, stored):
    row = await stored(packed(("synapse.json", b"{}"), ("a", b"1" * 300_000), ("b", b"1" * 300_000), ("c", b"2")))
    a, b, c = (file.digest for file in (await contents.listing(row)).files[:3])
    assert a == b != c


async def test_a_large_file_is_streamed_in_pieces(contents, stored):
    data = incompressible(4 << 20)
    row = await stored(packed(("synapse.json", b"{}"), ("big", data), ("after", b"x")))
    file = (await contents.listing(row)).find("big")
    async with contents.stream(row, file) as pieces:
        read = [piece async for piece in pieces]
    assert b"".join(read) == data
    assert max(map(len, read)) <= 128 * 1024


async def test_a_tarball_is_unpacked_once_for_many_requests(contents, storage, stored):
    row = await stored(packed(("synapse.json", b"{}"), ("x", b"1")) + b"")
    listings = await asyncio.gather(*(contents.listing(row) for _ in range(5)))
    assert all(each is listings[0] for each in listings)
    file = listings[0].find("x")
    for _ in range(3):
        assert await contents.read(row, [file]) == {"x": b"1"}
    assert storage.opened <= 2


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
async def test_links_and_devices_are_not_followed(contents, stored, kind):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("synapse.json")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(NotFound, match="can't be shown"):
        await contents.listing(await stored(buffer.getvalue()))


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\\b", "C:x", "a\u202egpj.exe"])
async def test_names_that_leave_the_package_are_refused(contents, stored, name):
    with pytest.raises(NotFound, match="can't be shown"):
        await contents.listing(await stored(packed(("synapse.json", b"{}"), (name, b"x"))))


@pytest.mark.parametrize(
    "data",
    [b"", b"not gzip", gzip.compress(b"not tar" * 100), packed(("a", b"x"))[:60]],
    ids=["empty", "not gzip", "not tar", "cut"],
)
async def test_damaged_tarballs_are_refused(contents, stored, data):
    row = await stored(data or b"x")
    with pytest.raises(NotFound, match="can't be shown"):
        await contents.listing(row)


async def test_a_bomb_is_refused(contents, stored):
    header = tarfile.TarInfo("zeros")
    header.size = 16 << 20
    with pytest.raises(NotFound, match="times its size"):
        await contents.listing(await stored(gzip.compress(header.tobuf() + bytes(header.size + 1024), 9)))


async def test_a_cancelled_request_stops_and_frees_its_turn(contents, storage, stored):
    row = await stored(packed(("synapse.json", b"{}"), ("big", incompressible(BIG))))
    storage.gate.clear()
    tasks = [asyncio.create_task(contents.listing(row)) for _ in range(2)]
    await until(lambda: storage.opened == 1)
    for task in tasks:
        task.cancel()
    storage.gate.set()
    assert [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)] == [asyncio.CancelledError] * 2
    assert storage.opened == storage.closed == 1
    assert contents._waiting == 0
    assert (await contents.listing(row)).find("big").size == BIG


async def test_slow_readers_occupy_no_thread(contents, stored):
    data = incompressible(1 << 20)
    row = await stored(packed(("synapse.json", b"{}"), ("big", data)))
    file = (await contents.listing(row)).find("big")
    other = await stored(packed(("synapse.json", b"{}"), ("other", b"1")))
    async with (
        contents.stream(row, file) as one,
        contents.stream(row, file) as two,
        contents.stream(row, file) as three,
    ):
        for pieces in (one, two, three):
            await anext(pieces)
        assert (await contents.listing(other)).find("other").size == 1


async def test_only_so_many_files_are_streamed(contents, stored, monkeypatch):
    monkeypatch.setattr(module, "MAX_STREAMS", 1)
    row = await stored(packed(("synapse.json", b"{}"), ("x", b"1")))
    file = (await contents.listing(row)).find("x")
    async with contents.stream(row, file):
        with pytest.raises(Unavailable):
            await contents.stream(row, file).__aenter__()
    async with contents.stream(row, file) as pieces:
        assert [piece async for piece in pieces] == [b"1"]


async def test_only_so_many_requests_wait(contents, storage, stored, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    rows = [
        await stored(packed(("synapse.json", b"{}"), ("x", incompressible(2 << 20) + bytes([n])))) for n in range(3)
    ]
    storage.gate.clear()
    tasks = [asyncio.create_task(contents.listing(row)) for row in rows[:2]]
    await until(lambda: storage.opened == 2)
    with pytest.raises(Unavailable) as refused:
        await contents.listing(rows[2])
    assert refused.value.headers == {"Retry-After": "5"}
    storage.gate.set()
    await asyncio.gather(*tasks)
    assert (await contents.listing(rows[2])).find("x")


async def test_a_missing_tarball_is_a_failure_of_the_storage(contents):
    with pytest.raises(StorageUnavailable):
        await contents.listing(SimpleNamespace(tarball_path="a/missing", tarball_size=100))
