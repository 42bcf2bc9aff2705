"""How a file gets into a bucket: once or not at all, in bounded memory.

Files up to PART_BYTES go up in one request, larger ones in parts. Each request carries the SHA-256 of its body, so the
server stores nothing that changed on the wire. The last request has `If-None-Match: *`, so no key is written twice.
A server that refuses one of these headers gets Content-MD5, and a HEAD before the upload, instead.
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

from registry.storage.base import BlobExists, BlobMismatch

log = logging.getLogger(__name__)

PART_BYTES = 8 * 1024 * 1024
PARTS_PER_UPLOAD = 2
PARTS_IN_MEMORY = 8
BODY_SECONDS = 60

FAILURES = (BotoCoreError, ClientError, ResponseParserError, aiohttp.ClientError, OSError)
MISSING = {"NoSuchKey", "404"}
# What the repeat of a put is refused with, when the first try got through but its answer did not.
_MAYBE_OURS = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409", "NoSuchUpload"}


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
    """Puts files through one open aiobotocore S3 client. A target is the Bucket and the Key to write.

    Its methods raise any of FAILURES: naming them is the caller's.
    """

    def __init__(self, client: Any, features: Features) -> None:
        self._client = client
        self._checksum = features.checksum
        self._condition: dict[str, str] = {"IfNoneMatch": "*"} if features.condition else {}
        self._bodies = asyncio.Semaphore(PARTS_IN_MEMORY)
        self._cleanups: set[asyncio.Task[None]] = set()

    async def put(
        self,
        target: Mapping[str, str],
        source: Path,
        *,
        size: int,
        sha256: str,
        content_type: str,
        in_parts: bool | None = None,
    ) -> None:
        """As Storage.put, with BlobExists and BlobMismatch. `in_parts` is by default decided by the size."""
        if (await asyncio.to_thread(source.stat)).st_size != size:
            raise BlobMismatch
        receipt = uuid.uuid4().hex
        wanted = {**target, "ContentType": content_type, "Metadata": {"receipt": receipt, "sha256": sha256}}
        if not self._condition and await self._receipt(target) is not None:
            raise BlobExists
        try:
            if size > PART_BYTES if in_parts is None else in_parts:
                await self._put_in_parts(target, wanted, source, size)
            else:
                await self._put_whole(wanted, source, size, sha256)
        except ClientError as error:
            if error_code(error) not in _MAYBE_OURS or not await self._arrived(target, receipt):
                raise

    async def aclose(self) -> None:
        """Wait for the uploads that are being aborted."""
        await asyncio.gather(*self._cleanups)

    async def _put_whole(self, wanted: Mapping[str, Any], source: Path, size: int, sha256: str) -> None:
        async with self._body(source, 0, size) as part:
            if part.sha256 != _base64(bytes.fromhex(sha256)):
                raise BlobMismatch
            await self._client.put_object(**wanted, **self._verified(part), **self._condition)

    async def _put_in_parts(
        self, target: Mapping[str, str], wanted: Mapping[str, Any], source: Path, size: int
    ) -> None:
        algorithm = {"ChecksumAlgorithm": "SHA256"} if self._checksum else {}
        starting = asyncio.create_task(self._client.create_multipart_upload(**wanted, **algorithm))
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._abandon, target, starting)
            # Not to be cancelled: an upload whose id never arrived could not be aborted.
            upload = {**target, "UploadId": (await asyncio.shield(starting))["UploadId"]}
            parts = await self._send_parts(upload, source, size)
            await self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **self._condition)
            undo.pop_all()

    async def _send_parts(self, upload: Mapping[str, str], source: Path, size: int) -> list[dict[str, Any]]:
        """What CompleteMultipartUpload wants to know of each part, in their order."""
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
    async def _body(self, source: Path, offset: int, length: int) -> AsyncIterator["_Part"]:
        """Bytes to send: within the bounds of memory, and of time to send them."""
        async with self._bodies:
            part = await asyncio.to_thread(_read_part, source, offset, length)
            # A server that accepts the connection and then stays silent trips no timeout of the client's
            # own while the body waits to be sent.
            async with asyncio.timeout(BODY_SECONDS):
                yield part

    def _verified(self, part: "_Part") -> dict[str, Any]:
        """The body, and the header by which the server verifies it."""
        if self._checksum:
            return {"Body": part.body, "ChecksumSHA256": part.sha256}
        return {"Body": part.body, "ContentMD5": part.md5}

    async def _abandon(self, target: Mapping[str, str], starting: asyncio.Task[dict[str, Any]]) -> None:
        """Abort the upload however often the caller is cancelled meanwhile; what fails is left to the sweep."""

        async def abort() -> None:
            try:
                await abort_upload(self._client, target, (await starting)["UploadId"])
            except FAILURES as error:
                log.warning("unfinished upload left to the sweep", extra={"key": target["Key"], "error": str(error)})

        cleanup = asyncio.create_task(abort())
        self._cleanups.add(cleanup)
        cleanup.add_done_callback(self._cleanups.discard)
        await asyncio.shield(cleanup)

    async def _arrived(self, target: Mapping[str, str], receipt: str) -> bool:
        """Whether the blob is there, put by us: the first answer got lost, and so the repeat was refused.

        BlobExists when it is of another put.
        """
        found = await self._receipt(target)
        if found not in (None, receipt):
            raise BlobExists
        return found is not None

    async def _receipt(self, target: Mapping[str, str]) -> str | None:
        """The receipt of the blob's put, "" when it has none; None when there is no blob."""
        try:
            head = await self._client.head_object(**target)
        except ClientError as error:
            if error_code(error) not in MISSING:
                raise
            return None
        return str(head["Metadata"].get("receipt", ""))


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes of a file, and their digests in Base64."""

    body: io.BytesIO
    sha256: str
    md5: str


async def abort_upload(client: Any, target: Mapping[str, str], upload_id: str) -> bool:
    """Drop the parts of an upload; False when it was already over."""
    try:
        await client.abort_multipart_upload(**target, UploadId=upload_id)
    except ClientError as error:
        if error_code(error) != "NoSuchUpload":
            raise
        return False
    return True


def error_code(error: ClientError) -> str:
    """S3's own code, such as NoSuchKey, or the status where an answer had no body to hold one."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _read_part(source: Path, offset: int, length: int) -> _Part:
    """`length` bytes of the file from `offset`. BlobMismatch when it ends before."""
    with source.open("rb") as file:
        file.seek(offset)
        body = file.read(length)
    if len(body) != length:
        raise BlobMismatch
    md5 = hashlib.md5(body, usedforsecurity=False)
    return _Part(io.BytesIO(body), _base64(hashlib.sha256(body).digest()), _base64(md5.digest()))


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
