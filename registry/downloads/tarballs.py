"""Finds and reads tarballs. Four caches make this fast, and keep it working while PostgreSQL is unavailable.

docs/decisions/0012-caches-of-downloads.md explains each cache.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from cachetools import LRUCache, TTLCache

from registry.db.engine import Database, Row
from registry.errors import DatabaseUnavailable, NotFound, Quarantined, StorageUnavailable
from registry.packages import read
from registry.packages.cached import PackageCache
from registry.storage.base import BlobMissing, Storage

KNOWN_ROWS = 10_000
SMALL_TARBALL = 64 << 10
SMALL_TARBALLS_BYTES = 64 << 20
CHECKED_FILES = 10_000
CHECKED_SECONDS = 10.0
TOO_SHORT = "The file of this version is incomplete in the package storage. Restore it from a backup."


class Tarballs:
    """Looks up versions by name and reads their bytes. A `row` is what `registry.packages.read.blob()` returns."""

    def __init__(self, db: Database, storage: Storage, packages: PackageCache) -> None:
        self._db = db
        self._storage = storage
        self._packages = packages
        # Rows by (name, version), used while PostgreSQL is unavailable. Each is stored with its package's stamp, and is
        # current while the package still has this stamp.
        self._known: LRUCache[tuple[str, str], tuple[Row, object]] = LRUCache(KNOWN_ROWS)
        # Bytes of small tarballs by storage key. They never go stale, because a blob never changes.
        self._small: LRUCache[str, bytes] = LRUCache(SMALL_TARBALLS_BYTES, getsizeof=len)
        # Storage keys whose file had the right size a moment ago. Each check costs a switch to another thread.
        self._checked: TTLCache[str, None] = TTLCache(CHECKED_FILES, CHECKED_SECONDS)

    async def find(self, name: str, version: str) -> Row:
        """The row of a version. While PostgreSQL is unavailable, the last known row if the package has not changed.

        Raises NotFound, Quarantined, registry.packages.read.OtherSpelling, DatabaseUnavailable.
        """
        try:
            return await self._packages.get(("blob", name, version), lambda: self._read(name, version))
        except DatabaseUnavailable:
            row, stamp = self._known.get((name, version), (None, None))
            if row is None or self._packages.stamp(row.package_id) is not stamp:
                raise
        except (NotFound, Quarantined, read.OtherSpelling):
            self._known.pop((name, version), None)
            raise
        return row

    async def _read(self, name: str, version: str) -> Row:
        """Reads a row from PostgreSQL and remembers it."""
        before = self._packages.now
        row = await read.blob(self._db, name, version)
        if not self._packages.has_changed(row.package_id, before):
            self._known[name, version] = row, self._packages.stamp(row.package_id)
        return row

    def in_memory(self, row: Row) -> bytes | None:
        """The whole tarball if it is small and was read lately."""
        found: bytes | None = self._small.get(row.tarball_path)
        return found

    async def check_size(self, row: Row) -> None:
        """Checks that the storage holds the whole tarball. A successful check is valid for CHECKED_SECONDS.

        Raises BlobMissing or another StorageUnavailable.
        """
        if row.tarball_path in self._checked:
            return
        size = await self._storage.stat(row.tarball_path)
        if size is None:
            raise BlobMissing
        if size != row.tarball_size:
            raise StorageUnavailable(TOO_SHORT)
        self._checked[row.tarball_path] = None

    @asynccontextmanager
    async def open(self, row: Row, start: int, end: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes from `start` up to, not including, `end`, in chunks; `0 <= start < end <= tarball_size`.

        Entering raises BlobMissing. Reading raises StorageUnavailable when the storage fails, and after the last chunk
        when it delivered too few bytes.
        """
        small = self._small.get(row.tarball_path)
        if small is not None:
            yield _single(small[start:end])
            return
        async with (
            self._storage.open(row.tarball_path, start, end) as stored,
            aclosing(self._complete(row, stored, end - start)) as chunks,
        ):
            yield chunks

    async def _complete(self, row: Row, stored: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes, None]:
        left = size
        async for chunk in stored:
            left -= len(chunk)
            if len(chunk) == row.tarball_size <= SMALL_TARBALL:
                self._small[row.tarball_path] = chunk
            yield chunk
        if left:
            raise StorageUnavailable(TOO_SHORT)


async def _single(chunk: bytes) -> AsyncGenerator[bytes, None]:
    yield chunk
