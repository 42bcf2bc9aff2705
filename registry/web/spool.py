"""Request bodies on their way: a file on disk each, so that memory stays flat, removed whatever happens."""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from registry.errors import StorageUnavailable, TooLarge

# Written in pieces of this size: one hop to a thread a piece.
PIECE = 1 << 20
START_LOCK = "start.lock"
DISK_FULL = "There is no room for the upload right now. Try again later."


@dataclass(frozen=True)
class Spooled:
    """A received body: its file, size in bytes and SHA-256 in hex."""

    path: Path
    size: int
    sha256: str


class Spool:
    """A folder of this process's own under `root`; folders that dead processes left are removed at the start."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._folder = root / f"process-{os.getpid()}-{secrets.token_hex(4)}"
        # One starts at a time: a folder whose maker does not hold its lock yet would look abandoned to another.
        with (root / START_LOCK).open("wb") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            for old in root.glob("process-*"):
                if _is_abandoned(old):
                    shutil.rmtree(old, ignore_errors=True)
            self._folder.mkdir(mode=0o750)
            self._lock = (self._folder / "lock").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()

    @contextlib.asynccontextmanager
    async def receive(self, chunks: AsyncIterator[bytes], *, limit: int, too_large: str) -> AsyncIterator[Spooled]:
        """Writes `chunks` to a file as they arrive, counting and hashing; the file is gone after the block.

        Raises TooLarge with the text `too_large` as soon as `limit` bytes are passed, StorageUnavailable when the
        disk is full.
        """
        path = self._folder / secrets.token_hex(16)
        writer = _Writer(path)
        try:
            try:
                pending = bytearray()
                async for chunk in chunks:
                    pending += chunk
                    if writer.size + len(pending) > limit:
                        raise TooLarge(too_large)
                    if len(pending) >= PIECE:
                        with _disk_errors_named():
                            await asyncio.to_thread(writer.write, pending)
                        pending = bytearray()
                with _disk_errors_named():
                    await asyncio.to_thread(writer.finish, pending)
            finally:
                if not writer.closed:
                    # Writes what a full disk refused once more, and is refused again.
                    with _disk_errors_named():
                        await asyncio.to_thread(writer.close)
            yield Spooled(path, writer.size, writer.hash.hexdigest())
        finally:
            path.unlink(missing_ok=True)


class _Writer:
    """Opens its file with the first write: all that a small body takes is one call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self.size = 0
        self.hash = hashlib.sha256()

    @property
    def closed(self) -> bool:
        return self._file is None or self._file.closed

    def write(self, data: bytearray) -> None:
        if self._file is None:
            self._file = self._path.open("wb")
        self._file.write(data)
        self._file.flush()
        self.hash.update(data)
        self.size += len(data)

    def finish(self, data: bytearray) -> None:
        self.write(data)
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


@contextlib.contextmanager
def _disk_errors_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
            raise StorageUnavailable(DISK_FULL, retry_after=30) from error
        raise


def abandoned(root: Path, *, remove: bool = False) -> list[Path]:
    """The folders under `root` that dead processes left. Blocking: call it in a thread."""
    try:
        with (root / START_LOCK).open("rb") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            found = [folder for folder in sorted(root.glob("process-*")) if _is_abandoned(folder)]
            for folder in found if remove else ():
                shutil.rmtree(folder, ignore_errors=True)
            return found
    except FileNotFoundError:
        return []  # no process ever began here


def _is_abandoned(folder: Path) -> bool:
    """Whether the process that made `folder` holds its lock no more. Ask only while START_LOCK is held."""
    try:
        with (folder / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True
