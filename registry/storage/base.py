"""What every blob storage does, whatever it is made of.

A blob is written once under a key that is never used again, read many times and swept long after its version is
gone. So no call changes a blob, and a put that failed half-way leaves at most an orphan that nothing refers to.
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from prometheus_client import Counter

from registry.errors import Internal, StorageUnavailable

ERRORS = Counter("registry_storage_errors_total", "Operations that the blob storage failed at", ["operation"])
ERRORS.labels("missing")  # known from the start, so that the first one is an increase

CHUNK_BYTES = 512 * 1024
MAX_KEY_LENGTH = 1024

# A list of what is allowed needs no list of what is dangerous: no empty or dotted segment, no backslash, no NUL.
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,254}(?:/[A-Za-z0-9][A-Za-z0-9._+-]{0,254})*")


class BlobMissing(StorageUnavailable):
    """No blob under this key. A published version always has one, so to a client it is a 503 that operators mend
    (by restoring the blob), never a 404 that caches and lockfiles would believe."""

    code, title = "blob_missing", "Package file missing"

    def __init__(self) -> None:
        super().__init__("The file of this version is missing from the package storage", retry_after=60)
        ERRORS.labels("missing").inc()


class BlobExists(Internal):
    """A key was used twice, which is a bug of the caller; the first blob is untouched."""

    def __init__(self) -> None:
        super().__init__("The storage key is already in use")


class BlobMismatch(Internal):
    """The source file is not of the announced size or checksum; nothing was kept."""

    def __init__(self) -> None:
        super().__init__("The file to store is not the one announced")


class InvalidKey(Internal):
    """A key no blob can have; nothing was touched."""

    def __init__(self) -> None:
        super().__init__("The storage key is not acceptable")


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """One stored blob: its size in bytes and when it was written (UTC, aware)."""

    key: str
    size: int
    modified: datetime


class Storage(Protocol):
    """Every method but `aclose` raises StorageUnavailable when the storage can't do it now, and InvalidKey for a key
    that is not relative segments of `A-Z a-z 0-9 . _ + -`, each starting with a letter or digit."""

    async def put(
        self, key: str, source: Path, *, size: int, sha256: str, content_type: str = "application/gzip"
    ) -> None:
        """Store the file `source` of `size` bytes and hex digest `sha256`; durable when it returns.

        `source` may become a hard link of the blob: the caller never writes to it again. Cancelled or failed, it
        leaves no blob and no upload behind as far as the storage still answers. BlobExists when the key is taken,
        BlobMismatch when the source is of another size (or checksum, where the storage itself verifies it).
        """

    def open(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes from `start` up to, not including, `end` (None: all the rest), in chunks of at most CHUNK_BYTES.

        What lies beyond the end of the blob is simply not there. BlobMissing is raised on entering; reading may raise
        StorageUnavailable half-way. ValueError for a range that is negative or runs backwards.
        """

    async def stat(self, key: str) -> int | None:
        """The size in bytes, None when there is no such blob."""

    async def delete(self, key: str) -> None:
        """Remove the blob; it is no error when there is none."""

    def list(self, prefix: str = "") -> AsyncIterator[BlobInfo]:
        """Every blob whose key starts with the text `prefix`, in no promised order; strange files are left out."""

    async def presign(self, key: str, *, expires: int, filename: str, cache_control: str) -> str | None:
        """An address that anyone may GET for `expires` seconds, saved as `filename` and kept as `cache_control` says;
        None when there is no such thing.

        The blob is not looked up: a missing one shows only when the address is used.
        """

    async def stale_uploads(self, older_than: timedelta) -> int:
        """How many uploads began longer ago and never ended (a killed process)."""

    async def abort_stale_uploads(self, older_than: timedelta) -> int:
        """Clear away what such uploads left; returns how many."""

    @property
    def refused_headers(self) -> Sequence[str]:
        """The names of optional request headers that the server refuses, as far as is known by now.

        The storage works without them.
        """

    async def detect_features(self) -> None:
        """Make sure that `refused_headers` is known: the first upload does it, or the storage itself soon after start.

        Raises StorageUnavailable when the storage takes no upload.
        """

    async def check(self) -> None:
        """Raise StorageUnavailable when the folder can't be written, or the bucket is not to be reached, right now.

        Takes a few seconds at most, whatever the server does.
        """

    async def aclose(self) -> None:
        """Finish cleaning up after failed uploads and let go of connections; the storage is of no use afterwards."""


def is_key(text: str) -> bool:
    """Whether a blob can have this key."""
    return len(text) <= MAX_KEY_LENGTH and _KEY.fullmatch(text) is not None


def check_key(key: str) -> None:
    """InvalidKey unless a blob can have this key."""
    if not is_key(key):
        raise InvalidKey


def check_range(start: int, end: int | None) -> None:
    """ValueError unless 0 <= start <= end."""
    if start < 0 or (end is not None and end < start):
        raise ValueError(f"not a range of bytes: {start}-{end}")
