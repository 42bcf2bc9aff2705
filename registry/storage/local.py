"""Blobs as files of one folder.

`ROOT/blobs/KEY` holds the blobs and `ROOT/tmp` unfinished ones. Both are on one file system, so a put can end with a
rename, which is atomic.
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
    size_of,
)

log = logging.getLogger(__name__)

FILE_MODE = 0o640
FOLDER_MODE = 0o750

_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOT_THERE = (FileNotFoundError, NotADirectoryError)


@asynccontextmanager
async def open_local(root: Path) -> AsyncIterator["LocalStorage"]:
    """The storage in the folder `root`, which is created if needed. Raises StorageUnavailable if that fails."""
    storage = await asyncio.to_thread(LocalStorage, root)
    try:
        yield storage
    finally:
        await storage.aclose()


class LocalStorage:
    """See registry.storage.base.Storage. The constructor creates folders, so call it in a thread."""

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
        source: Path | bytes,
        *,
        size: int,
        sha256: str,  # noqa: ARG002  # no network can change the bytes of a link or a copy
        content_type: str = "application/gzip",  # noqa: ARG002  # files have no content type
    ) -> None:
        check_key(key)
        # A thread can't be stopped. A cancelled put waits until it ends and then removes the blob.
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
        """There is nothing to detect."""

    async def check(self) -> None:
        await asyncio.to_thread(self._probe)

    async def aclose(self) -> None:
        """There is nothing to close."""

    def _put(self, key: str, source: Path | bytes, size: int) -> None:
        with _named_errors("put", key):
            target = self._inside(key)
            if size_of(source) != size:
                raise BlobMismatch
            folders = self._folders(target)
            # `blobs` and `tmp` are created only when the storage is opened. So a put on an unmounted volume fails here
            # and does not fill the disk below the mount point.
            for folder in folders[-2::-1]:
                folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            if isinstance(source, bytes):
                _create(target, source)
            else:
                self._link_or_copy(source, target)
            # Each folder may be new, or another put may have created it without syncing it yet.
            with _removed_on_failure(target):
                for folder in folders:
                    _sync(folder)

    def _link_or_copy(self, source: Path, target: Path) -> None:
        """Makes the file `source` the blob, and syncs its content. Raises BlobExists if there is one."""
        # Nobody knows the key before the put ends, so the name may come before the content is on the disk.
        try:
            target.hardlink_to(source)
        except FileExistsError:
            raise BlobExists from None
        except OSError:
            # The source is on another file system, or this one has no links. The errno differs, so every error leads to
            # a copy. If the copy fails, too, its error names the cause.
            staged = self._tmp / uuid.uuid4().hex
            try:
                shutil.copyfile(source, staged)
                if os.path.lexists(target):
                    raise BlobExists from None
                staged.rename(target)
            finally:
                staged.unlink(missing_ok=True)
        with _removed_on_failure(target):
            target.chmod(FILE_MODE)
            _sync(target)

    def _open(self, key: str, start: int, length: int | None) -> tuple[BinaryIO, bytes]:
        """The file and its first chunk. A file whose whole range fits into the chunk, as most do, is already closed."""
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
                # The folders stay. A put may be about to use an empty one.
                self._inside(key).unlink()
            except _NOT_THERE:
                return

    def _scan(self, folder: Path, prefix: str) -> tuple[Sequence[Path], Sequence[BlobInfo]]:
        """The subfolders that can hold keys with `prefix`, and the blobs in `folder` whose keys have it."""
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
                    except FileNotFoundError:  # it was deleted meanwhile
                        continue
                    blobs.append(BlobInfo(key, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC)))
        return folders, blobs

    def _leftovers(self, older_than: timedelta) -> Sequence[Path]:
        before = time.time() - older_than.total_seconds()
        found = []
        with _named_errors("abort"):
            for path in self._tmp.iterdir():
                with suppress(FileNotFoundError):  # the upload ended meanwhile
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
        """The path of the blob with this valid key. Raises InvalidKey if a part of it is a symbolic link."""
        path = self._blobs / key
        if any(part.is_symlink() for part in (path, *self._folders(path)[:-1])):
            raise InvalidKey
        return path

    def _folders(self, path: Path) -> Sequence[Path]:
        """The parent folder of the blob at `path`, its parent, and so on up to `blobs`."""
        return [path.parent, *path.parents[1 : len(path.parts) - len(self._blobs.parts)]]


async def _chunks(file: BinaryIO, first: bytes, length: int | None) -> AsyncGenerator[bytes, None]:
    """`first` and the following bytes of the file, up to `length` bytes in all (None: the whole file)."""
    chunk, left = first, length
    while chunk:
        yield chunk
        if left is not None:
            left -= len(chunk)
            if left <= 0:
                return
        with _named_errors("read"):
            chunk = await asyncio.to_thread(file.read, CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))


def _create(path: Path, content: bytes) -> None:
    """Creates a file with this content and syncs it. Raises BlobExists if there is one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except FileExistsError:
        raise BlobExists from None
    try:
        with _removed_on_failure(path):
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    """Waits until the content of the file or folder is on the disk."""
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
