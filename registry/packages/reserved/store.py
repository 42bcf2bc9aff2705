"""The SQL of reserved names. Every function runs on the caller's connection and commits nothing."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import bindparam as p

from registry.accounts.store import SHOWN_NAME
from registry.db.engine import Connection, Row, statement
from registry.db.tables import packages, reserved_names, users

_c = reserved_names.c
_SHOWN = sa.select(
    _c.id,
    _c.name,
    _c.reason,
    _c.created_at,
    SHOWN_NAME.label("username"),
    sa.exists().where(packages.c.similarity_key == _c.similarity_key).label("has_package"),
).join(users, users.c.id == _c.user_id)
_PAGE = statement(_SHOWN.where(_c.id < p("before")).order_by(_c.id.desc()).limit(p("count")))
_ADD = statement(
    insert(reserved_names)
    .values(name=p("name"), similarity_key=p("key"), reason=p("reason"), user_id=p("user_id"))
    .on_conflict_do_nothing(index_elements=["similarity_key"])
    .returning(_c.id)
)
_DELETE = statement(sa.delete(reserved_names).where(_c.id == p("reserved")).returning(_c.name))


async def page(conn: Connection, before: int, count: int) -> list[Row]:
    """Up to `count` reserved names with ids below `before`, newest first."""
    return await conn.all(_PAGE, before=before, count=count)


async def add(conn: Connection, name: str, key: str, reason: str, user_id: int) -> bool:
    """Reserves a name. Returns False if it, or one that is too similar, is reserved."""
    return await conn.value(_ADD, name=name, key=key, reason=reason, user_id=user_id) is not None


async def delete(conn: Connection, reserved: int) -> str | None:
    """Ends a reservation. Returns its name, None if there is no such reservation."""
    name: str | None = await conn.value(_DELETE, reserved=reserved)
    return name
