"""Finds out which optional request headers an S3 server accepts.

Uploads send `x-amz-checksum-sha256`, so that the server refuses a body that changed on the wire, and
`If-None-Match: *`, so that it refuses to overwrite a blob. Some servers other than Amazon's answer 400, 403 or 501 to
one of them. The registry works without both: Content-MD5 protects the body instead, and no key is used twice anyway.
"""

import asyncio
import hashlib
import logging
import uuid
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from registry.storage.s3_upload import FAILURES, Features, TimeLimits, Uploader

log = logging.getLogger(__name__)

# A blob key never begins with a dot. So lists and sweeps ignore objects that a killed process left here.
PROBE_FOLDER = ".probe"
# The probe uploads this source file. A temporary file would need a writable folder.
_PROBE = Path(__file__)
# In the order of preference. Every server accepts the last one.
_CANDIDATES = (
    Features(),
    Features(checksum=False),
    Features(condition=False),
    Features(checksum=False, condition=False),
)
_REFUSALS = (400, 403, 501)


async def detect(client: Any, bucket: str, prefix: str, limits: TimeLimits) -> Features:
    """Uploads small objects below `prefix`, removes them, and returns what the server accepts. Raises any of FAILURES.

    Takes `limits.detect_seconds` at most.
    """
    async with asyncio.timeout(limits.detect_seconds):
        for features in _CANDIDATES:
            uploader = Uploader(client, features, limits.body_seconds)
            try:
                await _try(client, uploader, bucket, f"{prefix}{PROBE_FOLDER}/{uuid.uuid4().hex}")
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                if features == _CANDIDATES[-1] or status not in _REFUSALS:
                    raise
            else:
                break
    if features.refused:
        log.warning("S3 server refuses request headers, continuing without", extra={"headers": features.refused})
    return features


async def _try(client: Any, uploader: Uploader, bucket: str, key: str) -> None:
    """Uploads one object in one request and another one in parts, and removes both."""
    content = await asyncio.to_thread(_PROBE.read_bytes)
    facts: dict[str, Any] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    for in_parts, name in ((False, key), (True, f"{key}-parts")):
        target = {"Bucket": bucket, "Key": name}
        await uploader.put(target, _PROBE, content_type="text/plain", in_parts=in_parts, **facts)
        await _remove(client, target)
    await uploader.aclose()


async def _remove(client: Any, target: dict[str, str]) -> None:
    try:
        await client.delete_object(**target)
    except FAILURES as error:
        log.warning("probe object was not removed", extra={"key": target["Key"], "error": str(error)})
