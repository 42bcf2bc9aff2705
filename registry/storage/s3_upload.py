"""How a file gets into a bucket: once or not at all, in bounded memory.

Files up to PART_BYTES go up in one request, larger ones in parts. Each request carries the SHA-256 of its body, so a
server keeps nothing that changed on the wire, and the last one `If-None-Match: *`, so no key is written twice.
"""

import asyncio
import base64
import hashlib
import io
import logging
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
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


class Uploader:
    """Puts files through one open aiobotocore S3 client. A target is the Bucket and the Key to write.

    Its methods raise any of FAILURES: naming them is the caller's.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._bodies = asyncio.Semaphore(PARTS_IN_MEMORY)
        self._cleanups: set[asyncio.Task[None]] = set()

    async def put(self, target: Mapping[str, str], source: Path, *, size: int, sha256: str, content_type: str) -> None:
        """As Storage.put, with BlobExists and BlobMismatch."""
        if (await asyncio.to_thread(source.stat)).st_size != size:
            raise BlobMismatch
        receipt = uuid.uuid4().hex
        wanted = {**target, "ContentType": content_type, "Metadata": {"receipt": receipt, "sha256": sha256}}
        try:
            if size <= PART_BYTES:
                await self._put_whole(wanted, source, size, sha256)
            else:
                await self._put_in_parts(target, wanted, source, size)
        except ClientError as error:
            if error_code(error) not in _MAYBE_OURS or not await self._arrived(target, receipt):
                raise

    async def abort(self, target: Mapping[str, str], upload_id: str) -> bool:
        """Drop the parts of an upload; False when it was already over."""
        try:
            await self._client.abort_multipart_upload(**target, UploadId=upload_id)
        except ClientError as error:
            if error_code(error) != "NoSuchUpload":
                raise
            return False
        return True

    async def aclose(self) -> None:
        """Wait for the uploads that are being aborted."""
        await asyncio.gather(*self._cleanups)

    async def _put_whole(self, wanted: Mapping[str, Any], source: Path, size: int, sha256: str) -> None:
        async with self._body(source, 0, size) as (body, checksum):
            if checksum != base64.b64encode(bytes.fromhex(sha256)).decode():
                raise BlobMismatch
            await self._client.put_object(**wanted, Body=body, ChecksumSHA256=checksum, IfNoneMatch="*")

    async def _put_in_parts(
        self, target: Mapping[str, str], wanted: Mapping[str, Any], source: Path, size: int
    ) -> None:
        starting = asyncio.create_task(self._client.create_multipart_upload(**wanted, ChecksumAlgorithm="SHA256"))
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._abandon, target, starting)
            # Not to be cancelled: an upload whose id never arrived could not be aborted.
            upload = {**target, "UploadId": (await asyncio.shield(starting))["UploadId"]}
            parts = await self._send_parts(upload, source, size)
            await self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
            undo.pop_all()

    async def _send_parts(self, upload: Mapping[str, str], source: Path, size: int) -> list[dict[str, Any]]:
        """What CompleteMultipartUpload wants to know of each part, in their order."""
        turns = asyncio.Semaphore(PARTS_PER_UPLOAD)

        async def send(offset: int) -> dict[str, Any]:
            number = offset // PART_BYTES + 1
            async with turns, self._body(source, offset, min(PART_BYTES, size - offset)) as (body, checksum):
                answer = await self._client.upload_part(**upload, PartNumber=number, Body=body, ChecksumSHA256=checksum)
            return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}

        try:
            async with asyncio.TaskGroup() as group:
                sending = [group.create_task(send(offset)) for offset in range(0, size, PART_BYTES)]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [part.result() for part in sending]

    @asynccontextmanager
    async def _body(self, source: Path, offset: int, length: int) -> AsyncIterator[tuple[io.BytesIO, str]]:
        """Bytes to send, and their SHA-256 in Base64: within the bounds of memory, and of time to send them."""
        async with self._bodies:
            part = await asyncio.to_thread(_read_part, source, offset, length)
            # A server that accepts the connection and then stays silent trips no timeout of the client's
            # own while the body waits to be sent.
            async with asyncio.timeout(BODY_SECONDS):
                yield part

    async def _abandon(self, target: Mapping[str, str], starting: asyncio.Task[dict[str, Any]]) -> None:
        """Abort the upload however often the caller is cancelled meanwhile; what fails is left to the sweep."""

        async def abort() -> None:
            try:
                await self.abort(target, (await starting)["UploadId"])
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
        try:
            head = await self._client.head_object(**target)
        except ClientError as error:
            if error_code(error) not in MISSING:
                raise
            return False
        if head["Metadata"].get("receipt") != receipt:
            raise BlobExists
        return True


def error_code(error: ClientError) -> str:
    """S3's own code, such as NoSuchKey, or the status where an answer had no body to hold one."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _read_part(source: Path, offset: int, length: int) -> tuple[io.BytesIO, str]:
    """`length` bytes of the file from `offset`, and their SHA-256 in Base64. BlobMismatch when it ends before."""
    with source.open("rb") as file:
        file.seek(offset)
        body = file.read(length)
    if len(body) != length:
        raise BlobMismatch
    return io.BytesIO(body), base64.b64encode(hashlib.sha256(body).digest()).decode()
