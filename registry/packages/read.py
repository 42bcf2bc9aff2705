"""Reads packages and versions in the shapes that the API returns. The API description is generated from them."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from pydantic import WithJsonSchema
from typing_extensions import TypedDict

from registry.db.engine import Connection, Database, Row
from registry.errors import NotFound
from registry.package_format import names, versions
from registry.package_format.manifest import manifest_text_of_jsonb
from registry.packages import rights, store
from registry.packages.provenance import Provenance
from registry.packages.status import store as status
from registry.packages.totals import store as totals_store

LATEST = "latest"
"""In an address, the word for the latest version."""


class Deprecation(TypedDict):
    """`message` equals `deprecated`. `successor` is the package to use instead, which need not exist; None without one.

    `at` is when the package was deprecated.
    """

    message: str
    successor: str | None
    at: datetime


class ListedVersion(TypedDict):
    version: str
    published_at: datetime
    downloads: int
    tarball_url: str
    checksum: str
    size: int
    yanked: bool
    yank_reason: str


class Windows(TypedDict):
    """Downloads in total, in the last 7 days and in the last 30 days."""

    total: int
    week: int
    month: int


class PackageInfo(TypedDict):
    """`yanked` and `yank_reason` are those of the latest version.

    `quarantined` is true only in the answer to an admin who puts a package in quarantine or changes it there: reads
    fail then, and there is no latest version.
    """

    id: int
    name: str
    description: str
    author: str
    license: str
    version: str
    latest_version: str
    homepage: str
    repository: str
    keywords: list[str]
    dependencies: dict[str, str]
    owners: list[str]
    yanked: bool
    yank_reason: str
    deprecated: str
    deprecation: Deprecation | None
    quarantined: bool
    quarantine_reason: str
    created_at: datetime
    updated_at: datetime
    versions: list[ListedVersion]
    downloads: Windows
    total_downloads: int


class VersionInfo(TypedDict):
    name: str
    version: str
    description: str
    author: str
    license: str
    homepage: str
    repository: str
    keywords: list[str]
    dependencies: dict[str, str]
    readme: str
    # An orjson.Fragment of the published text. Parsing it would block the event loop and could change its numbers.
    manifest: Annotated[Any, WithJsonSchema({"type": "object", "additionalProperties": True})]
    checksum: str
    tarball_size: int
    tarball_url: str
    downloads: int
    yanked: bool
    yank_reason: str
    deprecated: str
    deprecation: Deprecation | None
    published_at: datetime
    provenance: Provenance | None


class VersionNames(TypedDict):
    name: str
    versions: list[str]


class PackageStats(TypedDict):
    name: str
    downloads: Windows
    total_downloads: int
    versions: list[ListedVersion]


class RegistryTotals(TypedDict):
    total: int
    versions: int
    downloads: int


class TopPackage(TypedDict):
    name: str
    downloads: int


class RegistryStats(TypedDict):
    timestamp: datetime
    packages: RegistryTotals
    top_packages: list[TopPackage]


class OtherSpelling(Exception):
    """The package exists under another spelling, `name`. Handlers redirect to it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class NoPackage(NotFound):
    """There is no package of this name, or the client has no access to it."""


def no_package(name: str) -> NoPackage:
    return NoPackage(f"There is no package {name[: names.MAX_NAME]}. Search for it with GET /api/v1/search?q=.")


class NoVersion(NotFound):
    """The package `name` has no live version `version`."""

    def __init__(self, detail: str, name: str, version: str) -> None:
        super().__init__(detail)
        self.name = name
        self.version = version


def no_version(name: str, version: str) -> NoVersion:
    version, name = version[: versions.MAX_VERSION], name[: names.MAX_NAME]
    detail = f"There is no version {version} of {name}. GET /api/v1/packages/{name}/versions lists them."
    return NoVersion(detail, name, version)


def _missing(name: str, version: str) -> NotFound:
    # Each package that has a version has a latest version.
    return no_package(name) if version == LATEST else no_version(name, version)


async def package_info(db: Database, name: str, *, hidden: bool = False) -> PackageInfo:
    """A package and its live versions, read in one snapshot. Raises NotFound, OtherSpelling, Quarantined.

    With `hidden`, it also shows a package that is in quarantine or has no version: to somebody who just changed it.
    """
    async with db.read(snapshot=True) as conn:
        row = await found(conn, await store.package(conn, name, hidden=hidden), name, no_package(name))
        listed = await store.versions(conn, row.id)
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "author": row.author,
        "license": row.license,
        "version": row.latest_version or "",
        "latest_version": row.latest_version or "",
        "homepage": row.homepage,
        "repository": row.repository,
        "keywords": row.keywords,
        "dependencies": row.dependencies or {},
        "owners": row.owners,
        "yanked": bool(row.yanked),
        "yank_reason": row.yank_reason or "",
        "deprecated": row.deprecated or "",
        "deprecation": deprecation_of(row),
        "quarantined": row.quarantine_reason is not None,
        "quarantine_reason": row.quarantine_reason or "",
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "versions": [_listed_version(row.name, item) for item in listed],
        "downloads": _windows(row),
        "total_downloads": row.download_count,
    }


async def version_info(db: Database, name: str, version: str, *, hidden: bool = False) -> VersionInfo:
    """One version; `latest` names the latest one. Raises NotFound, OtherSpelling, Quarantined.

    With `hidden`, it also shows a version of a package in quarantine: to somebody who just changed it.
    """
    async with db.read() as conn:
        row = await store.version(
            conn, name, None if version == LATEST else versions.canonical_of(version), hidden=hidden
        )
        row = await found(conn, row, name, _missing(name, version))
    _check_address(row, name, version)
    manifest = row.manifest
    if row.is_manifest_jsonb:
        manifest = await asyncio.to_thread(manifest_text_of_jsonb, manifest)
    return {
        "name": row.name,
        "version": row.version,
        "description": row.description,
        "author": row.author,
        "license": row.license,
        "homepage": row.homepage,
        "repository": row.repository,
        "keywords": row.keywords_json,
        "dependencies": row.dependencies_json,
        "readme": row.readme,
        "manifest": orjson.Fragment(manifest),
        "checksum": row.checksum,
        "tarball_size": row.tarball_size,
        "tarball_url": tarball_url(row.name, row.version),
        "downloads": row.download_count,
        "yanked": row.yanked,
        "yank_reason": row.yank_reason,
        "deprecated": row.deprecated or "",
        "deprecation": deprecation_of(row),
        "published_at": row.published_at,
        "provenance": row.provenance,
    }


async def blob(db: Database, name: str, version: str) -> Row:
    """The row for serving a tarball, with the columns of store.blob(). Raises NotFound, OtherSpelling, Quarantined."""
    async with db.read() as conn:
        row = await store.blob(conn, name, None if version == LATEST else versions.canonical_of(version))
        row = await found(conn, row, name, _missing(name, version))
    _check_address(row, name, version)
    return row


async def version_names(db: Database, name: str) -> VersionNames:
    """The live versions, ascending by SemVer precedence. Raises NotFound, OtherSpelling, Quarantined."""
    async with db.read() as conn:
        rows = await store.version_names(conn, name)
        first = await found(conn, rows[0] if rows else None, name, no_package(name))
    return {"name": first.name, "versions": [row.version for row in rows]}


async def package_stats(db: Database, name: str) -> PackageStats:
    """A package's downloads, read in one snapshot. Raises NotFound, OtherSpelling, Quarantined."""
    async with db.read(snapshot=True) as conn:
        row = await found(conn, await store.package(conn, name), name, no_package(name))
        listed = await store.versions(conn, row.id)
    return {
        "name": row.name,
        "downloads": _windows(row),
        "total_downloads": row.download_count,
        "versions": [_listed_version(row.name, item) for item in listed],
    }


async def registry_stats(db: Database, visible: frozenset[str] | None = None) -> RegistryStats:
    """Totals and the most downloaded packages, of all packages or of those in `visible`."""
    async with db.read(snapshot=True) as conn:
        totals, top = await totals_store.totals(conn, visible)
    return {
        # In whole seconds, so that the ETag stays the same for requests within one second.
        "timestamp": datetime.now(UTC).replace(microsecond=0),
        "packages": {"total": totals.packages, "versions": int(totals.versions), "downloads": int(totals.downloads)},
        "top_packages": [{"name": row.name, "downloads": row.download_count} for row in top],
    }


def version_url(name: str, version: str) -> str:
    """The address of a version, in the spelling that was published."""
    return f"/api/v1/packages/{name}/{version}"


def tarball_url(name: str, version: str) -> str:
    return f"{version_url(name, version)}/tarball"


def deprecation_of(row: Row) -> Deprecation | None:
    """The deprecation in a row that has the columns of status.DEPRECATION."""
    if row.deprecated is None:
        return None
    return {"message": row.deprecated, "successor": row.deprecation_successor, "at": row.deprecation_at}


async def found(conn: Connection, row: Row | None, name: str, missing: NotFound) -> Row:
    """Returns the row if its package is called `name`. Without a row, it finds out why and raises the error.

    Raises Quarantined, OtherSpelling, or else `missing`.
    """
    if row is None:
        hidden = await status.quarantined(conn, names.similarity_key(name))
        if hidden is None:
            raise missing
        raise rights.quarantined(check_name(hidden, name).name, hidden.reason)
    return check_name(row, name)


def _check_address(row: Row, name: str, version: str) -> None:
    """Raises NotFound if `version` is no address of the row's version."""
    if version != LATEST and not versions.is_address_of(version, row.version):
        raise no_version(name, version)


def check_name(row: Row | None, name: str) -> Row:
    """Returns the row if its package is called `name`. Raises NotFound for None, OtherSpelling for a look-alike."""
    if row is None:
        raise no_package(name)
    if row.name != name:
        raise OtherSpelling(row.name)
    return row


def _windows(row: Row) -> Windows:
    return {"total": row.download_count, "week": int(row.week), "month": int(row.month)}


def _listed_version(name: str, row: Row) -> ListedVersion:
    return {
        "version": row.version,
        "published_at": row.published_at,
        "downloads": row.download_count,
        "tarball_url": tarball_url(name, row.version),
        "checksum": row.checksum,
        "size": row.tarball_size,
        "yanked": row.yanked,
        "yank_reason": row.yank_reason,
    }
