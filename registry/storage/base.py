"""The interface of blob storages.

Each key is used for one blob only, and no method changes a blob. A sweep deletes blobs some time after their versions
were deleted. A failed put leaves at most an orphan: a blob that no row refers to.
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

ERRORS = Counter("registry_storage_errors_total", "Failed operations of the blob storage", ["operation"])
ERRORS.labels("missing")  # creates the series at 0, so that alerts see the first error as an increase

CHUNK_BYTES = 512 * 1024
MAX_KEY_LENGTH = 1024

# Allows neither empty segments, nor those that begin with a dot, nor backslashes, nor NUL.
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,254}(?:/[A-Za-z0-9][A-Za-z0-9._+-]{0,254})*")


class BlobMissing(StorageUnavailable):
    """There is no blob with this key.

    Each published version has one, so an operator has to restore it. Clients get 503: caches and lockfiles would keep
    a 404.
    """

    code, title = "blob_missing", "Package file missing"

    def __init__(self) -> None:
        super().__init__("The file of this version is missing from the package storage", retry_after=60)
        ERRORS.labels("missing").inc()


class BlobExists(Internal):
    """The key is in use, which is a bug of the caller. The blob is unchanged."""

    def __init__(self) -> None:
        super().__init__("The storage key is already in use")


class BlobMismatch(Internal):
    """The source file has another size or checksum than the caller said. Nothing was stored."""

    def __init__(self) -> None:
        super().__init__("The file to store has another size or checksum than expected")


class InvalidKey(Internal):
    """No blob can have this key. Nothing was changed."""

    def __init__(self) -> None:
        super().__init__("The storage key is invalid")


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A stored blob: its size in bytes and the time when it was written (UTC, aware)."""

    key: str
    size: int
    modified: datetime


class Storage(Protocol):
    """A blob storage.

    Every method but `aclose` raises StorageUnavailable if the storage fails, and InvalidKey for an invalid key. A key
    has segments of `A-Z a-z 0-9 . _ + -` with slashes between them. Each segment starts with a letter or digit.
    """

    async def put(
        self, key: str, source: Path | bytes, *, size: int, sha256: str, content_type: str = "application/gzip"
    ) -> None:
        """Store `source`, which is a file or bytes, and has `size` bytes and the SHA-256 `sha256` (hex).

        It is durable afterwards. A file may become a hard link to the blob, so the caller never writes to it again. A
        cancelled or failed put leaves no blob and no upload behind, unless the storage stops answering. Raises
        BlobExists if the key is in use, and BlobMismatch if the source has another size (or checksum, where the storage
        verifies it).
        """

    def open(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes from `start` to `end` (exclusive; None: the end of the blob), in chunks of at most CHUNK_BYTES.

        A range may extend past the end of the blob. Entering the block raises BlobMissing; reading may raise
        StorageUnavailable at any chunk. Raises ValueError unless 0 <= start <= end.
        """

    async def stat(self, key: str) -> int | None:
        """The size in bytes, or None if there is no such blob."""

    async def delete(self, key: str) -> None:
        """Remove the blob, if there is one."""

    def list(self, prefix: str = "") -> AsyncIterator[BlobInfo]:
        """Every blob whose key starts with `prefix`, in any order. Files without a valid key are left out."""

    async def presign(self, key: str, *, expires: int, filename: str, cache_control: str) -> str | None:
        """A URL that anyone can GET for `expires` seconds, or None if the storage has no such URLs.

        Its response suggests `filename` and has the Cache-Control `cache_control`. The blob need not exist.
        """

    async def stale_uploads(self, older_than: timedelta) -> int:
        """The number of unfinished uploads that began longer ago. A killed process leaves them."""

    async def abort_stale_uploads(self, older_than: timedelta) -> int:
        """Remove such uploads and return their number."""

    @property
    def refused_headers(self) -> Sequence[str]:
        """The names of optional request headers that the server refuses. Empty before the detection is done."""

    async def detect_features(self) -> None:
        """Wait until `refused_headers` is known. Raises StorageUnavailable if no upload works."""

    async def check(self) -> None:
        """Raise StorageUnavailable if the folder can't be written, or the bucket can't be reached.

        Takes a few seconds at most.
        """

    async def aclose(self) -> None:
        """Finish the cleanup after failed uploads and close the connections. The storage can't be used afterwards."""


def is_key(text: str) -> bool:
    """Whether a blob can have this key."""
    return len(text) <= MAX_KEY_LENGTH and _KEY.fullmatch(text) is not None


def check_key(key: str) -> None:
    """Raises InvalidKey unless a blob can have this key."""
    if not is_key(key):
        raise InvalidKey


def size_of(source: Path | bytes) -> int:
    """The size of the file or of the bytes. It blocks for a file: call it in a thread."""
    return source.stat().st_size if isinstance(source, Path) else len(source)


def check_range(start: int, end: int | None) -> None:
    """Raises ValueError unless 0 <= start <= end."""
    if start < 0 or (end is not None and end < start):
        raise ValueError(f"not a range of bytes: {start}-{end}")
