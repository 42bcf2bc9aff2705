"""Events that are written to the log by hand, as other releases or a database administrator would."""

from typing import Any

from registry.db.engine import Database, Statement, json
from registry.events import log as event_log

_MANY = Statement(
    """
    INSERT INTO events (seq, type, package, version, data)
    SELECT (SELECT coalesce(max(seq), 0) FROM events) + n, %(type)s, %(package)s, '1.0.' || n, %(data)s
    FROM generate_series(1, %(count)s) AS n
    """,
    {},
)


async def append(db: Database, count: int = 1, type_: str = "version.published", **data: Any) -> None:
    """Appends events of the package `demo` and announces them once."""
    async with db.transaction() as conn:
        await event_log.lock(conn)
        await conn.run(_MANY, count=count, type=type_, package="demo", data=json(data))
        conn.announce(event_log.CHANNEL, "")


async def sql(db: Database, text: str) -> int:
    """The number of rows that the statement changed."""
    async with db.transaction() as conn:
        return await conn.run(Statement(text, {}))


async def value(db: Database, text: str) -> Any:
    async with db.read() as conn:
        return await conn.value(Statement(text, {}))
