"""Publishing: inspect the tarball, check, store the blob, then rows and event in one transaction."""

import asyncio
import hashlib
import logging
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from typing_extensions import TypedDict

from registry.accounts.identity import Principal
from registry.db.engine import Connection, Database
from registry.errors import (
    ChecksumMismatch,
    FieldError,
    Forbidden,
    IdempotencyKeyReused,
    InvalidInput,
    NameReserved,
    NameTooSimilar,
    VersionBurned,
    VersionExists,
)
from registry.events import log as event_log
from registry.packages import archive, manifest, names, store
from registry.packages.manifest import Metadata
from registry.storage.base import Storage
from registry.web.spool import Spooled

log = logging.getLogger(__name__)

_CHECKSUM = re.compile(r"[0-9a-fA-F]{64}")


class PublishedPackage(TypedDict):
    id: int
    name: str
    version: str
    published_at: datetime
    url: str
    checksum: str
    size: int
    seq: int


class Published(TypedDict):
    """The answer to a publish."""

    success: bool
    package: PublishedPackage
    checksum: str
    size: int
    seq: int


@dataclass(frozen=True)
class Upload:
    """What was sent: the fields of the request, the spooled tarball, and how it is to be taken.

    `required` names the fields the request itself must give. Texts of headers come as sent, None when absent.
    """

    request: Mapping[str, Any]
    tarball: Spooled
    required: tuple[str, ...] = ()
    checksum: str | None = None
    idempotency_key: str | None = None
    dry_run: bool = False


async def publish(db: Database, storage: Storage, who: Principal, upload: Upload) -> Published:
    """Publishes `upload` as `who`, and gives the answer: id and seq are 0 for a dry run.

    Raises InvalidArchive, InvalidManifest, InvalidInput, ChecksumMismatch, Forbidden, NameReserved, NameTooSimilar,
    VersionExists, VersionBurned, IdempotencyKeyReused, and Unavailable when a server is away.
    """
    check_checksum(upload)
    meta = await _read_metadata(upload)
    fingerprint = _fingerprint(upload)
    if upload.idempotency_key and (earlier := await _earlier_answer(db, who, upload, fingerprint)):
        return earlier
    try:
        async with db.read() as conn:
            await _check(conn, who, meta, await store.find(conn, meta.name))
        if upload.dry_run:
            return _answer(0, meta, upload.tarball, 0, datetime.now(UTC))
        key = f"{meta.name}/{meta.version}/{upload.tarball.sha256}-{secrets.token_hex(8)}.tar.gz"
        await storage.put(key, upload.tarball.path, size=upload.tarball.size, sha256=upload.tarball.sha256)
        return await _commit(db, who, meta, upload, key, fingerprint)
    except VersionExists:
        # Of two repeats at once one loses here, and its answer is the other's.
        if upload.idempotency_key and (earlier := await _earlier_answer(db, who, upload, fingerprint)):
            return earlier
        raise


def check_checksum(upload: Upload) -> None:
    if upload.checksum is None:
        return
    if not _CHECKSUM.fullmatch(upload.checksum):
        raise InvalidInput.field("X-Checksum-SHA256", "must be 64 hexadecimal digits")
    if upload.checksum.lower() != upload.tarball.sha256:
        raise ChecksumMismatch(
            f"The tarball's SHA-256 is {upload.tarball.sha256}, not the {upload.checksum.lower()} that was announced."
        )


async def _read_metadata(upload: Upload) -> Metadata:
    """Inspects the archive and merges the fields, with the problems of both in one error."""
    try:
        found = await asyncio.to_thread(archive.inspect, upload.tarball.path)
    except InvalidInput as problem:
        errors = problem.errors or [FieldError(field="tarball", message=problem.detail)]
        raise type(problem)(problem.detail, errors=[*await _request_errors(upload), *errors]) from problem
    return await asyncio.to_thread(
        manifest.merge, upload.request, found.manifest, readme=found.readme, required=upload.required
    )


async def _request_errors(upload: Upload) -> list[FieldError]:
    """What is wrong with the request's own fields, whatever the archive holds."""
    try:
        await asyncio.to_thread(manifest.merge, upload.request, {}, required=upload.required)
    except InvalidInput as problem:
        return [error for error in problem.errors if "synapse.json" not in error["message"]]
    return []


async def _check(conn: Connection, who: Principal, meta: Metadata, package: Any) -> None:
    """The rules about name, owner and number, on the package row as it is (None: a new name)."""
    who.require("publish", meta.name)
    if meta.name in names.RESERVED and not who.is_admin:
        raise NameReserved(f"The name {meta.name} is reserved; choose another.")
    if package is None:
        return
    if package.owner_id != who.user_id:
        raise Forbidden(f"{package.name} belongs to somebody else; publish under another name.")
    if package.name != meta.name:
        raise NameTooSimilar(f"{meta.name} is too similar to {package.name}, which exists; publish under that name.")
    state = await store.version_state(conn, package.id, meta.version.canonical)
    if state is None:
        return
    if state.deleted_at is not None:
        raise VersionBurned(f"{meta.name} {meta.version} was deleted; a number is never used again. Raise the version.")
    raise VersionExists(
        f"{meta.name} {state.version} exists, and published versions never change. Raise the version to publish."
    )


async def _commit(
    db: Database, who: Principal, meta: Metadata, upload: Upload, key: str, fingerprint: str
) -> Published:
    tarball = upload.tarball
    async with db.transaction() as conn:
        package = await store.claim(conn, meta.name, who.user_id)
        await _check(conn, who, meta, package)
        row = await store.add_version(
            conn, package.id, meta, checksum=tarball.sha256, key=key, size=tarball.size, user_id=who.user_id
        )
        await store.refresh(conn, package.id)
        seq = await event_log.append(
            conn,
            event_log.VERSION_PUBLISHED,
            package_id=package.id,
            package=meta.name,
            version=meta.version.text,
            actor_id=who.user_id,
            data={"checksum": tarball.sha256, "size": tarball.size},
        )
        answer = _answer(package.id, meta, tarball, seq, row.published_at)
        if upload.idempotency_key:
            await store.remember(conn, who.user_id, upload.idempotency_key, fingerprint, answer)
    log.info("published", extra={"package": meta.name, "version": meta.version.text, "seq": seq})
    return answer


def _answer(package_id: int, meta: Metadata, tarball: Spooled, seq: int, published_at: datetime) -> Published:
    package: PublishedPackage = {
        "id": package_id,
        "name": meta.name,
        "version": meta.version.text,
        "published_at": published_at,
        "url": f"/api/v1/packages/{meta.name}/{meta.version}",
        "checksum": tarball.sha256,
        "size": tarball.size,
        "seq": seq,
    }
    return {"success": True, "package": package, "checksum": tarball.sha256, "size": tarball.size, "seq": seq}


def _fingerprint(upload: Upload) -> str:
    """Equal for two uploads that ask for the same."""
    fields = {name: value for name, value in upload.request.items() if name in manifest.FIELDS}
    text = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text + upload.tarball.sha256.encode()).hexdigest()


async def _earlier_answer(db: Database, who: Principal, upload: Upload, fingerprint: str) -> Published | None:
    async with db.read() as conn:
        row = await store.answer_of(conn, who.user_id, upload.idempotency_key or "")
    if row is None:
        return None
    if row.fingerprint != fingerprint:
        raise IdempotencyKeyReused("This Idempotency-Key was used for another upload; take a new one.")
    answer: Published = row.answer
    return answer
