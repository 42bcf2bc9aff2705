"""The SQL of yanking versions, and of deprecating and quarantining packages.

Every function runs on the caller's connection and commits nothing. Functions that change a package expect that the
caller has locked it.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, statement
from registry.db.tables import audit_entries, package_versions, packages

NOT_QUARANTINED: sa.ColumnElement[bool] = packages.c.quarantine_reason.is_(None)

DEPRECATION: tuple[sa.ColumnElement[Any], ...] = (
    packages.c.deprecated,
    packages.c.deprecation_successor,
    # A release that doesn't know the column `deprecated_at` may have deprecated the package.
    sa.func.coalesce(packages.c.deprecated_at, packages.c.updated_at).label("deprecation_at"),
)
"""The columns of a package that describe its deprecation. `deprecated` is NULL when it is not deprecated."""

_OF = packages.c.id == p("of_package")
_YANK = statement(
    sa.update(package_versions)
    .where(package_versions.c.id == p("version_id"))
    .values(yanked=p("to_yanked"), yank_reason=p("to_reason"))
)
_DEPRECATE = statement(
    sa.update(packages)
    .where(_OF)
    .values(
        deprecated=p("to_text"),
        deprecation_successor=p("to_successor"),
        deprecated_at=sa.case((sa.cast(p("to_text", type_=sa.Text), sa.Text).is_not(None), sa.func.now())),
    )
)
_LIVE = sa.select(package_versions.c.version, package_versions.c.yank_reason, package_versions.c.published_at).where(
    package_versions.c.package_id == p("of_package"), package_versions.c.deleted_at.is_(None)
)
_BY_YANK = statement(
    _LIVE.where(package_versions.c.yanked == p("is_yanked", type_=sa.Boolean))
    .order_by(package_versions.c.published_at.desc(), package_versions.c.sort_key.desc())
    .limit(p("count"))
)
_QUARANTINE = statement(sa.update(packages).where(_OF).values(quarantine_reason=p("to_reason")))
_QUARANTINED = statement(
    sa.select(packages.c.name, packages.c.quarantine_reason.label("reason")).where(
        packages.c.similarity_key == p("key"), packages.c.quarantine_reason.is_not(None)
    )
)
_QUARANTINED_SINCE = (
    sa.select(audit_entries.c.at)
    .where(audit_entries.c.package_id == packages.c.id, audit_entries.c.action == "package.quarantine")
    .order_by(audit_entries.c.id.desc())
    .limit(1)
    .scalar_subquery()
)
_IS_QUARANTINED = packages.c.quarantine_reason.is_not(None)
_QUARANTINE_PAGE = statement(
    sa.select(
        packages.c.id,
        packages.c.name,
        packages.c.description,
        packages.c.quarantine_reason.label("reason"),
        _QUARANTINED_SINCE.label("since"),
    )
    .where(_IS_QUARANTINED, packages.c.id < p("before"))
    .order_by(packages.c.id.desc())
    .limit(p("count"))
)
_COUNT_QUARANTINED = statement(sa.select(sa.func.count()).select_from(packages).where(_IS_QUARANTINED))


async def yank(conn: Connection, version_id: int, yanked: bool, reason: str) -> None:
    await conn.run(_YANK, version_id=version_id, to_yanked=yanked, to_reason=reason)


async def deprecate(conn: Connection, package_id: int, text: str | None, successor: str | None = None) -> None:
    """Deprecates a package from now on, with a text and the name of its successor. Without a text it ends that."""
    await conn.run(_DEPRECATE, of_package=package_id, to_text=text, to_successor=successor)


async def quarantine(conn: Connection, package_id: int, reason: str | None) -> None:
    """Puts a package in quarantine; None releases it. Refresh the package afterwards: that hides or shows it."""
    await conn.run(_QUARANTINE, of_package=package_id, to_reason=reason)


async def quarantined(conn: Connection, key: str) -> Row | None:
    """name and reason of the package in quarantine with this similarity key."""
    return await conn.one(_QUARANTINED, key=key)


async def newest(conn: Connection, package_id: int, count: int, *, yanked: bool) -> list[Row]:
    """version, yank_reason and published_at of the newest live versions that are yanked, or that are not."""
    return await conn.all(_BY_YANK, of_package=package_id, is_yanked=yanked, count=count)


async def quarantine_page(conn: Connection, before: int, count: int) -> list[Row]:
    """Up to `count` packages in quarantine with ids below `before`, newest first.

    `since` is None if the audit log no longer has the entry.
    """
    return await conn.all(_QUARANTINE_PAGE, before=before, count=count)


async def count_quarantined(conn: Connection) -> int:
    return int(await conn.value(_COUNT_QUARANTINED))
