"""The SQL of the list of packages. Runs on the caller's connection and commits nothing."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, statement
from registry.db.tables import package_versions as v
from registry.db.tables import packages, totals

_LISTED = (
    sa.select(
        packages.c.id, packages.c.name, v.c.version, packages.c.description, packages.c.author, packages.c.license,
        packages.c.keywords, packages.c.download_count, packages.c.created_at, packages.c.updated_at,
        packages.c.deprecated,
    )
    .join(v, v.c.id == packages.c.latest_version_id)
    .limit(p("count", type_=sa.Integer))
    .offset(p("offset", type_=sa.Integer))
)  # fmt: skip
_COLUMN_OF_SORT = {
    "name": packages.c.name,
    "downloads": packages.c.download_count,
    "recently-updated": packages.c.updated_at,
    "recently-created": packages.c.created_at,
}
SORTS = tuple(_COLUMN_OF_SORT)


def _list_statements(sort: str) -> tuple[Any, Any]:
    """(first page, page after a cursor) of a sort: a total order, ties broken by name."""
    column = _COLUMN_OF_SORT[sort]
    if sort == "name":
        after = packages.c.name > p("after_name")
        return statement(_LISTED.order_by(column)), statement(_LISTED.where(after).order_by(column))
    after = sa.or_(
        column < p("after_value", type_=column.type),
        sa.and_(column == p("after_value", type_=column.type), packages.c.name > p("after_name")),
    )
    order = (column.desc(), packages.c.name)
    return statement(_LISTED.order_by(*order)), statement(_LISTED.where(after).order_by(*order))


_LISTS = {sort: _list_statements(sort) for sort in SORTS}
_COUNT = statement(sa.select(sa.cast(sa.func.sum(totals.c.packages), sa.BigInteger)))


async def listed(
    conn: Connection, sort: str, count: int, offset: int, after: tuple[Any, str] | None
) -> tuple[list[Row], int]:
    """A page of shown packages and their number; `after` is (value, name) of the row before the page."""
    first, following = _LISTS[sort]
    if after is None:
        rows = await conn.all(first, count=count, offset=offset)
    else:
        rows = await conn.all(following, count=count, offset=0, after_value=after[0], after_name=after[1])
    return rows, int(await conn.value(_COUNT))
