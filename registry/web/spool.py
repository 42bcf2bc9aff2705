"""Receives request bodies. Large ones go to files, so that memory use does not grow with them.

Each file is removed after use.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import random
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from registry.errors import StorageUnavailable, TooLarge

# Bytes of one write. Each write is one call in a thread.
PIECE = 1 << 20
# A body of at most this many bytes stays in memory. A file would cost a thread switch and several system calls.
SMALL = 128 << 10
START_LOCK = "start.lock"
DISK_FULL = "The disk for uploads is full. Try again later."


@dataclass(frozen=True)
class Spooled:
    """A received body: its file, or its bytes if it is small; its size in bytes, and its SHA-256 in hex."""

    content: Path | bytes
    size: int
    sha256: str


class Spool:
    """A folder under `root` for this process alone. Removes the folders of dead processes first."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._folder = root / f"process-{os.getpid()}-{secrets.token_hex(4)}"
        # One process starts at a time: until a new process has locked its folder, the folder looks abandoned.
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
        """Counts and hashes `chunks`, and writes more than SMALL bytes to a file, which exists until the block ends.

        Raises TooLarge with the text `too_large` as soon as there are more than `limit` bytes, and StorageUnavailable
        when the disk is full.
        """
        path = self._folder / f"{random.getrandbits(128):032x}"
        writer = _Writer(path)
        try:
            try:
                buffer = bytearray()
                async for chunk in chunks:
                    buffer += chunk
                    if writer.size + len(buffer) > limit:
                        raise TooLarge(too_large)
                    if len(buffer) >= PIECE:
                        with _disk_errors_named():
                            await asyncio.to_thread(writer.write, buffer)
                        buffer = bytearray()
                if not writer.is_used and len(buffer) <= SMALL:
                    yield Spooled(bytes(buffer), len(buffer), hashlib.sha256(buffer).hexdigest())
                    return
                with _disk_errors_named():
                    await asyncio.to_thread(writer.finish, buffer)
            finally:
                if not writer.closed:
                    # Closing writes the buffer again, and a full disk refuses it again.
                    with _disk_errors_named():
                        await asyncio.to_thread(writer.close)
            yield Spooled(path, writer.size, writer.hash.hexdigest())
        finally:
            if writer.is_used:
                await asyncio.to_thread(path.unlink)


class _Writer:
    """Opens its file at the first write, so a small body takes one call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self.size = 0
        self.hash = hashlib.sha256()

    @property
    def is_used(self) -> bool:
        return self._file is not None

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
    """The folders of dead processes under `root`, removed if `remove`. Blocks: call it in a thread."""
    try:
        with (root / START_LOCK).open("rb") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            found = [folder for folder in sorted(root.glob("process-*")) if _is_abandoned(folder)]
            for folder in found if remove else ():
                shutil.rmtree(folder, ignore_errors=True)
            return found
    except FileNotFoundError:
        return []  # no process has used this folder


def _is_abandoned(folder: Path) -> bool:
    """Whether no process locks `folder`. The caller holds START_LOCK."""
    try:
        with (folder / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True
