"""The SQL of reports. Every function runs on the caller's connection and commits nothing."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.accounts.store import SHOWN_NAME
from registry.db.engine import Connection, Row, statement
from registry.db.tables import packages, reports, users

_c = reports.c
_ADD = statement(
    sa.insert(reports)
    .values(package_id=p("package_id"), user_id=p("user_id"), kind=p("kind"), text=p("text"))
    .returning(_c.id, _c.created_at)
)
_SHOWN = (
    sa.select(
        _c.id, packages.c.name.label("package"), SHOWN_NAME.label("username"), _c.kind, _c.text, _c.created_at,
        _c.closed_at,
    )
    .join(packages, packages.c.id == _c.package_id)
    .join(users, users.c.id == _c.user_id)
)  # fmt: skip
_closed = p("closed", type_=sa.Boolean)
_PAGE = statement(
    _SHOWN.where(
        _c.id < p("before"),
        sa.or_(sa.cast(_closed, sa.Boolean).is_(None), _c.closed_at.is_not(None) == _closed),
    )
    .order_by(_c.id.desc())
    .limit(p("count"))
)
_FIND = statement(_SHOWN.where(_c.id == p("report")).with_for_update(of=reports))
_CLOSE = statement(
    sa.update(reports)
    .where(_c.id == p("report"))
    .values(closed_at=sa.case((_closed, sa.func.now())))
    .returning(_c.closed_at)
)
_OPEN = statement(sa.select(sa.func.count()).select_from(reports).where(_c.closed_at.is_(None)))


async def add(conn: Connection, package_id: int, user_id: int, kind: str, text: str) -> Row:
    """Adds a report. Returns its id and created_at."""
    return await conn.one(_ADD, package_id=package_id, user_id=user_id, kind=kind, text=text)


async def page(conn: Connection, closed: bool | None, before: int, count: int) -> list[Row]:
    """Up to `count` reports with ids below `before`, newest first. `closed` None means open and closed ones."""
    return await conn.all(_PAGE, closed=closed, before=before, count=count)


async def find(conn: Connection, report: int) -> Row | None:
    """Locks and returns a report, with the names of its package and its user."""
    return await conn.one(_FIND, report=report)


async def close(conn: Connection, report: int, closed: bool) -> datetime | None:
    """Closes a report, or opens it again. Returns when it was closed."""
    found: datetime | None = await conn.value(_CLOSE, report=report, closed=closed)
    return found


async def count_open(conn: Connection) -> int:
    """The number of reports that no admin has closed."""
    return int(await conn.value(_OPEN))
