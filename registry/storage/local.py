"""Blobs as files of one folder.

`ROOT/blobs/KEY` holds the blobs, `ROOT/tmp` the files on their way there: both on one file system, so that the last
step of a put is a rename, which is there entirely or not at all.
"""

import asyncio
import errno
import logging
import os
import shutil
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from registry.errors import StorageUnavailable
from registry.storage.base import (
    CHUNK_BYTES,
    ERRORS,
    BlobExists,
    BlobInfo,
    BlobMismatch,
    BlobMissing,
    InvalidKey,
    check_key,
    check_range,
    is_key,
)

log = logging.getLogger(__name__)

FILE_MODE = 0o640
FOLDER_MODE = 0o750

_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOT_THERE = (FileNotFoundError, NotADirectoryError)


@asynccontextmanager
async def open_local(root: Path) -> AsyncIterator["LocalStorage"]:
    """The storage in the folder `root`, which is made when missing. StorageUnavailable when it can't be."""
    storage = await asyncio.to_thread(LocalStorage, root)
    try:
        yield storage
    finally:
        await storage.aclose()


class LocalStorage:
    """See registry.storage.base.Storage. The constructor makes the folders, so it belongs in a thread."""

    def __init__(self, root: Path) -> None:
        with _named_errors("open"):
            self._blobs = root.resolve() / "blobs"
            self._tmp = root.resolve() / "tmp"
            self._blobs.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self._blobs, self._tmp):
                folder.mkdir(mode=FOLDER_MODE, exist_ok=True)

    async def put(
        self,
        key: str,
        source: Path,
        *,
        size: int,
        sha256: str,  # noqa: ARG002  # a link or a copy on one machine has no wire that could change it
        content_type: str = "application/gzip",  # noqa: ARG002  # files have none
    ) -> None:
        check_key(key)
        # A thread can't be stopped: a cancelled put waits for its end and then takes back what it did.
        work = asyncio.create_task(asyncio.to_thread(self._put, key, source, size))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            if work.exception() is None:
                await self.delete(key)
            raise

    @asynccontextmanager
    async def open(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        check_key(key)
        check_range(start, end)
        length = None if end is None else end - start
        file, first = await asyncio.to_thread(self._open, key, start, length)
        try:
            async with aclosing(_chunks(file, first, length)) as chunks:
                yield chunks
        finally:
            if not file.closed:
                await asyncio.to_thread(file.close)

    async def stat(self, key: str) -> int | None:
        check_key(key)
        return await asyncio.to_thread(self._size, key)

    async def delete(self, key: str) -> None:
        check_key(key)
        await asyncio.to_thread(self._delete, key)

    async def list(self, prefix: str = "") -> AsyncIterator[BlobInfo]:
        folders = [self._blobs]
        while folders:
            inner, found = await asyncio.to_thread(self._scan, folders.pop(), prefix)
            folders += inner
            for blob in found:
                yield blob

    async def presign(self, key: str, *, expires: int, filename: str, cache_control: str) -> str | None:  # noqa: ARG002
        check_key(key)
        return None

    async def stale_uploads(self, older_than: timedelta) -> int:
        return len(await asyncio.to_thread(self._leftovers, older_than))

    async def abort_stale_uploads(self, older_than: timedelta) -> int:
        return await asyncio.to_thread(self._remove_leftovers, older_than)

    @property
    def refused_headers(self) -> Sequence[str]:
        return []

    async def detect_features(self) -> None:
        """Files have no headers."""

    async def check(self) -> None:
        await asyncio.to_thread(self._probe)

    async def aclose(self) -> None:
        """Nothing is held open between calls."""

    def _put(self, key: str, source: Path, size: int) -> None:
        with _named_errors("put", key):
            target = self._inside(key)
            # `tmp` was made when the storage was opened and never since: a volume that got unmounted fails
            # here instead of filling the disk below it.
            staged = self._tmp / uuid.uuid4().hex
            try:
                _link_or_copy(source, staged)
                if staged.stat().st_size != size:
                    raise BlobMismatch
                staged.chmod(FILE_MODE)
                _sync(staged)
                # Every folder up to the top may be new, or another put's that did not get to sync it.
                folders = [target.parent, *target.parent.parents]
                folders = folders[: folders.index(self._blobs) + 1]
                for folder in reversed(folders):
                    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
                if os.path.lexists(target):
                    raise BlobExists
                staged.rename(target)
                for folder in folders:
                    _sync(folder)
            finally:
                staged.unlink(missing_ok=True)

    def _open(self, key: str, start: int, length: int | None) -> tuple[BinaryIO, bytes]:
        """The file and its first chunk; closed when that is all that is wanted, for most tarballs are small."""
        with _named_errors("open", key):
            try:
                file = self._inside(key).open("rb")
            except (*_NOT_THERE, IsADirectoryError):
                raise BlobMissing from None
            file.seek(start)
            first = file.read(CHUNK_BYTES if length is None else min(length, CHUNK_BYTES))
            if len(first) == length:
                file.close()
            return file, first

    def _size(self, key: str) -> int | None:
        with _named_errors("stat", key):
            path = self._inside(key)
            return path.stat().st_size if path.is_file() else None

    def _delete(self, key: str) -> None:
        with _named_errors("delete", key):
            try:
                # The folders stay: removing an empty one would race with a put that is about to use it.
                self._inside(key).unlink()
            except _NOT_THERE:
                return

    def _scan(self, folder: Path, prefix: str) -> tuple[Sequence[Path], Sequence[BlobInfo]]:
        """The folders inside `folder` that can hold keys with `prefix`, and the blobs in it that have it."""
        folders, blobs = [], []
        with _named_errors("list"), os.scandir(folder) as entries:
            for entry in entries:
                path = Path(entry.path)
                key = path.relative_to(self._blobs).as_posix()
                if entry.is_dir(follow_symlinks=False):
                    if f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                        folders.append(path)
                elif entry.is_file(follow_symlinks=False) and key.startswith(prefix) and is_key(key):
                    try:
                        facts = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # deleted since
                        continue
                    blobs.append(BlobInfo(key, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC)))
        return folders, blobs

    def _leftovers(self, older_than: timedelta) -> Sequence[Path]:
        before = time.time() - older_than.total_seconds()
        found = []
        with _named_errors("abort"):
            for path in self._tmp.iterdir():
                with suppress(FileNotFoundError):  # its put came to an end
                    if path.lstat().st_mtime < before:
                        found.append(path)
        return found

    def _remove_leftovers(self, older_than: timedelta) -> int:
        found = self._leftovers(older_than)
        with _named_errors("abort"):
            for path in found:
                path.unlink(missing_ok=True)
        return len(found)

    def _probe(self) -> None:
        with _named_errors("check"):
            probe = self._tmp / uuid.uuid4().hex
            try:
                probe.write_bytes(b"probe")
                os.scandir(self._blobs).close()
            finally:
                probe.unlink(missing_ok=True)

    def _inside(self, key: str) -> Path:
        """Where the blob of this (checked) key is; InvalidKey when a symbolic link leads somewhere else."""
        path = self._blobs / key
        if os.path.realpath(path) != str(path):
            raise InvalidKey
        return path


async def _chunks(file: BinaryIO, first: bytes, length: int | None) -> AsyncGenerator[bytes, None]:
    """`first` and what follows it in the file, `length` bytes in all (None: everything), as far as there are any."""
    chunk, left = first, length
    while chunk:
        yield chunk
        if left is not None:
            left -= len(chunk)
            if left <= 0:
                return
        with _named_errors("read"):
            chunk = await asyncio.to_thread(file.read, CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        # Another file system, or one without links: each says so by another errno, and a copy that
        # fails as well names the true cause.
        shutil.copyfile(source, target)


def _sync(path: Path) -> None:
    """Have what the file or folder holds on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named_errors(operation: str, key: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        ERRORS.labels(operation).inc()
        log.warning("blob storage failed", extra={"operation": operation, "key": key, "error": str(error)})
        full = error.errno in _FULL
        detail = "The package storage is full" if full else "The package storage can't be used right now"
        raise StorageUnavailable(detail, retry_after=60 if full else 5) from error
