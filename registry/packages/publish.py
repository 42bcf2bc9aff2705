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
    Conflict,
    FieldError,
    Forbidden,
    IdempotencyKeyReused,
    InvalidInput,
    NameReserved,
    NameTooSimilar,
    RegistryError,
    VersionBurned,
    VersionExists,
)
from registry.packages import archive, manifest, names, rights, store, versions
from registry.packages.manifest import Metadata
from registry.packages.rights import Action
from registry.packages.versions import Version
from registry.storage.base import Storage
from registry.web.spool import Spooled

log = logging.getLogger(__name__)

KEY_REUSED = "This Idempotency-Key was used for another upload; take a new one."
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
    """Publishes `upload` as `who`, and gives the answer: id and seq are 0 for a dry run, which keeps nothing.

    Raises InvalidArchive, InvalidManifest, InvalidInput, ChecksumMismatch, Forbidden, NameReserved, NameTooSimilar,
    VersionExists, VersionBurned, IdempotencyKeyReused, and Unavailable when a server is away.
    """
    if upload.dry_run:
        return await _rehearse(db, who, upload)
    _check_checksum(upload)
    meta, fingerprint = await asyncio.to_thread(lambda: (_read_metadata(upload), _fingerprint(upload)))
    if upload.idempotency_key and (earlier := await _earlier_answer(db, who, upload, fingerprint)):
        return earlier
    try:
        async with db.read() as conn:
            await _check(conn, who, meta.name, meta.version, await store.find(conn, meta.name, who.user_id))
        key = f"{meta.name}/{meta.version}/{upload.tarball.sha256}-{secrets.token_hex(8)}.tar.gz"
        await storage.put(key, upload.tarball.path, size=upload.tarball.size, sha256=upload.tarball.sha256)
        return await _commit(db, who, meta, upload, key, fingerprint)
    except VersionExists:
        # Of two repeats at once one loses here, and its answer is the other's.
        if upload.idempotency_key and (earlier := await _earlier_answer(db, who, upload, fingerprint)):
            return earlier
        raise


async def _rehearse(db: Database, who: Principal, upload: Upload) -> Published:
    """Everything but keeping it. Raises the first problem with the texts and errors of all the others added to it."""
    problems: list[RegistryError] = []
    meta = None
    name, version = _asked_for(upload)
    try:
        _check_checksum(upload)
    except InvalidInput as problem:
        problems.append(problem)
    try:
        meta = await asyncio.to_thread(_read_metadata, upload)
        name, version = meta.name, meta.version
    except InvalidInput as problem:
        problems.append(problem)
    if name and version:
        try:
            async with db.read() as conn:
                await _check(conn, who, name, version, await store.find(conn, name, who.user_id))
        except (Forbidden, Conflict) as problem:
            field = "version" if isinstance(problem, VersionExists | VersionBurned) else "name"
            problem.errors.append({"field": field, "message": problem.detail})
            problems.append(problem)
    if meta is None or problems:
        details = "; ".join(problem.detail for problem in problems)
        raise type(problems[0])(details, errors=[error for problem in problems for error in problem.errors])
    return _answer(0, meta, upload.tarball, 0, datetime.now(UTC))


def _asked_for(upload: Upload) -> tuple[str | None, Version | None]:
    """The name and version of the request, each None when it can't be read."""
    name, version = (upload.request.get(field) for field in ("name", "version"))
    try:
        parsed = versions.parse(version) if isinstance(version, str) else None
    except InvalidInput:
        parsed = None
    return (name if isinstance(name, str) and names.name_problem(name) is None else None), parsed


def _check_checksum(upload: Upload) -> None:
    if upload.checksum is None:
        return
    if not _CHECKSUM.fullmatch(upload.checksum):
        raise InvalidInput.field("X-Checksum-SHA256", "must be 64 hexadecimal digits")
    if upload.checksum.lower() != upload.tarball.sha256:
        message = f"The tarball's SHA-256 is {upload.tarball.sha256}, not the {upload.checksum.lower()} announced."
        raise ChecksumMismatch(message, errors=[{"field": "X-Checksum-SHA256", "message": message}])


def _read_metadata(upload: Upload) -> Metadata:
    """Inspects the archive and merges the fields, with the problems of both in one error. For a thread."""
    try:
        found = archive.inspect(upload.tarball.path)
    except InvalidInput as problem:
        own = problem.errors or [FieldError(field="tarball", message=problem.detail)]
        requested = manifest.request_problems(upload.request, upload.required)
        raise type(problem)(problem.detail, errors=[*requested, *own]) from problem
    return manifest.merge(upload.request, found.manifest, readme=found.readme, required=upload.required)


async def _check(conn: Connection, who: Principal, name: str, version: Version, package: Any) -> None:
    """The rules about name, owner and number, on the package row as it is (None: a new name)."""
    rights.check_credentials(who, Action.PUBLISH, name)
    if name in names.RESERVED and not who.is_admin:
        raise NameReserved(f"The name {name} is reserved; choose another.")
    if package is None:
        return
    if package.name != name:
        raise NameTooSimilar(f"{name} is too similar to {package.name}, which exists; choose another name.")
    rights.authorize(who, Action.PUBLISH, name, package.role)
    state = await store.version_state(conn, package.id, version.canonical)
    if state is None:
        return
    if state.deleted_at is not None:
        raise VersionBurned(f"{name} {version} was deleted; a number is never used again. Raise the version.")
    raise VersionExists(
        f"{name} {state.version} exists, and published versions never change. Raise the version to publish."
    )


async def _commit(
    db: Database, who: Principal, meta: Metadata, upload: Upload, key: str, fingerprint: str
) -> Published:
    tarball = upload.tarball
    async with db.transaction() as conn:
        package = await store.claim(conn, meta.name, who.user_id)
        if not package.is_new:
            await _check(conn, who, meta.name, meta.version, package)
        seq = await store.add_version(
            conn, package.id, meta, checksum=tarball.sha256, key=key, size=tarball.size, user_id=who.user_id
        )
        answer = _answer(package.id, meta, tarball, seq, package.now)
        idempotent = upload.idempotency_key
        if idempotent and not await store.remember(conn, who.user_id, idempotent, fingerprint, answer):
            raise IdempotencyKeyReused(KEY_REUSED)
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
        raise IdempotencyKeyReused(KEY_REUSED)
    answer: Published = row.answer
    return answer
