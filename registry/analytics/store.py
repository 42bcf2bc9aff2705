"""The SQL of what documents show beside an event."""

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, statement
from registry.db.tables import packages
from registry.packages.owners.store import FIRST_OWNER

_OWNERS = statement(
    sa.select(packages.c.id, FIRST_OWNER.label("username")).where(
        packages.c.id == sa.any_(p("ids", type_=sa.ARRAY(sa.BigInteger)))
    )
)


async def owners(conn: Connection, package_ids: Iterable[int]) -> dict[int | None, str]:
    """The username of each package's first owner, by package id."""
    return {row.id: row.username for row in await conn.all(_OWNERS, ids=list(package_ids))}
