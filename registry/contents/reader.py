"""Reads what is in the tarballs of versions, as streams from the storage. Reading counts no download.

Unpacking takes processor time, so it runs in a few threads of its own, in short steps: a client that left or reads
slowly occupies no thread. Listings and small files are cached. They never go stale, because a tarball never changes.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar
from weakref import WeakValueDictionary

from cachetools import LRUCache

from registry.contents import unpack
from registry.contents.files import File, Listing
from registry.contents.pulled import PulledFile
from registry.db.engine import Row
from registry.downloads.tarballs import Tarballs
from registry.errors import InvalidArchive, NotFound, Unavailable
from registry.package_format.gunzip import Gunzip

THREADS = 2
MAX_OPEN = 8
"""How many tarballs may be unpacked at a time for listings and small files. The others wait, MAX_WAITING at most."""
MAX_WAITING = 64
MAX_STREAMS = 64
"""How many large files may be streamed at a time. Their clients may be slow, so others don't wait for them."""
LISTINGS_BYTES = 32 << 20
FILES_BYTES = 32 << 20
MAX_CACHED_FILE = 256 << 10

Item = TypeVar("Item")
Steps = Callable[[Gunzip], Iterator[Item | None]]


class Contents:
    """The contents of versions. A `row` is what `Tarballs.find()` returns.

    All methods raise NotFound for a tarball that can't be read by today's rules, StorageUnavailable, and Unavailable
    while too many tarballs are read.
    """

    def __init__(self, tarballs: Tarballs) -> None:
        self._tarballs = tarballs
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="contents")
        self._turns = asyncio.Semaphore(MAX_OPEN)
        self._waiting = 0
        self._streams = 0
        self._listings: LRUCache[str, Listing] = LRUCache(LISTINGS_BYTES, getsizeof=lambda listing: listing.weight)
        self._files: LRUCache[tuple[str, str], bytes] = LRUCache(FILES_BYTES, getsizeof=lambda data: len(data) + 1000)
        # Several requests for one tarball unpack it once.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def close(self) -> None:
        """Drops the waiting steps, and ends each thread when its current step has ended."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def find(self, name: str, version: str) -> Row:
        """The row of a version. Raises what `Tarballs.find()` raises."""
        return await self._tarballs.find(name, version)

    async def listing(self, row: Row) -> Listing:
        """The files of a version."""
        key = row.tarball_path
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            found: Listing | None = self._listings.get(key)
            if found is None:
                async with self._turn(), self._read(row, unpack.list_files) as listings:
                    found = await anext(listings)
                if found.weight <= LISTINGS_BYTES:
                    self._listings[key] = found
        return found

    async def read(self, row: Row, files: Sequence[File]) -> dict[str, bytes]:
        """The contents of some of the version's files, by path. All are in memory, so the caller limits their sizes."""
        found = {file.path: self._files.get((row.tarball_path, file.path)) for file in files}
        missing = [file for file in files if found[file.path] is None]
        if missing:
            async with self._turn(), self._read(row, lambda stream: unpack.read_files(stream, missing)) as contents:
                async for file, data in contents:
                    found[file.path] = data
                    if len(data) <= MAX_CACHED_FILE:
                        self._files[row.tarball_path, file.path] = data
        return {path: data for path, data in found.items() if data is not None}

    @asynccontextmanager
    async def stream(self, row: Row, file: File) -> AsyncIterator[AsyncIterator[bytes]]:
        """The content of a file, in pieces of at most `unpack.PIECE` bytes."""
        if self._streams >= MAX_STREAMS:
            raise _busy()
        self._streams += 1
        try:
            async with self._read(row, lambda stream: unpack.stream_file(stream, file)) as pieces:
                yield pieces
        finally:
            self._streams -= 1

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= MAX_WAITING:
            raise _busy()
        self._waiting += 1
        try:
            async with self._turns:
                yield
        finally:
            self._waiting -= 1

    @asynccontextmanager
    async def _read(self, row: Row, steps: Steps[Item]) -> AsyncIterator[AsyncIterator[Item]]:
        """What `steps` yields for the unpacked tarball, without its Nones."""
        try:
            async with (
                self._tarballs.open(row, 0, row.tarball_size) as chunks,
                aclosing(self._steps(PulledFile(chunks), row.tarball_size, steps)) as items,
            ):
                yield items
        except InvalidArchive as error:
            raise NotFound(f"The files of this version can't be shown. {error.detail}") from error

    async def _steps(self, file: PulledFile, packed_size: int, steps: Steps[Item]) -> AsyncGenerator[Item, None]:
        items = await self._step(file, lambda: steps(unpack.opened(file, packed_size)))
        end = object()
        while (item := await self._step(file, lambda: next(items, end))) is not end:
            if item is not None:
                yield item  # type: ignore[misc]  # it is not `end`

    async def _step(self, file: PulledFile, function: Callable[[], Item]) -> Item:
        """The result of `function()`, called in a thread. When cancelled, it waits until the thread has stopped."""
        queued = self._executor.submit(function)
        work = asyncio.wrap_future(queued)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            file.stop()
            queued.cancel()  # has no effect on what has begun
            await asyncio.wait([work])
            raise


def _busy() -> Unavailable:
    return Unavailable("Too many files are being read. Try again in a few seconds.", retry_after=5)
