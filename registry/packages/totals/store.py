"""The SQL of the registry's totals. Runs on the caller's connection and commits nothing."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db import tables
from registry.db.engine import Connection, Row, statement
from registry.db.tables import package_versions, packages, registry_days
from registry.packages.status.store import NOT_QUARANTINED

_LIVE_VERSIONS = (
    sa.select(sa.func.count())
    .where(package_versions.c.package_id == packages.c.id, package_versions.c.deleted_at.is_(None))
    .scalar_subquery()
)
# The stored totals count all versions. Only few packages are in quarantine, and an index finds them.
_QUARANTINED_VERSIONS = (
    sa.select(sa.func.count())
    .select_from(package_versions.join(packages, packages.c.id == package_versions.c.package_id))
    .where(packages.c.quarantine_reason.is_not(None), package_versions.c.deleted_at.is_(None))
    .scalar_subquery()
)
_COUNTED = (
    sa.cast(sa.func.sum(tables.totals.c.packages), sa.BigInteger).label("packages"),
    (sa.cast(sa.func.sum(tables.totals.c.versions), sa.BigInteger) - _QUARANTINED_VERSIONS).label("versions"),
)
_PACKAGES_AND_VERSIONS = statement(sa.select(*_COUNTED))
_TOTALS = statement(
    sa.select(
        *_COUNTED,
        sa.select(sa.func.coalesce(sa.func.sum(registry_days.c.count), 0)).scalar_subquery().label("downloads"),
    )
)
_TOP = (
    sa.select(packages.c.name, packages.c.download_count)
    .where(packages.c.latest_version_id.is_not(None))
    .order_by(packages.c.download_count.desc(), packages.c.name)
    .limit(10)
)
_TOP_OF_ALL = statement(_TOP)
_IS_VISIBLE = packages.c.name == sa.any_(p("visible", type_=sa.ARRAY(sa.Text)))
_TOP_OF_VISIBLE = statement(_TOP.where(_IS_VISIBLE))
_TOTALS_OF_VISIBLE = statement(
    sa.select(
        sa.func.count(packages.c.latest_version_id).label("packages"),
        sa.func.coalesce(sa.func.sum(sa.case((NOT_QUARANTINED, _LIVE_VERSIONS))), 0).label("versions"),
        sa.func.coalesce(sa.func.sum(packages.c.download_count), 0).label("downloads"),
    ).where(_IS_VISIBLE)
)


async def packages_and_versions(conn: Connection, visible: Collection[str] | None) -> tuple[int, int]:
    """The numbers of packages and of their versions, in the registry or among the packages in `visible`."""
    if visible is None:
        row = await conn.one(_PACKAGES_AND_VERSIONS)
    else:
        row = await conn.one(_TOTALS_OF_VISIBLE, visible=list(visible))
    return (0, 0) if row is None else (int(row.packages), int(row.versions))


async def totals(conn: Connection, visible: Collection[str] | None) -> tuple[Row, list[Row]]:
    """(packages, versions, downloads) of the registry and its ten most downloaded packages.

    `visible` restricts both to packages with these names; None means all packages.
    """
    if visible is None:
        return await conn.one(_TOTALS), await conn.all(_TOP_OF_ALL)
    names = list(visible)
    return await conn.one(_TOTALS_OF_VISIBLE, visible=names), await conn.all(_TOP_OF_VISIBLE, visible=names)
