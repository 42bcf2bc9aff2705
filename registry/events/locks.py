"""Locks that only one process of the registry can hold, such as the lock of a consumer.

A lock belongs to a session of PostgreSQL and ends with it. A process that dies loses the session at once. A process
that is frozen keeps its connection open, so the holder sends a heartbeat, and PostgreSQL ends a session without one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Database, Statement, statement
from registry.tasks import cancellations, raise_lost_cancellation

HEARTBEAT_SECONDS = 2.0
# PostgreSQL ends the session only after several missed heartbeats, because the event loop may be busy for a moment.
IDLE_SECONDS = 10
RETRY_SECONDS = 1.0

_TRY_LOCK = statement(
    sa.select(sa.func.pg_try_advisory_lock(p("class_", type_=sa.Integer), p("key", type_=sa.Integer)))
)
_HEARTBEAT = Statement("SELECT 1", {})


@asynccontextmanager
async def held(db: Database, class_: int, key: int) -> AsyncIterator[None]:
    """Waits for the lock (`class_`, `key`) and holds it within the block.

    Cancels the block and raises DatabaseUnavailable when the session is lost: another process may hold the lock then.
    """
    before = cancellations()
    async with db.session() as (conn, _):
        await conn.command(f"SET idle_session_timeout = '{IDLE_SECONDS}s'")
        while not await conn.value(_TRY_LOCK, class_=class_, key=key):
            await asyncio.sleep(RETRY_SECONDS)
        try:
            async with asyncio.TaskGroup() as tasks:
                heartbeat = tasks.create_task(_send_heartbeats(conn))
                yield
                heartbeat.cancel()
        except BaseExceptionGroup as group:
            raise_lost_cancellation(before)
            raise group.exceptions[0] from None


async def _send_heartbeats(conn: Connection) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        async with asyncio.timeout(IDLE_SECONDS):
            await conn.value(_HEARTBEAT)
