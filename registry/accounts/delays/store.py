"""The SQL of failed attempts at passwords."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, statement
from registry.db.tables import password_failures as failures

# The clock, not the transaction's start: who waited for the row's lock has to see the time it is then.
_NOW = sa.func.clock_timestamp()
_KEYS = failures.c.key == sa.func.any(p("keys"))


def _after(seconds: sa.ColumnElement[float]) -> sa.ColumnElement[datetime]:
    return _NOW + seconds * sa.text("interval '1 second'")


_COUNT = failures.c.failures + 1
_NEXT = sa.case(
    (
        p("free", type_=sa.Integer) <= _COUNT,
        # The exponent is bounded, too: 2 to the power of thousands is no number of PostgreSQL's.
        _after(sa.func.least(p("longest", type_=sa.Float), sa.func.power(2.0, sa.func.least(_COUNT - p("free"), 30)))),
    ),
)
_ADD = statement(
    insert(failures)
    .values(key=p("key"), failures=1, failed_at=_NOW)
    .on_conflict_do_update(
        index_elements=[failures.c.key], set_={"failures": _COUNT, "failed_at": _NOW, "next_try_at": _NEXT}
    )
    .returning(failures.c.failures)
)
_FOUND = statement(
    sa.select(
        failures.c.key,
        failures.c.failures,
        failures.c.next_try_at,
        sa.func.ceil(sa.extract("epoch", failures.c.next_try_at - _NOW)).label("wait"),
    ).where(_KEYS, failures.c.next_try_at.is_not(None))
)
_CLAIM = statement(
    sa.update(failures)
    .where(failures.c.key == p("wanted"), failures.c.next_try_at == p("seen"))
    .values(next_try_at=_after(p("wait", type_=sa.Float)))
)
_FORGET = statement(sa.delete(failures).where(_KEYS))
_PURGE = statement(sa.delete(failures).where(failures.c.failed_at < p("before")))


async def add_failure(conn: Connection, key: str, *, free: int, longest: float) -> int:
    """Counts one more; from `free` on the next attempt waits 1, 2, 4 … seconds, `longest` at most. How many now."""
    return int(await conn.value(_ADD, key=key, free=free, longest=longest))


async def delayed(conn: Connection, keys: Sequence[str]) -> list[Row]:
    """(key, failures, next_try_at, wait) of those that have failed too often; `wait` in whole seconds."""
    return await conn.all(_FOUND, keys=list(keys))


async def claim(conn: Connection, key: str, *, seen: datetime, wait: float) -> bool:
    """Takes the one attempt that is due since `seen` and has the next wait; False when another was faster."""
    return await conn.run(_CLAIM, wanted=key, seen=seen, wait=wait) > 0


async def forget(conn: Connection, keys: Sequence[str]) -> None:
    await conn.run(_FORGET, keys=list(keys))


async def purge(conn: Connection, before: datetime) -> int:
    """Forgets those that failed last before then; how many."""
    return await conn.run(_PURGE, before=before)
