"""Decompresses a gzip file as a stream, and limits how much it may contain."""

import zlib
from typing import Protocol

from registry.errors import InvalidArchive

_PACKED_CHUNK = 64 * 1024
_UNPACKED_CHUNK = 256 * 1024
# Files that unpack to less than this may have any ratio, because a few small text files may compress very well.
_RATIO_FLOOR = 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS


class Readable(Protocol):
    """A source of bytes. `read()` returns at most `size` bytes, and b"" at the end only."""

    def read(self, size: int, /) -> bytes: ...


class Gunzip:
    """The decompressed content of a gzip file that has one member. Uses little memory, whatever the file contains.

    All methods raise InvalidArchive if the file is damaged, ends early or contains too much. `count` is the number of
    decompressed bytes that were read or skipped.
    """

    def __init__(self, file: Readable, packed_size: int, *, max_unpacked: int, max_ratio: int) -> None:
        self.count = 0
        self._file = file
        self._inflater = zlib.decompressobj(_GZIP)
        self._buffer = memoryview(b"")
        self._inflated = 0
        self._max_unpacked = max_unpacked
        self._max_ratio = max_ratio
        self._ratio_limit = max(_RATIO_FLOOR, max_ratio * packed_size)
        self._packed = file.read(_PACKED_CHUNK)
        if not self._packed.startswith(b"\x1f\x8b"):
            raise InvalidArchive("The tarball is not gzip-compressed.")

    def read(self, size: int) -> bytes:
        """Returns the next `size` bytes. The caller limits `size`, because all of them are held in memory."""
        parts = []
        while size:
            part = self._take(size)
            size -= len(part)
            parts.append(bytes(part))
        return b"".join(parts)

    def skip(self, size: int) -> None:
        """Reads and forgets the next `size` bytes."""
        while size:
            size -= len(self._take(size))

    def expect_only_zeros(self) -> None:
        """Reads to the end of the file. Raises InvalidArchive for anything but zeros, which tar uses for padding."""
        while self._buffer or self._fill():
            part = bytes(self._take(len(self._buffer)))
            if part != bytes(len(part)):
                raise InvalidArchive("The tarball has data after its end.")

    def _take(self, size: int) -> memoryview:
        """Returns the next bytes, at least 1 and at most `size`."""
        if not self._buffer and not self._fill():
            raise InvalidArchive("The tarball is truncated.")
        part, self._buffer = self._buffer[:size], self._buffer[size:]
        self.count += len(part)
        return part

    def _fill(self) -> bool:
        """Fills the empty buffer. Returns False at the end of the stream, when zlib has checked its CRC and length."""
        while not self._buffer:
            if self._inflater.eof:
                if self._inflater.unused_data or self._file.read(1):
                    raise InvalidArchive("The tarball has data after its gzip stream.")
                return False
            packed = self._packed or self._inflater.unconsumed_tail or self._file.read(_PACKED_CHUNK)
            self._packed = b""
            try:
                inflated = self._inflater.decompress(packed, _UNPACKED_CHUNK)
            except zlib.error as error:
                raise InvalidArchive(f"The tarball's gzip stream is damaged: {error}.") from error
            if not packed and not inflated and not self._inflater.eof:
                raise InvalidArchive("The tarball is truncated.")
            self._buffer = memoryview(inflated)
            self._check_limits(len(inflated))
        return True

    def _check_limits(self, inflated: int) -> None:
        self._inflated += inflated
        if self._inflated > self._max_unpacked:
            raise InvalidArchive(f"The tarball unpacks to more than {self._max_unpacked:,} bytes.")
        if self._inflated > self._ratio_limit:
            raise InvalidArchive(f"The tarball unpacks to more than {self._max_ratio:,} times its size.")
