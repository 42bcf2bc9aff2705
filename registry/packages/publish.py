"""Publishes a version: inspects and stores its tarball, and commits its row together with an event."""

import contextlib
import hashlib
import logging
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from typing_extensions import TypedDict

from registry.accounts.identity import Principal
from registry.accounts.tokens import NOT_VALID
from registry.db.engine import Connection, ConstraintViolated, Database
from registry.errors import (
    ChecksumMismatch,
    Conflict,
    FieldError,
    Forbidden,
    IdempotencyKeyReused,
    InvalidInput,
    NameClosed,
    NameTooSimilar,
    RegistryError,
    Unauthorized,
    VersionBurned,
    VersionExists,
)
from registry.events import audit
from registry.package_format import archive, manifest, names, versions
from registry.package_format.manifest import Metadata
from registry.package_format.member_names import ArchiveWarning
from registry.package_format.versions import Version
from registry.packages import rights, store
from registry.packages.idempotency import store as idempotency
from registry.packages.inspection import InspectionPool
from registry.packages.owners import store as owners
from registry.packages.provenance import provenance_of
from registry.packages.reserved.reserve import check_reserved
from registry.packages.rights import Action
from registry.storage.base import Storage
from registry.web.spool import Spooled

log = logging.getLogger(__name__)

KEY_REUSED = "This Idempotency-Key was used for another upload. Send a new key."
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


class _Problems:
    """Runs steps that may fail. With `collect`, it collects their problems instead of raising the first one."""

    def __init__(self, *, collect: bool) -> None:
        self._collect = collect
        self.found: list[RegistryError] = []

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """A block that may fail. Only errors that the client can correct are collected."""
        try:
            yield
        except (InvalidInput, Forbidden, Conflict) as problem:
            if not self._collect:
                raise
            self.found.append(problem)

    def combined(self) -> RegistryError:
        """An error of the first problem's type, with the texts and fields of all problems."""
        details = "; ".join(problem.detail for problem in self.found)
        members = {name: member for each in self.found for name, member in each.members.items()}
        errors = [error for each in self.found for error in _errors_of(each)]
        return type(self.found[0])(details, errors=errors, members=members)


async def publish(
    db: Database, storage: Storage, inspections: InspectionPool, who: Principal, upload: Upload
) -> Published:
    """Publishes `upload` as `who`. A dry run stores nothing. Its answer has 0 as `id` and `seq`.

    Raises InvalidArchive, InvalidManifest, InvalidInput, ChecksumMismatch, Forbidden, NameReserved, NameClosed,
    Quarantined, NameTooSimilar, VersionExists, VersionBurned, IdempotencyKeyReused, and Unavailable if a server is
    unavailable. The error of a dry run lists all problems.
    """
    problems = _Problems(collect=upload.dry_run)
    with problems.step():
        _check_checksum(upload)
    found = None
    with problems.step():
        found = await inspections.run(lambda: _inspect(upload))
    with problems.step():
        if found is not None and (earlier := await _earlier_answer(db, who, upload, found)) and not problems.found:
            return earlier
    name, version = (found.meta.name, found.meta.version) if found is not None else _requested(upload)
    try:
        with problems.step():
            if name and version:
                async with db.read() as conn:
                    await _check(conn, who, name, version, await store.find(conn, name, who.user_id))
        if found is None or problems.found:
            raise problems.combined()
        if upload.dry_run:
            return _answer(0, found, upload.tarball, 0, datetime.now(UTC))
        return await _keep(db, storage, who, upload, found)
    except VersionExists:
        # Perhaps two requests with the same Idempotency-Key ran at once. Then the slower one gets the same answer.
        if found is not None and (earlier := await _earlier_answer(db, who, upload, found)):
            return earlier
        raise


def _errors_of(problem: RegistryError) -> list[FieldError]:
    """The wrong fields of `problem`. A problem that names none gets an entry for the field that caused it."""
    if problem.errors:
        return problem.errors
    fields: dict[type[RegistryError], str] = {
        VersionExists: "version",
        VersionBurned: "version",
        IdempotencyKeyReused: "Idempotency-Key",
    }
    return [{"field": fields.get(type(problem), "name"), "message": problem.detail}]


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
        found = archive.inspect(upload.tarball.path)
    except InvalidInput as problem:
        own = problem.errors or [FieldError(field="tarball", message=problem.detail)]
        requested = manifest.request_problems(upload.request, upload.required)
        raise type(problem)(problem.detail, errors=[*requested, *own]) from problem
    meta = manifest.merge(upload.request, found.manifest, readme=found.readme, required=upload.required)
    return _Inspected(meta, found.warnings, _fingerprint(upload))


async def _check(conn: Connection, who: Principal, name: str, version: Version, package: Any) -> None:
    """Checks the name, the user's rights and the version. `package` is the row of the package, or None if it is new."""
    rights.check_credentials(who, Action.PUBLISH, name)
    if package is None:
        await check_reserved(conn, who, name)
        return
    if package.name != name:
        raise NameTooSimilar(f"{name} is too similar to the package {package.name}. Choose another name.")
    await check_publishable(conn, package)
    rights.authorize(who, Action.PUBLISH, name, package.role)
    state = await store.version_state(conn, package.id, version.canonical)
    if state is None:
        return
    if state.deleted_at is not None:
        raise VersionBurned(
            f"{name} {version} was deleted. A deleted version can't be published again. Use another version number."
        )
    raise _version_exists(name, state.version)


async def check_publishable(conn: Connection, package: Any) -> None:
    """Raises Quarantined, or NameClosed for a package that has neither owners nor versions. See store.find()."""
    if package.quarantine_reason is not None:
        raise rights.quarantined(package.name, package.quarantine_reason)
    if package.latest_version_id is None and not await owners.has_owner(conn, package.id):
        raise NameClosed(
            f"{package.name} has neither owners nor versions, so its name is closed. Ask an admin to set its owners."
        )


async def _keep(db: Database, storage: Storage, who: Principal, upload: Upload, found: _Inspected) -> Published:
    """Stores the tarball. Then inserts the version and its event in one transaction."""
    meta, tarball, repeat_key = found.meta, upload.tarball, upload.idempotency_key
    key = f"{meta.name}/{meta.version}/{tarball.sha256}-{secrets.token_hex(8)}.tar.gz"
    await storage.put(key, tarball.path, size=tarball.size, sha256=tarball.sha256)
    with _races_named(meta):
        async with db.transaction() as conn:
            package = await store.claim(conn, meta.name, who.user_id)
            if not package.is_active:
                raise Unauthorized(NOT_VALID)
            if package.is_new and who.publisher is not None:
                await owners.adopt_publisher(conn, package.id, who.publisher["id"])
            if not package.is_new:
                await _check(conn, who, meta.name, meta.version, package)
            if repeat_key and not await idempotency.remember_key(conn, who.user_id, repeat_key, found.fingerprint):
                raise IdempotencyKeyReused(KEY_REUSED)
            audit.write_with_commit(
                conn, "version.publish", who.actor, package_id=package.id, version=meta.version.text
            )
            seq = await store.add_version(
                conn,
                package.id,
                meta,
                is_first=package.is_new,
                checksum=tarball.sha256,
                key=key,
                size=tarball.size,
                user_id=who.user_id,
                provenance=provenance_of(who),
            )
            answer = _answer(package.id, found, tarball, seq, package.now)
            if repeat_key:
                idempotency.save_answer(conn, who.user_id, repeat_key, answer)
    log.info("published", extra={"package": meta.name, "version": meta.version.text, "seq": seq})
    return answer


@contextlib.contextmanager
def _races_named(meta: Metadata) -> Iterator[None]:
    """If another publish was faster, a constraint is violated. Raises the error that `_check` would have raised."""
    try:
        yield
    except ConstraintViolated as error:
        if error.constraint == "package_versions_canonical_key":
            raise _version_exists(meta.name, meta.version.text) from error
        if error.constraint in ("packages_name_key", "packages_similarity_key_key"):
            raise NameTooSimilar(f"{meta.name} or a similar name was just published. Choose another name.") from error
        raise


def _version_exists(name: str, version: str) -> VersionExists:
    return VersionExists(f"{name} {version} exists. Published versions never change. Use another version number.")


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
