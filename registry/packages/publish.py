"""Publishes a version: inspects and stores its tarball, and commits its row together with an event."""

import asyncio
import contextlib
import hashlib
import logging
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from typing_extensions import TypedDict

from registry.accounts.identity import Principal
from registry.db.engine import ConstraintViolated, Database, Row
from registry.errors import (
    ChecksumMismatch,
    FieldError,
    IdempotencyKeyReused,
    InvalidInput,
    NameTooSimilar,
    StorageUnavailable,
    VersionExists,
)
from registry.events import audit
from registry.package_format import archive, manifest, names, versions
from registry.package_format.manifest import Metadata
from registry.package_format.member_names import ArchiveWarning
from registry.package_format.versions import Version
from registry.packages.idempotency import store as idempotency
from registry.packages.inspection import InspectionPool
from registry.packages.provenance import provenance_of
from registry.packages.publication import store
from registry.packages.publication.check import check
from registry.packages.publication.problems import Problems
from registry.storage.base import Storage
from registry.web.spool import Spooled

log = logging.getLogger(__name__)

KEY_REUSED = "This Idempotency-Key was used for another upload. Send a new key."
# A publish that finds its package changed is tried again. Each time another transaction has made progress.
TRIES = 3
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
    """The answer to a publish. `warnings` lists names in the tarball that not every system can unpack."""

    success: bool
    package: PublishedPackage
    checksum: str
    size: int
    seq: int
    warnings: list[ArchiveWarning]


@dataclass(frozen=True)
class Upload:
    """An upload: the fields of the request, the spooled tarball and the options.

    `required` names the fields that the request must have. `checksum` and `idempotency_key` are the values of headers.
    """

    request: Mapping[str, Any]
    tarball: Spooled
    required: tuple[str, ...] = ()
    checksum: str | None = None
    idempotency_key: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class _Inspected:
    """The result of inspecting an upload. Uploads with the same fields and tarball have the same `fingerprint`."""

    meta: Metadata
    warnings: list[ArchiveWarning]
    fingerprint: str


@dataclass(frozen=True)
class _Prepared:
    """What the database said when the check passed, and the key of the tarball if it is stored already."""

    state: Row
    key: str | None


async def publish(
    db: Database, storage: Storage, inspections: InspectionPool, who: Principal, upload: Upload
) -> Published:
    """Publishes `upload` as `who`. A dry run stores nothing. Its answer has 0 as `id` and `seq`.

    Raises InvalidArchive, InvalidManifest, InvalidInput, ChecksumMismatch, Forbidden, NameReserved, NameClosed,
    Quarantined, NameTooSimilar, VersionExists, VersionBurned, IdempotencyKeyReused, and Unavailable if a server is
    unavailable. The error of a dry run lists all problems.
    """
    problems = Problems(collect=upload.dry_run)
    with problems.step():
        _check_checksum(upload)
    found = prepared = None
    # The database answers, and a small tarball is stored, while a thread inspects the archive.
    async with _preparing(db, storage, who, upload) as preparing:
        with problems.step():
            found = await inspections.run(lambda: _inspect(upload))
        with problems.step():
            if found is not None and (earlier := await _earlier_answer(db, who, upload, found)) and not problems.found:
                return earlier
        try:
            with problems.step():
                prepared = await preparing()
            if found is None or prepared is None or problems.found:
                raise problems.combined()
            if upload.dry_run:
                return _answer(0, found, upload.tarball, 0, datetime.now(UTC))
            return await _keep(db, storage, who, upload, found, prepared)
        except (VersionExists, IdempotencyKeyReused):
            # Perhaps two requests with the same Idempotency-Key ran at once. Then the slower one gets the same answer.
            retried = found is not None and not upload.dry_run
            if retried and (earlier := await _earlier_answer(db, who, upload, found)):
                return earlier
            raise


@contextlib.asynccontextmanager
async def _preparing(
    db: Database, storage: Storage, who: Principal, upload: Upload
) -> AsyncIterator[Callable[[], Awaitable[_Prepared]]]:
    """Runs `_prepare` during the block. Yields a function that waits for its result or raises its error.

    If the block ends without that result, a tarball that is already stored is removed.
    """
    task = asyncio.create_task(_prepare(db, storage, who, upload))
    is_used = False

    async def result() -> _Prepared:
        nonlocal is_used
        prepared = await task
        is_used = True
        return prepared

    try:
        yield result
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        # Reading the exception marks it as retrieved: an earlier error may have ended the block.
        prepared = None if task.cancelled() or task.exception() else task.result()
        if prepared is not None and prepared.key is not None and not is_used:
            # The storage logs a failure, and the sweep removes the tarball later.
            with contextlib.suppress(StorageUnavailable):
                await storage.delete(prepared.key)


async def _prepare(db: Database, storage: Storage, who: Principal, upload: Upload) -> _Prepared:
    """Checks whether the rules allow the publish, and then stores the tarball if it is small.

    A large tarball is stored after its inspection, because storing it in vain would cost too much.
    """
    name, version = _requested(upload)
    state = await _read(db, who, name, version, wants_id=not upload.dry_run)
    if not name or not version:
        return _Prepared(state, None)
    check(who, name, version, state)
    if upload.dry_run or isinstance(upload.tarball.content, Path):
        return _Prepared(state, None)
    return _Prepared(state, await _put(storage, name, version, upload.tarball))


async def _put(storage: Storage, name: str, version: Version, tarball: Spooled) -> str:
    """Stores the tarball. Returns its key."""
    # A package has one folder for all its versions: a local storage syncs each folder of a key.
    key = f"{name}/{version}-{tarball.sha256}-{random.getrandbits(64):016x}.tar.gz"
    await storage.put(key, tarball.content, size=tarball.size, sha256=tarball.sha256)
    return key


async def _read(db: Database, who: Principal, name: str | None, version: Version | None, *, wants_id: bool) -> Row:
    """What `check` needs; None without a valid name and version."""
    if not name or not version:
        return None
    async with db.read() as conn:
        return await store.read(conn, name, version.canonical, who.user_id, wants_id=wants_id)


def _requested(upload: Upload) -> tuple[str | None, Version | None]:
    """The name and version of the request. Each is None if it is not valid."""
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
        expected = upload.checksum.lower()
        message = f"The tarball's SHA-256 is {upload.tarball.sha256}, but X-Checksum-SHA256 says {expected}."
        raise ChecksumMismatch(message, errors=[{"field": "X-Checksum-SHA256", "message": message}])


def _inspect(upload: Upload) -> _Inspected:
    """Inspects the archive and merges the fields. Errors list the problems of both. It blocks: call it in a thread."""
    try:
        found = archive.inspect(upload.tarball.content)
    except InvalidInput as problem:
        own = problem.errors or [FieldError(field="tarball", message=problem.detail)]
        requested = manifest.request_problems(upload.request, upload.required)
        raise type(problem)(problem.detail, errors=[*requested, *own]) from problem
    meta = manifest.merge(upload.request, found.manifest, readme=found.readme, required=upload.required)
    return _Inspected(meta, found.warnings, _fingerprint(upload))


async def _keep(
    db: Database, storage: Storage, who: Principal, upload: Upload, found: _Inspected, prepared: _Prepared
) -> Published:
    """Stores the tarball if it isn't yet. Then adds the version and its event in one transaction.

    The state was read before, without a lock. If it has changed, the transaction is refused by a constraint. Then it is
    read and checked again, so that the client gets the error that names what has changed.
    """
    meta, state = found.meta, prepared.state
    key = prepared.key or await _put(storage, meta.name, meta.version, upload.tarball)
    with _races_named(meta):
        for _ in range(TRIES - 1):
            try:
                return await _add(db, who, upload, found, state, key)
            except ConstraintViolated as error:
                if error.constraint not in store.CHANGED:
                    raise
                state = await _read(db, who, meta.name, meta.version, wants_id=True)
                check(who, meta.name, meta.version, state)
        return await _add(db, who, upload, found, state, key)


@contextlib.contextmanager
def _races_named(meta: Metadata) -> Iterator[None]:
    """Names the error of a publish that lost every race."""
    try:
        yield
    except ConstraintViolated as error:
        if error.constraint == "package_versions_canonical_key":
            raise VersionExists(
                f"{meta.name} {meta.version} was just published. Use another version number."
            ) from error
        if error.constraint in ("packages_name_key", "packages_similarity_key_key"):
            raise NameTooSimilar(f"{meta.name} or a similar name was just published. Choose another name.") from error
        raise


async def _add(db: Database, who: Principal, upload: Upload, found: _Inspected, state: Row, key: str) -> Published:
    """The transaction of a publish. Raises ConstraintViolated if `state` has changed."""
    meta, tarball, repeat_key = found.meta, upload.tarball, upload.idempotency_key
    package_id = state.id or state.new_id
    async with db.transaction() as conn:
        if repeat_key and not await idempotency.remember_key(conn, who.user_id, repeat_key, found.fingerprint):
            raise IdempotencyKeyReused(KEY_REUSED)
        audit.write_with_commit(conn, "version.publish", who.actor, package_id=package_id, version=meta.version.text)
        event = await store.add(
            conn,
            meta,
            package_id,
            state.role,
            checksum=tarball.sha256,
            key=key,
            size=tarball.size,
            user_id=who.user_id,
            provenance=provenance_of(who),
            publisher=who.publisher["id"] if who.publisher is not None else None,
        )
        answer = _answer(package_id, found, tarball, event.seq, event.created_at)
        if repeat_key:
            idempotency.save_answer(conn, who.user_id, repeat_key, answer)
    log.info("published", extra={"package": meta.name, "version": meta.version.text, "seq": event.seq})
    return answer


def _answer(package_id: int, found: _Inspected, tarball: Spooled, seq: int, published_at: datetime) -> Published:
    name, version = found.meta.name, found.meta.version.text
    package: PublishedPackage = {
        "id": package_id,
        "name": name,
        "version": version,
        "published_at": published_at,
        "url": f"/api/v1/packages/{name}/{version}",
        "checksum": tarball.sha256,
        "size": tarball.size,
        "seq": seq,
    }
    return {
        "success": True,
        "package": package,
        "checksum": tarball.sha256,
        "size": tarball.size,
        "seq": seq,
        "warnings": found.warnings,
    }


def _fingerprint(upload: Upload) -> str:
    fields = {name: value for name, value in upload.request.items() if name in manifest.FIELDS}
    text = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text + upload.tarball.sha256.encode()).hexdigest()


async def _earlier_answer(db: Database, who: Principal, upload: Upload, found: _Inspected) -> Published | None:
    """The answer that this Idempotency-Key got within the last day, or None.

    Raises IdempotencyKeyReused if the key was used for another upload.
    """
    if not upload.idempotency_key:
        return None
    async with db.read() as conn:
        row = await idempotency.answer_of(conn, who.user_id, upload.idempotency_key)
    if row is None:
        return None
    if row.fingerprint != found.fingerprint:
        raise IdempotencyKeyReused(KEY_REUSED)
    answer: Published = row.answer
    return answer
