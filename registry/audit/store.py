"""The SQL of reading and purging the audit log."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.accounts.store import SHOWN_NAME
from registry.db.engine import Connection, Row, statement
from registry.db.tables import audit_entries as entries
from registry.db.tables import packages, users

PURGED_AT_ONCE = 10_000

_c = entries.c


@dataclass(frozen=True, slots=True)
class Filters:
    """Which entries are wanted; None for any. The names `actor` and `package` match in any case. `until` is
    exclusive.
    """

    action: str | None = None
    actor: str | None = None
    package: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def _optional(name: str, kind: Any, condition: Any) -> sa.ColumnElement[bool]:
    """`condition` on the parameter `name`, or no condition if the parameter is NULL."""
    return sa.or_(sa.cast(p(name, type_=kind), kind).is_(None), condition(p(name, type_=kind)))


_actor = sa.select(users.c.id).where(
    sa.func.lower(users.c.username) == sa.func.lower(p("actor", type_=sa.Text)), users.c.deleted_at.is_(None)
)
_FILTERED = sa.and_(
    _c.id < p("before"),
    _optional("action", sa.Text, lambda action: _c.action == action),
    sa.or_(sa.cast(p("actor", type_=sa.Text), sa.Text).is_(None), _c.actor_id == _actor.scalar_subquery()),
    _optional("package", sa.Text, lambda name: packages.c.name == sa.func.lower(name)),
    _optional("since", sa.DateTime(timezone=True), lambda time: _c.at >= time),
    _optional("until", sa.DateTime(timezone=True), lambda time: _c.at < time),
)
_PAGE = (
    sa.select(
        _c.id, _c.at, _c.action, _c.actor_id, _c.token_id, _c.token_name, _c.publisher,
        sa.func.host(_c.ip).label("ip"), _c.user_agent, _c.version, _c.details,
        SHOWN_NAME.label("actor"), packages.c.name.label("package"),
    )
    .select_from(entries)
    .outerjoin(users, users.c.id == _c.actor_id)
    .outerjoin(packages, packages.c.id == _c.package_id)
    .where(_FILTERED)
    .order_by(_c.id.desc())
    .limit(p("count"))
)  # fmt: skip
_OF_PACKAGE = statement(_PAGE.where(_c.package_id == p("of_package")))
# An index finds the entries of each of the two columns.
_OF_USER = statement(_PAGE.where(sa.or_(_c.actor_id == p("of_user"), _c.account_id == p("of_user"))))
_ALL = statement(_PAGE)
# The trigger lets only a transaction with this setting delete entries.
_ALLOW_PURGE = statement(sa.select(sa.func.set_config("registry.audit_retention", "on", sa.true())))
_PURGE = statement(
    sa.delete(entries).where(
        _c.id.in_(sa.select(_c.id).where(_c.at < sa.func.now() - p("age", type_=sa.Interval)).limit(PURGED_AT_ONCE))
    )
)


async def of_package(conn: Connection, package_id: int, filters: Filters, before: int, count: int) -> list[Row]:
    """Up to `count` entries about a package with ids below `before`, newest first."""
    return await conn.all(_OF_PACKAGE, of_package=package_id, **_values(filters, before, count))


async def of_user(conn: Connection, user_id: int, filters: Filters, before: int, count: int) -> list[Row]:
    """Up to `count` entries by or about a user with ids below `before`, newest first."""
    return await conn.all(_OF_USER, of_user=user_id, **_values(filters, before, count))


async def of_registry(conn: Connection, filters: Filters, before: int, count: int) -> list[Row]:
    """Up to `count` entries with ids below `before`, newest first."""
    return await conn.all(_ALL, **_values(filters, before, count))


async def purge(conn: Connection, age: timedelta) -> int:
    """Deletes up to PURGED_AT_ONCE entries older than `age`. Returns how many."""
    await conn.run(_ALLOW_PURGE)
    return await conn.run(_PURGE, age=age)


def _values(filters: Filters, before: int, count: int) -> dict[str, Any]:
    return {
        "before": before,
        "count": count,
        "action": filters.action,
        "actor": filters.actor,
        "package": filters.package,
        "since": filters.since,
        "until": filters.until,
    }
