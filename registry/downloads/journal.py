"""The journal of one process: files in the spool folder that hold downloads until PostgreSQL has counted them.

Each file holds one batch. It begins with a header: the id of the batch and the time of its first download. Groups of
downloads follow, each synced before the next one is written. A checksum covers each group and everything before it, so
a reader finds where a write was interrupted, and what an earlier batch left in a file that is used again.

The process locks its files. A file that nobody locks belongs to a dead process, and any process may take it over.
"""

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import struct
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zlib import crc32

import orjson

log = logging.getLogger(__name__)

PATTERN = "*.downloads"
# The size of a file, which is one batch at most: about 3,000 downloads.
FILE_BYTES = 1 << 20
# The most downloads of a group, so that a group fits into a file.
MAX_GROUP = 200
# Files that are kept for later batches: one is written while PostgreSQL counts the other. They are written with zeros
# first. So downloads go on while the disk is full, as long as PostgreSQL counts them, and a sync has less to write.
KEPT_FILES = 2
# A process holds at most this many batches that wait, because open files are limited. It unlocks further ones, and any
# process sends them, as those of dead processes.
MAX_OPEN = 64
_MAGIC = b"journal1"
# A mark, the id of the batch, the Unix time of its first download, and the checksum of these three.
_HEADER = struct.Struct("<8s16sdI")
# Before each group: its size in bytes, and the checksum of everything from the header to its end.
_GROUP = struct.Struct("<II")
_SIZE = _CHECKSUM = struct.Struct("<I")
_EMPTY = bytes(_HEADER.size)


class Damaged(Exception):
    """The header of a file is neither valid nor empty."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Downloads as JSON texts, separated by commas. `began_at` is the Unix time of the first one."""

    id: UUID
    began_at: float
    text: bytes

    def rows(self) -> list[dict[str, Any]]:
        """The downloads, as registry.downloads.store.add() takes them."""
        rows: list[dict[str, Any]] = orjson.loads(b"[%b]" % self.text)
        return rows


class File:
    """A locked file with at most one batch. Closing it unlocks it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.count = 0
        self._descriptor = descriptor
        self._size = 0
        self._checksum = 0

    @classmethod
    def create(cls, folder: Path) -> "File":
        """A new file, durable in `folder`. It is locked before it has its name, so nobody takes it over.

        Raises OSError.
        """
        name = secrets.token_hex(8)
        temporary = folder / f"{name}.tmp"
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _write_all(descriptor, bytes(FILE_BYTES), 0)
            os.fsync(descriptor)
            path = temporary.rename(folder / f"{name}.downloads")
            _sync_folder(folder)
        except OSError:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        return cls(path, descriptor)

    def has_room(self, records: Sequence[bytes]) -> bool:
        size = _HEADER.size + _GROUP.size + len(records) + sum(map(len, records))
        return self._size + size <= FILE_BYTES

    def append(self, records: Sequence[bytes]) -> None:
        """Adds a group of JSON texts and syncs it. Raises OSError; then write nothing more to this file."""
        payload = b",".join(records)
        begin = b""
        checksum = self._checksum
        if not self.count:
            begin = _MAGIC + uuid4().bytes + struct.pack("<d", time.time())
            checksum = crc32(begin)
            begin += _CHECKSUM.pack(checksum)
        size = _SIZE.pack(len(payload))
        checksum = crc32(payload, crc32(size, checksum))
        data = b"".join((begin, size, _CHECKSUM.pack(checksum), payload))
        _write_all(self._descriptor, data, self._size)
        os.fdatasync(self._descriptor)
        self._size += len(data)
        self._checksum = checksum
        self.count += len(records)

    def read(self) -> Batch | None:
        """The batch, None if there is none. Drops a group that was not written completely. Raises Damaged."""
        return _parse(_read_all(self._descriptor, self._size or FILE_BYTES), self.path)

    def clear(self) -> None:
        """Removes the batch after it was counted. Not synced: after a crash, the batch is found to be counted."""
        os.pwrite(self._descriptor, _EMPTY, 0)
        self.count = self._size = 0

    def remove(self) -> None:
        try:
            self.path.unlink(missing_ok=True)
        finally:
            self.close()

    def close(self) -> None:
        os.close(self._descriptor)


class Journal:
    """The files of this process in `folder`. Only one thread may use it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._current: File | None = None
        self._full: deque[File] = deque()
        self._unused: list[File] = []

    def prepare(self) -> None:
        """Creates the files that are kept. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        while len(self._unused) < KEPT_FILES:
            self._unused.append(File.create(self._folder))

    def check(self) -> None:
        """Makes sure that there is a file for the next download. Raises OSError."""
        if self._current is None and not self._unused:
            self._unused.append(File.create(self._folder))

    def append(self, records: Sequence[bytes]) -> None:
        """Adds up to MAX_GROUP JSON texts. Returns when they are on the disk. Raises OSError if they may not be."""
        if self._current is not None and not self._current.has_room(records):
            self._seal()
        if self._current is None:
            self._current = self._unused.pop() if self._unused else File.create(self._folder)
        try:
            self._current.append(records)
        except OSError:
            self._seal()
            raise

    def cut(self) -> tuple[int, bool]:
        """Ends the current batch. Returns how many batches wait to be counted, and whether these are all.

        If several wait already, PostgreSQL fails or is slow. Then the current file had better fill up.
        """
        if len(self._full) <= 1:
            self._seal()
        return len(self._full), self._current is None

    def take(self) -> File:
        """The file of the batch that has waited longest, to be given to `done()` or `put_back()`."""
        return self._full.popleft()

    def put_back(self, file: File) -> None:
        """Keeps a batch that could not be counted, to be taken again after the others."""
        self._full.append(file)

    def done(self, file: File) -> None:
        """Clears a file whose batch was counted."""
        if len(self._unused) < KEPT_FILES:
            file.clear()
            self._unused.append(file)
        else:
            file.remove()

    def close(self) -> None:
        """Unlocks the files, so that other processes take over those with a batch. Removes the others."""
        if self._current is not None:
            self._seal()
        for file in self._unused:
            file.remove()
        for file in self._full:
            file.close()

    def _seal(self) -> None:
        file, self._current = self._current, None
        if file is None:
            return
        if not file.count:
            file.remove()
        elif len(self._full) < MAX_OPEN:
            self._full.append(file)
        else:
            file.close()


def take_over(path: Path) -> File | None:
    """Locks a file of a dead process. None if a process uses it or it is gone."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if os.fstat(descriptor).st_nlink:
            return File(path, descriptor)
        os.close(descriptor)  # another process has taken it over and removed it
    return None


def waiting(folder: Path) -> list[tuple[UUID, float, int]]:
    """(id, Unix time of the first download, size of the file in bytes) of each batch in `folder`, of any process."""
    found = []
    for path in folder.glob(PATTERN):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            header = _header(file.read(_HEADER.size))
            if header is not None:
                found.append((*header, os.fstat(file.fileno()).st_size))
    return found


def _header(data: bytes) -> tuple[UUID, float] | None:
    if len(data) < _HEADER.size:
        return None
    mark, batch, began_at, checksum = _HEADER.unpack(data)
    return (UUID(bytes=batch), began_at) if mark == _MAGIC and crc32(data[:-4]) == checksum else None


def _parse(data: bytes, path: Path) -> Batch | None:
    start = data[: _HEADER.size]
    header = _header(start)
    if header is None:
        if len(data) >= _HEADER.size and start != _EMPTY:
            raise Damaged(path.name)
        return None  # the batch was counted, or its first write was interrupted
    texts, place, checksum = [], _HEADER.size, crc32(start[:-4])
    while place + _GROUP.size <= len(data):
        length, expected = _GROUP.unpack_from(data, place)
        payload = data[place + _GROUP.size : place + _GROUP.size + length]
        checksum = crc32(payload, crc32(data[place : place + _GROUP.size - 4], checksum))
        if not length or len(payload) < length or checksum != expected:
            break
        texts.append(payload)
        place += _GROUP.size + length
    return Batch(*header, b",".join(texts)) if texts else None


def _write_all(descriptor: int, data: bytes, place: int) -> None:
    written = os.pwrite(descriptor, data, place)
    while written < len(data):  # the disk is nearly full: the next write raises the error
        more = os.pwrite(descriptor, data[written:], place + written)
        if not more:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += more


def _read_all(descriptor: int, size: int) -> bytes:
    pieces, place = [], 0
    while place < size and (piece := os.pread(descriptor, size - place, place)):
        pieces.append(piece)
        place += len(piece)
    return b"".join(pieces)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
