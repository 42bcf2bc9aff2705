"""Blobs in a bucket of Amazon S3 or of a compatible server. registry.storage.s3_upload uploads them."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from registry.errors import StorageUnavailable
from registry.storage.base import (
    CHUNK_BYTES,
    ERRORS,
    BlobInfo,
    BlobMissing,
    check_key,
    check_range,
    is_key,
)
from registry.storage.s3_features import detect
from registry.storage.s3_upload import (
    FAILURES,
    MISSING,
    TIME_LIMITS,
    Features,
    TimeLimits,
    Uploader,
    abort_upload,
    error_code,
)

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_s3(
    *,
    bucket: str,
    region: str | None = None,
    endpoint: str | None = None,
    public_endpoint: str | None = None,
    access_key: str | None = None,
    secret_key: str | None = None,
    ca: Path | None = None,
    prefix: str = "",
    limits: TimeLimits = TIME_LIMITS,
) -> AsyncIterator["S3Storage"]:
    """The storage in an existing bucket, below `prefix`. It does not wait for the server.

    Without `endpoint` the server is Amazon's. Without keys the usual AWS credential chain applies. Presigned addresses
    are made for `public_endpoint`, if clients reach the server by another address. `ca` is a PEM file of authorities
    that replace the public ones. Raises StorageUnavailable if no client can be created from these values.
    """
    config = AioConfig(
        connect_timeout=2,
        read_timeout=10,
        retries={"mode": "standard", "total_max_attempts": 3},
        # A slow reader keeps its connection for minutes. If the pool were full, all others would wait.
        max_pool_connections=256,
        signature_version="s3v4",
        # The signed checksum header covers the body. Signing the body, too, would hash it on the event loop.
        s3={"addressing_style": "path" if endpoint or public_endpoint else "auto", "payload_signing_enabled": False},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session = get_session()
    async with AsyncExitStack() as stack:

        async def open_client(address: str | None) -> Any:
            making = session.create_client(
                "s3",
                region_name=region,
                endpoint_url=address,
                aws_access_key_id=access_key,
                aws_secret_access_key=secret_key,
                verify=str(ca) if ca else None,
                config=config,
            )
            with _named_errors("open"):
                return await stack.enter_async_context(making)

        client = await open_client(endpoint)
        signer = await open_client(public_endpoint) if public_endpoint else client
        storage = S3Storage(client, bucket, prefix, signer=signer, limits=limits)
        stack.push_async_callback(storage.aclose)
        # The start does not wait for the detection, because the server may be unavailable.
        detecting = asyncio.create_task(_detect_soon(storage, limits.detect_retry_seconds))
        stack.push_async_callback(_cancelled, detecting)
        yield storage


class S3Storage:
    """See registry.storage.base.Storage. `client` and `signer` are open aiobotocore S3 clients.

    `signer` only makes presigned addresses.
    """

    def __init__(self, client: Any, bucket: str, prefix: str, *, signer: Any, limits: TimeLimits) -> None:
        self._client = client
        self._signer = signer
        self._limits = limits
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._features: Features | None = None
        self._detecting: asyncio.Task[Features] | None = None
        self._uploader: Uploader | None = None

    async def put(
        self, key: str, source: Path | bytes, *, size: int, sha256: str, content_type: str = "application/gzip"
    ) -> None:
        target = self._target(key)
        with _named_errors("put", key):
            uploader = await self._detected()
            await uploader.put(target, source, size=size, sha256=sha256, content_type=content_type)

    @asynccontextmanager
    async def open(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        target = self._target(key)
        check_range(start, end)
        body = await self._body(target, start, end)
        try:
            async with aclosing(_chunks(body, key)) as chunks:
                yield chunks
        finally:
            if body is not None:
                body.close()

    async def stat(self, key: str) -> int | None:
        target = self._target(key)
        with _named_errors("stat", key):
            async with asyncio.timeout(self._limits.answer_seconds):
                try:
                    return int((await self._client.head_object(**target))["ContentLength"])
                except ClientError as error:
                    if error_code(error) not in MISSING:
                        raise
                # A response to HEAD has no body, so a missing bucket looks like a missing blob.
                await self._client.head_bucket(Bucket=self._bucket)
        return None

    async def delete(self, key: str) -> None:
        target = self._target(key)
        with _named_errors("delete", key):
            await self._client.delete_object(**target)

    async def list(self, prefix: str = "") -> AsyncIterator[BlobInfo]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with _named_errors("list"):
            async for page in pages:
                for blob in page.get("Contents", ()):
                    key = blob["Key"].removeprefix(self._prefix)
                    # Some servers resolve `a//` or `../` in a prefix like a path.
                    if key.startswith(prefix) and is_key(key):
                        yield BlobInfo(key, blob["Size"], blob["LastModified"].astimezone(UTC))

    async def presign(self, key: str, *, expires: int, filename: str, cache_control: str) -> str | None:
        header = Message()
        header.add_header("Content-Disposition", "attachment", filename=filename)
        wanted = {
            **self._target(key),
            "ResponseContentDisposition": header["Content-Disposition"],
            "ResponseContentType": "application/gzip",
            "ResponseCacheControl": cache_control,
        }
        with _named_errors("presign", key):
            url = await self._signer.generate_presigned_url("get_object", Params=wanted, ExpiresIn=expires)
        return str(url)

    async def stale_uploads(self, older_than: timedelta) -> int:
        return len(await self._stale(older_than))

    async def abort_stale_uploads(self, older_than: timedelta) -> int:
        aborted = 0
        for upload in await self._stale(older_than):
            with _named_errors("abort"):
                aborted += await abort_upload(
                    self._client, {"Bucket": self._bucket, "Key": upload["Key"]}, upload["UploadId"]
                )
        return aborted

    async def check(self) -> None:
        with _named_errors("check"):
            async with asyncio.timeout(self._limits.check_seconds):
                await self._client.head_bucket(Bucket=self._bucket)

    @property
    def refused_headers(self) -> Sequence[str]:
        return self._features.refused if self._features else []

    async def detect_features(self) -> None:
        with _named_errors("probe"):
            await self._detected()

    async def aclose(self) -> None:
        if self._detecting:
            await _cancelled(self._detecting)
        if self._uploader:
            await self._uploader.aclose()

    async def _detected(self) -> Uploader:
        """The uploader that fits the server. All callers wait for the same detection."""
        if self._uploader is None:
            if self._detecting is None or self._detecting.done():
                self._detecting = asyncio.create_task(detect(self._client, self._bucket, self._prefix, self._limits))
            self._features = await asyncio.shield(self._detecting)
            self._uploader = self._uploader or Uploader(self._client, self._features, self._limits.body_seconds)
        return self._uploader

    async def _stale(self, older_than: timedelta) -> Sequence[Any]:
        before = datetime.now(UTC) - older_than
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix)
        with _named_errors("abort"):
            return [u async for page in pages for u in page.get("Uploads", ()) if u["Initiated"] < before]

    def _target(self, key: str) -> dict[str, Any]:
        check_key(key)
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    async def _body(self, target: dict[str, Any], start: int, end: int | None) -> Any:
        """The body of the response, or None if the blob has no byte in the range. Raises BlobMissing."""
        if start == end:
            if await self.stat(target["Key"].removeprefix(self._prefix)) is None:
                raise BlobMissing
            return None
        wanted = dict(target)
        if start or end is not None:
            wanted["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        with _named_errors("open", target["Key"]):
            try:
                async with asyncio.timeout(self._limits.answer_seconds):
                    return (await self._client.get_object(**wanted))["Body"]
            except ClientError as error:
                if error_code(error) in MISSING:
                    raise BlobMissing from None
                if error_code(error) == "InvalidRange":
                    return None
                raise


async def _chunks(body: Any, key: str) -> AsyncGenerator[bytes, None]:
    while body is not None:
        with _named_errors("read", key):
            chunk = await body.read(CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


async def _detect_soon(storage: S3Storage, retry_seconds: float) -> None:
    """Detects the features before the first upload needs them. Retries while the server is away."""
    while True:
        try:
            await storage.detect_features()
        except StorageUnavailable:
            await asyncio.sleep(retry_seconds)
        else:
            return


async def _cancelled(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait([task])


@contextmanager
def _named_errors(operation: str, key: str = "") -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        ERRORS.labels(operation).inc()
        log.warning(
            "blob storage failed",
            extra={"operation": operation, "key": key, "kind": type(error).__name__, "error": str(error)},
        )
        raise StorageUnavailable("The package storage can't be used right now") from error
