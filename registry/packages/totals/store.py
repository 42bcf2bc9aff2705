"""The SQL of the registry's totals. Runs on the caller's connection and commits nothing."""

import sqlalchemy as sa

from registry.db import tables
from registry.db.engine import Connection, Row, statement
from registry.db.tables import packages, registry_days

_TOTALS = statement(
    sa.select(
        sa.cast(sa.func.sum(tables.totals.c.packages), sa.BigInteger).label("packages"),
        sa.cast(sa.func.sum(tables.totals.c.versions), sa.BigInteger).label("versions"),
        sa.select(sa.func.coalesce(sa.func.sum(registry_days.c.count), 0)).scalar_subquery().label("downloads"),
    )
)
_TOP = statement(
    sa.select(packages.c.name, packages.c.download_count)
    .where(packages.c.latest_version_id.is_not(None))
    .order_by(packages.c.download_count.desc(), packages.c.name)
    .limit(10)
)


async def totals(conn: Connection) -> tuple[Row, list[Row]]:
    """(packages, versions, downloads) of the registry and its ten most downloaded packages."""
    return await conn.one(_TOTALS), await conn.all(_TOP)
