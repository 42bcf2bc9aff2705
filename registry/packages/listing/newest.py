"""Lists for machines that follow the registry: its newest versions, and the names of all packages."""

from datetime import datetime
from typing import NamedTuple

from registry.db.engine import Database, Row
from registry.packages import read
from registry.packages.listing import store

MAX_NEWEST = 50


class NewVersion(NamedTuple):
    """`publisher` is the username of who published it, or `deleted`."""

    package: str
    version: str
    description: str
    published_at: datetime
    publisher: str
    yanked: bool


class NamedPackage(NamedTuple):
    name: str
    updated_at: datetime


async def newest_versions(db: Database, visible: frozenset[str] | None = None) -> list[NewVersion]:
    """The newest versions of all packages, or of those in `visible`, newest first."""
    async with db.read() as conn:
        return [_new_version(row) for row in await store.newest(conn, visible, MAX_NEWEST)]


async def newest_versions_of_package(db: Database, name: str) -> list[NewVersion]:
    """The newest versions of a package, newest first. Raises NotFound, OtherSpelling, Quarantined."""
    async with db.read() as conn:
        rows = await store.newest_of_package(conn, name, MAX_NEWEST)
    if not rows:
        await read.version_names(db, name)  # raises the error that says why there are none
    else:
        read.check_name(rows[0], name)
    return [_new_version(row) for row in rows]


async def newest_versions_of_owner(
    db: Database, username: str, visible: frozenset[str] | None = None
) -> tuple[str, list[NewVersion]] | None:
    """(username as it was registered, newest versions of the packages that the user owns); None without such a user."""
    async with db.read() as conn:
        known = await store.active_username(conn, username)
        if known is None:
            return None
        return known, [_new_version(row) for row in await store.newest_of_owner(conn, known, visible, MAX_NEWEST)]


async def names_after(db: Database, after: str, count: int, offset: int = 0) -> list[NamedPackage]:
    """Up to `count` visible packages whose names follow `after`, in the order of names. It skips `offset` of them."""
    async with db.read() as conn:
        rows = await store.names_after(conn, after, count, offset)
    return [NamedPackage(row.name, row.updated_at) for row in rows]


def _new_version(row: Row) -> NewVersion:
    return NewVersion(row.name, row.version, row.description, row.published_at, row.publisher, row.yanked)
