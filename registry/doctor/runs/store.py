"""The SQL of the doctor's last runs."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, json, statement
from registry.db.tables import doctor_runs

KEPT = 20

_c = doctor_runs.c
_ADD = statement(
    sa.insert(doctor_runs).values(seconds=p("seconds"), is_deep=p("is_deep"), report=p("report")).returning(_c.id)
)
_FORGET = statement(
    sa.delete(doctor_runs).where(_c.id.not_in(sa.select(_c.id).order_by(_c.id.desc()).limit(p("kept", KEPT))))
)
_LAST = statement(
    sa.select(_c.id, _c.finished_at, _c.seconds, _c.is_deep, _c.report).order_by(_c.id.desc()).limit(p("count"))
)


async def add(conn: Connection, report: Mapping[str, Any], *, seconds: float, is_deep: bool) -> None:
    """Adds a run, and deletes all but the last KEPT runs."""
    await conn.run(_ADD, seconds=seconds, is_deep=is_deep, report=json(dict(report)))
    await conn.run(_FORGET)


async def last(conn: Connection, count: int) -> list[Row]:
    """The last `count` runs, newest first."""
    return await conn.all(_LAST, count=count)
