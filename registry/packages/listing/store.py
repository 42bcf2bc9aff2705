"""The SQL of the list of packages. Runs on the caller's connection and commits nothing."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, statement
from registry.db.tables import package_versions as v
from registry.db.tables import packages, totals

_LISTED = sa.select(
    packages.c.id, packages.c.name, v.c.version, packages.c.description, packages.c.author, packages.c.license,
    packages.c.keywords, packages.c.download_count, packages.c.created_at, packages.c.updated_at,
    packages.c.deprecated,
).join(v, v.c.id == packages.c.latest_version_id)  # fmt: skip
_COUNT_WANTED = p("count", type_=sa.Integer)
_OFFSET = p("offset", type_=sa.Integer)
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
        ordered = _LISTED.order_by(column)
        after = ordered.where(column > p("after_name")).limit(_COUNT_WANTED)
        return statement(ordered.limit(_COUNT_WANTED).offset(_OFFSET)), statement(after)
    ordered = _LISTED.order_by(column.desc(), packages.c.name)
    value = p("after_value", type_=column.type)
    # The rest of the ties, then what is below: each begins at its place in the index. As one condition with OR the
    # index would be read from its beginning, and a cursor cost more the further it has come.
    ties = _LISTED.where(column == value, packages.c.name > p("after_name")).order_by(packages.c.name)
    lower = ordered.where(column < value)
    rest = sa.union_all(*(sa.select(part.limit(_COUNT_WANTED).subquery()) for part in (ties, lower))).subquery()
    after = sa.select(rest).order_by(rest.c[column.name].desc(), rest.c.name).limit(_COUNT_WANTED)
    return statement(ordered.limit(_COUNT_WANTED).offset(_OFFSET)), statement(after)


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
        rows = await conn.all(following, count=count, after_value=after[0], after_name=after[1])
    return rows, int(await conn.value(_COUNT))
