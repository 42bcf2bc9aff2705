"""Uploads files to a bucket, with bounded memory and without overwriting.

Files up to PART_BYTES go up in one request, larger ones in parts. Each request carries the SHA-256 of its body, so the
server stores nothing that changed on the wire. The last request has `If-None-Match: *`, so no key is written twice.
If the server refuses the first header, Content-MD5 replaces it. If it refuses the second, a HEAD before the upload
replaces it.
"""

import asyncio
import base64
import hashlib
import io
import logging
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from registry.storage.base import BlobExists, BlobMismatch, size_of

log = logging.getLogger(__name__)

PART_BYTES = 8 * 1024 * 1024
PARTS_PER_UPLOAD = 2
PARTS_IN_MEMORY = 8

FAILURES = (BotoCoreError, ClientError, ResponseParserError, aiohttp.ClientError, OSError)
MISSING = {"NoSuchKey", "404"}
# Codes that may mean that an earlier try succeeded and its response was lost.
_MAYBE_OURS = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409", "NoSuchUpload"}


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long the server may take, in seconds.

    `answer_seconds` limits the wait for the headers of a response, and `body_seconds` the upload of one body. The
    detection of the server's features ends after `detect_seconds`. If it fails, it is repeated after
    `detect_retry_seconds`. `check_seconds` limits a health check.
    """

    answer_seconds: float = 30.0
    body_seconds: float = 60.0
    detect_seconds: float = 10.0
    detect_retry_seconds: float = 30.0
    check_seconds: float = 5.0


TIME_LIMITS = TimeLimits()


@dataclass(frozen=True, slots=True)
class Features:
    """Which optional request headers the server accepts."""

    checksum: bool = True
    condition: bool = True

    @property
    def refused(self) -> list[str]:
        """The names of the headers that it refuses."""
        names = {"x-amz-checksum-sha256": self.checksum, "If-None-Match": self.condition}
        return [name for name, accepted in names.items() if not accepted]


class Uploader:
    """Uploads files with an open aiobotocore S3 client. A target has the `Bucket` and the `Key` to write.

    Sending the body of one request may take `body_seconds`. The methods raise any of FAILURES, and the caller turns
    them into named errors.
    """

    def __init__(self, client: Any, features: Features, body_seconds: float) -> None:
        self._client = client
        self._body_seconds = body_seconds
        self._checksum = features.checksum
        self._condition: dict[str, str] = {"IfNoneMatch": "*"} if features.condition else {}
        self._bodies = asyncio.Semaphore(PARTS_IN_MEMORY)
        self._cleanups: set[asyncio.Task[None]] = set()

    async def put(
        self,
        target: Mapping[str, str],
        source: Path | bytes,
        *,
        size: int,
        sha256: str,
        content_type: str,
        in_parts: bool | None = None,
    ) -> None:
        """Like Storage.put, with BlobExists and BlobMismatch. By default, files above PART_BYTES are sent in parts."""
        if (await asyncio.to_thread(size_of, source)) != size:
            raise BlobMismatch
        # Stored with the blob as its metadata `receipt`. If an answer is lost, it tells our blob from another put's.
        put_id = uuid.uuid4().hex
        wanted = {**target, "ContentType": content_type, "Metadata": {"receipt": put_id, "sha256": sha256}}
        if not self._condition and await self._put_id_of(target) is not None:
            raise BlobExists
        try:
            if size > PART_BYTES if in_parts is None else in_parts:
                await self._put_in_parts(target, wanted, source, size)
            else:
                await self._put_whole(wanted, source, size, sha256)
        except ClientError as error:
            if error_code(error) not in _MAYBE_OURS or not await self._arrived(target, put_id):
                raise

    async def aclose(self) -> None:
        """Waits for the uploads that are being aborted."""
        await asyncio.gather(*self._cleanups)

    async def _put_whole(self, wanted: Mapping[str, Any], source: Path | bytes, size: int, sha256: str) -> None:
        async with self._body(source, 0, size) as part:
            if part.sha256 != _base64(bytes.fromhex(sha256)):
                raise BlobMismatch
            await self._client.put_object(**wanted, **self._verified(part), **self._condition)

    async def _put_in_parts(
        self, target: Mapping[str, str], wanted: Mapping[str, Any], source: Path | bytes, size: int
    ) -> None:
        algorithm = {"ChecksumAlgorithm": "SHA256"} if self._checksum else {}
        starting = asyncio.create_task(self._client.create_multipart_upload(**wanted, **algorithm))
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._abandon, target, starting)
            # Shielded from cancellation: without its id an upload can't be aborted.
            upload = {**target, "UploadId": (await asyncio.shield(starting))["UploadId"]}
            parts = await self._send_parts(upload, source, size)
            await self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **self._condition)
            undo.pop_all()

    async def _send_parts(self, upload: Mapping[str, str], source: Path | bytes, size: int) -> list[dict[str, Any]]:
        """Sends all parts, and returns what CompleteMultipartUpload needs about each, in order."""
        turns = asyncio.Semaphore(PARTS_PER_UPLOAD)

        async def send(offset: int) -> dict[str, Any]:
            number = offset // PART_BYTES + 1
            async with turns, self._body(source, offset, min(PART_BYTES, size - offset)) as part:
                answer = await self._client.upload_part(**upload, PartNumber=number, **self._verified(part))
            checksum = {"ChecksumSHA256": part.sha256} if self._checksum else {}
            return {"PartNumber": number, "ETag": answer["ETag"], **checksum}

        try:
            async with asyncio.TaskGroup() as group:
                sending = [group.create_task(send(offset)) for offset in range(0, size, PART_BYTES)]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [part.result() for part in sending]

    @asynccontextmanager
    async def _body(self, source: Path | bytes, offset: int, length: int) -> AsyncIterator["_Part"]:
        """The bytes to send. Limits the parts in memory and the time of the block, which sends them."""
        async with self._bodies:
            part = await asyncio.to_thread(_read_part, source, offset, length)
            # The client has no timeout for a server that accepts the connection and then reads nothing.
            async with asyncio.timeout(self._body_seconds):
                yield part

    def _verified(self, part: "_Part") -> dict[str, Any]:
        """The arguments for the body and for the header with its digest."""
        if self._checksum:
            return {"Body": part.body, "ChecksumSHA256": part.sha256}
        return {"Body": part.body, "ContentMD5": part.md5}

    async def _abandon(self, target: Mapping[str, str], starting: asyncio.Task[dict[str, Any]]) -> None:
        """Aborts the upload, also if the caller is cancelled again. If that fails, the sweep removes the upload."""

        async def abort() -> None:
            try:
                await abort_upload(self._client, target, (await starting)["UploadId"])
            except FAILURES as error:
                log.warning(
                    "unfinished upload was not aborted; the sweep removes it later",
                    extra={"key": target["Key"], "error": str(error)},
                )

        cleanup = asyncio.create_task(abort())
        self._cleanups.add(cleanup)
        cleanup.add_done_callback(self._cleanups.discard)
        await asyncio.shield(cleanup)

    async def _arrived(self, target: Mapping[str, str], put_id: str) -> bool:
        """Whether an earlier try of this put stored the blob and its response was lost.

        Raises BlobExists if another put stored it.
        """
        found = await self._put_id_of(target)
        if found not in (None, put_id):
            raise BlobExists
        return found is not None

    async def _put_id_of(self, target: Mapping[str, str]) -> str | None:
        """The put id in the blob's metadata, "" if it has none, or None if there is no blob."""
        try:
            head = await self._client.head_object(**target)
        except ClientError as error:
            if error_code(error) not in MISSING:
                raise
            return None
        return str(head["Metadata"].get("receipt", ""))


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes of a source and their digests in Base64."""

    body: io.BytesIO
    sha256: str
    md5: str


async def abort_upload(client: Any, target: Mapping[str, str], upload_id: str) -> bool:
    """Aborts an upload in parts. Returns False if it had ended already."""
    try:
        await client.abort_multipart_upload(**target, UploadId=upload_id)
    except ClientError as error:
        if error_code(error) != "NoSuchUpload":
            raise
        return False
    return True


def error_code(error: ClientError) -> str:
    """S3's error code, such as NoSuchKey, or the HTTP status of a response without a body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _read_part(source: Path | bytes, offset: int, length: int) -> _Part:
    """Reads `length` bytes of the source from `offset`. Raises BlobMismatch if it is shorter."""
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        file.seek(offset)
        body = file.read(length)
    if len(body) != length:
        raise BlobMismatch
    md5 = hashlib.md5(body, usedforsecurity=False)
    return _Part(io.BytesIO(body), _base64(hashlib.sha256(body).digest()), _base64(md5.digest()))


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
