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
    async with db.session() as (conn, _):
        await conn.command(f"SET idle_session_timeout = '{IDLE_SECONDS}s'")
        while not await conn.value(_TRY_LOCK, class_=class_, key=key):
            await asyncio.sleep(RETRY_SECONDS)
        heartbeat = asyncio.create_task(_send_heartbeats(conn))
        # Not a TaskGroup: before Python 3.13 it drops a cancellation that arrives while an error ends it.
        scope = asyncio.timeout(None)

        def end_block(_: object) -> None:
            scope.reschedule(asyncio.get_running_loop().time())

        try:
            async with scope:
                heartbeat.add_done_callback(end_block)
                try:
                    yield
                finally:
                    heartbeat.remove_done_callback(end_block)
        except TimeoutError:
            if scope.expired():
                await heartbeat  # raises why the session was lost
            raise
        finally:
            heartbeat.cancel()
            await asyncio.gather(heartbeat, return_exceptions=True)


async def _send_heartbeats(conn: Connection) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        async with asyncio.timeout(IDLE_SECONDS):
            await conn.value(_HEARTBEAT)
