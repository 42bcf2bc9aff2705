"""What the pages of a package show, without reading all of its versions."""

from dataclasses import dataclass
from datetime import datetime

from registry.db.engine import Database, Row
from registry.package_format.versions import canonical_of, is_address_of
from registry.packages.overview import store
from registry.packages.provenance import Provenance
from registry.packages.read import (
    LATEST,
    Deprecation,
    deprecation_of,
    found,
    no_package,
    no_version,
)

NEWEST = 20
PAGE = 100
BYTES, BYTES_OF_ENTRY = 3_000, 150


@dataclass(frozen=True, slots=True)
class NewVersion:
    """One of the highest versions of a package."""

    version: str
    yanked: bool
    yank_reason: str


@dataclass(frozen=True, slots=True)
class Overview:
    """A package and one of its versions. The members from `version_id` on are those of the version.

    `versions` and `dependents` are numbers. `newest` has the NEWEST highest versions, the highest first. `publisher` is
    the user who published the version, or whose trusted publisher did; `provenance` says what that was.
    """

    package_id: int
    name: str
    created_at: datetime
    deprecation: Deprecation | None
    owners: list[str]
    maintainers: list[str]
    latest: str
    versions: int
    dependents: int
    newest: list[NewVersion]
    version_id: int
    version: str
    description: str
    author: str
    license: str
    homepage: str
    repository: str
    keywords: list[str]
    dependencies: dict[str, str]
    checksum: str
    size: int
    downloads: int
    yanked: bool
    yank_reason: str
    published_at: datetime
    provenance: Provenance | None
    publisher: str

    @property
    def weight(self) -> int:
        """Its approximate size in memory, in bytes."""
        entries = len(self.dependencies) + len(self.keywords) + len(self.newest) + len(self.owners)
        return BYTES + BYTES_OF_ENTRY * (entries + len(self.maintainers)) + 4 * len(self.description)

    @property
    def is_latest(self) -> bool:
        return self.version == self.latest


@dataclass(frozen=True, slots=True)
class ShownVersion:
    """A version in the list of all. `is_proven`: a trusted publisher published it."""

    version: str
    published_at: datetime
    downloads: int
    size: int
    yanked: bool
    yank_reason: str
    is_prerelease: bool
    is_proven: bool
    publisher: str


async def overview(db: Database, name: str, version: str = LATEST) -> Overview:
    """A package with one version. Raises NotFound, OtherSpelling, Quarantined."""
    canonical = None if version == LATEST else canonical_of(version)
    async with db.read(snapshot=True) as conn:
        row = await store.head(conn, name, canonical)
        missing = no_package(name) if canonical is None else no_version(name, version)
        if row is None and canonical is not None and await store.head(conn, name, None) is None:
            missing = no_package(name)
        row = await found(conn, row, name, missing)
        if canonical is not None and not is_address_of(version, row.version):
            raise no_version(name, version)
        newest = await store.newest(conn, row.package_id, NEWEST)
    return _overview(row, [NewVersion(each.version, each.yanked, each.yank_reason) for each in newest])


async def readme(db: Database, version_id: int) -> str:
    """The README of a version, "" if it has none."""
    async with db.read() as conn:
        return await store.readme(conn, version_id)


async def versions_page(db: Database, package_id: int, number: int, text: str = "") -> tuple[list[ShownVersion], int]:
    """A page of PAGE versions, the highest first, and how many there are in all. The first page has the number 1.

    `text` restricts both to versions whose number contains it.
    """
    async with db.read(snapshot=True) as conn:
        rows = await store.versions(conn, package_id, text, PAGE, (number - 1) * PAGE)
        total = await store.count_matches(conn, package_id, text)
    return [ShownVersion(**row._asdict()) for row in rows], total


def _overview(row: Row, newest: list[NewVersion]) -> Overview:
    values = row._asdict()
    values["version_id"] = values.pop("id")
    for member in ("deprecated", "deprecation_successor", "deprecation_at"):
        del values[member]
    return Overview(**values, deprecation=deprecation_of(row), newest=newest)
