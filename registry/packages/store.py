"""The SQL of packages and their versions. Every function runs on the caller's connection and commits nothing."""

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, prepared, statement, together
from registry.db.tables import package_days, package_versions, packages
from registry.package_format.names import similarity_key
from registry.packages.owners.store import OWNERS, role_of
from registry.packages.status.store import DEPRECATION, NOT_QUARANTINED

v = package_versions
LIVE = v.c.deleted_at.is_(None)

_USER = p("user_id", type_=sa.BigInteger)
_HEAD = (
    packages.c.id, packages.c.name, packages.c.latest_version_id, packages.c.deprecated,
    packages.c.deprecation_successor, packages.c.quarantine_reason,
)  # fmt: skip
_IS_NAMED = packages.c.similarity_key == p("key")
_OF_NAME = sa.select(*_HEAD, role_of(_USER).label("role")).where(_IS_NAMED)
_FIND = prepared("find_package", statement(_OF_NAME))
# The lock has a statement of its own. A statement that waits for a lock still reads the roles from before the wait.
_LOCK_PACKAGE = prepared("lock_package", statement(sa.select(packages.c.id).where(_IS_NAMED).with_for_update()))
_FIND_LOCKED = together(_LOCK_PACKAGE, _FIND)
_VERSION_STATE = prepared(
    "version_state",
    statement(
        sa.select(v.c.id, v.c.version, v.c.deleted_at, v.c.yanked, v.c.yank_reason).where(
            v.c.package_id == p("package_id"), v.c.canonical == p("canonical")
        )
    ),
)


def latest_of(package_id: sa.ColumnElement[int]) -> sa.Select[Any]:
    """The latest version: the one whose metadata a package shows."""
    order = (v.c.yanked, v.c.is_prerelease, v.c.sort_key.desc())
    return sa.select(v).where(v.c.package_id == package_id, LIVE).order_by(*order).limit(1)


def shown(
    chosen: sa.FromClause,
    name: sa.ColumnElement[str] = packages.c.name,
    is_visible: sa.ColumnElement[bool] = NOT_QUARANTINED,
) -> dict[str, sa.ColumnElement[Any]]:
    """The columns of `packages` that repeat the latest version.

    `chosen` is `latest_of()`, or the first version of a new package `name`. Its alias is "chosen".
    """
    columns = ("description", "author", "license", "homepage", "repository")
    return {
        **{name: chosen.c[name] for name in columns},
        "latest_version_id": sa.case((is_visible, chosen.c.id)),
        "keywords": sa.literal_column("ARRAY(SELECT jsonb_array_elements_text(chosen.keywords_json))"),
        "search_vector": sa.func.to_tsvector(
            sa.literal_column("'english'::regconfig"),
            sa.func.concat_ws(
                " ", sa.func.translate(name, "-_", "  "), chosen.c.description,
                sa.cast(chosen.c.keywords_json, sa.Text),
            ),
        ),
    }  # fmt: skip


_CHOSEN = latest_of(p("of_package")).subquery("chosen")
_SHOW = sa.update(packages).where(packages.c.id == _CHOSEN.c.package_id)
REFRESH = prepared("refresh_package", statement(_SHOW.values(**shown(_CHOSEN), updated_at=sa.func.now())))
"""Copies the latest version of the package `of_package` to its row."""
_HIDE = statement(
    sa.update(packages).where(packages.c.id == p("of_package")).values(latest_version_id=None, updated_at=sa.func.now())
)
_DELETE = statement(sa.update(v).where(v.c.id == p("version_id")).values(deleted_at=sa.func.now()))
_DELETE_ALL = statement(
    sa.update(v)
    .where(v.c.package_id == p("of_package"), LIVE)
    .values(deleted_at=sa.func.now())
    .returning(v.c.version, v.c.sort_key)
)
_RESTORE = statement(sa.update(v).where(v.c.id == p("version_id"), v.c.swept_at.is_(None)).values(deleted_at=None))

_TODAY = sa.func.current_date()


def _window(days: int) -> sa.ScalarSelect[Any]:
    """Downloads of the enclosing query's package in the last `days` days, including today."""
    return (
        sa.select(sa.func.coalesce(sa.func.sum(package_days.c.count), 0))
        .where(package_days.c.package_id == packages.c.id, package_days.c.day > _TODAY - days)
        .scalar_subquery()
    )


_SHOWN = (
    sa.select(
        packages,
        DEPRECATION[-1],
        OWNERS.label("owners"),
        v.c.version.label("latest_version"),
        v.c.dependencies_json.label("dependencies"),
        v.c.yanked,
        v.c.yank_reason,
        _window(7).label("week"),
        _window(30).label("month"),
    )
    .join(v, v.c.id == packages.c.latest_version_id, isouter=True)
    .where(packages.c.similarity_key == p("key"))
)
_ANY_PACKAGE = statement(_SHOWN)
_PACKAGE = statement(_SHOWN.where(packages.c.latest_version_id.is_not(None), NOT_QUARANTINED))
_VERSIONS = statement(
    sa.select(
        v.c.version, v.c.published_at, v.c.download_count, v.c.checksum, v.c.tarball_size, v.c.yanked, v.c.yank_reason
    )
    .where(v.c.package_id == p("package_id"), LIVE)
    .order_by(v.c.published_at.desc(), v.c.sort_key.desc())
)
_VERSION_NAMES = statement(
    sa.select(packages.c.name, v.c.version)
    .join(v, v.c.package_id == packages.c.id)
    .where(packages.c.similarity_key == p("key"), LIVE, NOT_QUARANTINED)
    .order_by(v.c.sort_key)
)
# Only versions that an earlier release published have their manifest in the JSONB column.
_MANIFEST = (
    sa.func.coalesce(v.c.manifest_text, sa.cast(v.c.manifest, sa.Text)).label("manifest"),
    v.c.manifest_text.is_(None).label("is_manifest_jsonb"),
)
_OTHER_COLUMNS = [column for column in v.c if column.name not in ("manifest", "manifest_text")]
_ONE = (
    sa.select(*_OTHER_COLUMNS, *_MANIFEST, packages.c.name, *DEPRECATION)
    .join(packages, packages.c.id == v.c.package_id)
    .where(packages.c.similarity_key == p("key"), LIVE)
)
_ANY_VERSION = statement(_ONE.where(v.c.canonical == p("canonical")))
_VERSION = statement(_ONE.where(v.c.canonical == p("canonical"), NOT_QUARANTINED))
_LATEST = statement(_ONE.where(v.c.id == packages.c.latest_version_id, NOT_QUARANTINED))
_BLOB = (
    sa.select(
        *(v.c.id, v.c.package_id, packages.c.name, v.c.version),
        *(v.c.tarball_path, v.c.checksum, v.c.tarball_size, v.c.published_at),
    )
    .join(packages, packages.c.id == v.c.package_id)
    .where(packages.c.similarity_key == p("key"), LIVE, NOT_QUARANTINED)
)
_BLOB_OF_VERSION = statement(_BLOB.where(v.c.canonical == p("canonical")))
_BLOB_OF_LATEST = statement(_BLOB.where(v.c.id == packages.c.latest_version_id))

_EXPIRED = statement(
    sa.update(v)
    .where(
        v.c.id.in_(
            sa.select(v.c.id)
            .where(v.c.deleted_at < sa.func.now() - p("grace", type_=sa.Interval), v.c.swept_at.is_(None))
            .limit(100)
            .with_for_update(skip_locked=True)
        )
    )
    .values(swept_at=sa.func.now())
    .returning(v.c.tarball_path)
)
_KEPT = statement(
    sa.select(v.c.tarball_path).where(
        v.c.tarball_path == sa.any_(p("keys", type_=sa.ARRAY(sa.Text))), v.c.swept_at.is_(None)
    )
)


async def find(conn: Connection, name: str, user_id: int, *, lock: bool = False) -> Row | None:
    """The columns of `_HEAD` of the package with this name or a look-alike, and the user's `role` in it or None."""
    return await conn.one(_FIND_LOCKED if lock else _FIND, key=similarity_key(name), user_id=user_id)


async def version_state(conn: Connection, package_id: int, canonical: str) -> Row | None:
    """id, version, deleted_at, yanked and yank_reason of a version, deleted or not."""
    return await conn.one(_VERSION_STATE, package_id=package_id, canonical=canonical)


async def refresh(conn: Connection, package_id: int) -> None:
    """Copies the metadata of the latest version to the package, or hides the package when no version is left."""
    if not await conn.run(REFRESH, of_package=package_id):
        await conn.run(_HIDE, of_package=package_id)


async def delete_version(conn: Connection, version_id: int) -> None:
    await conn.run(_DELETE, version_id=version_id)


async def delete_versions(conn: Connection, package_id: int) -> list[str]:
    """Marks all live versions of a package as deleted. Returns them in their order of precedence."""
    deleted = await conn.all(_DELETE_ALL, of_package=package_id)
    return [row.version for row in sorted(deleted, key=lambda row: row.sort_key)]


async def restore_version(conn: Connection, version_id: int) -> bool:
    """Returns False when the sweep has already removed the tarball."""
    return await conn.run(_RESTORE, version_id=version_id) > 0


async def package(conn: Connection, name: str, *, hidden: bool = False) -> Row | None:
    """All columns of a package, with owners, latest_version, dependencies, yanked, yank_reason, week and month.

    None if it has no version or is in quarantine. With `hidden`, the row of such a package; it has no latest version.
    """
    return await conn.one(_ANY_PACKAGE if hidden else _PACKAGE, key=similarity_key(name))


async def versions(conn: Connection, package_id: int) -> list[Row]:
    """Live versions, newest first."""
    return await conn.all(_VERSIONS, package_id=package_id)


async def version_names(conn: Connection, name: str) -> list[Row]:
    """(name, version) of the live versions, ascending by precedence."""
    return await conn.all(_VERSION_NAMES, key=similarity_key(name))


async def version(conn: Connection, name: str, canonical: str | None, *, hidden: bool = False) -> Row | None:
    """All columns of a live version (None: the latest one), with the name and deprecation of its package.

    None if the package is in quarantine, unless `hidden` is set.
    """
    if canonical is None:
        return await conn.one(_LATEST, key=similarity_key(name))
    return await conn.one(_ANY_VERSION if hidden else _VERSION, key=similarity_key(name), canonical=canonical)


async def blob(conn: Connection, name: str, canonical: str | None) -> Row | None:
    """id, package_id, name, version, tarball_path, checksum, tarball_size, published_at of a live version.

    `canonical` None means the latest.
    """
    if canonical is None:
        return await conn.one(_BLOB_OF_LATEST, key=similarity_key(name))
    return await conn.one(_BLOB_OF_VERSION, key=similarity_key(name), canonical=canonical)


async def expire(conn: Connection, grace: timedelta) -> list[str]:
    """Marks up to 100 tombstones older than `grace` as swept. Returns the keys of their blobs."""
    return [row.tarball_path for row in await conn.all(_EXPIRED, grace=grace)]


async def kept(conn: Connection, keys: list[str]) -> set[str]:
    """The subset of `keys` that a version still refers to."""
    return {row.tarball_path for row in await conn.all(_KEPT, keys=keys)}
