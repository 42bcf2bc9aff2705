"""Locks of the whole registry: one holder at a time, and a dead or frozen holder loses the lock."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from registry.db.engine import Database, Statement
from registry.errors import DatabaseUnavailable
from registry.events import locks
from tests.background import in_background
from tests.events.holder import CLASS, KEY

_END_SESSIONS = Statement(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    {},
)
GRANTED = Statement(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    {},
)


@asynccontextmanager
async def holder(url: str) -> AsyncIterator[Process]:
    """A process that holds the lock."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.events.holder", url, stdout=PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"held\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def take(db: Database) -> None:
    async with asyncio.timeout(60), locks.held(db, CLASS, KEY):
        return


async def test_a_lock_can_be_taken_again_after_its_block_ends(db: Database):
    await take(db)
    await take(db)


async def test_a_second_holder_waits_for_the_first(db: Database):
    async with locks.held(db, CLASS, KEY):
        waiting = asyncio.create_task(take(db))
        async with db.read() as conn:
            assert await conn.value(GRANTED) == 1
        assert not waiting.done()
    await waiting


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
async def test_the_lock_of_a_killed_or_frozen_process_is_taken_over(db: Database, database_url: str, sent: int):
    async with holder(database_url) as process:
        os.kill(process.pid, sent)
        await take(db)


async def test_a_holder_that_lost_its_session_stops(db: Database):
    working = asyncio.Event()

    async def hold() -> None:
        async with locks.held(db, CLASS, KEY):
            working.set()
            await asyncio.Event().wait()

    async with in_background(hold()) as task, asyncio.timeout(60):
        await working.wait()
        async with db.read() as conn:
            await conn.all(_END_SESSIONS)
        with pytest.raises(DatabaseUnavailable):
            await task


async def test_an_error_in_the_block_is_raised_unchanged(db: Database):
    with pytest.raises(ZeroDivisionError):
        async with locks.held(db, CLASS, KEY):
            raise ZeroDivisionError


async def test_a_cancellation_is_not_lost_to_an_error_that_ends_the_block(db: Database):
    """asyncio.TaskGroup drops a cancellation that arrives while it ends because of an error."""
    fails = asyncio.Event()
    is_held = asyncio.Event()

    async def hold() -> None:
        async with locks.held(db, CLASS, KEY):
            is_held.set()
            await fails.wait()
            raise DatabaseUnavailable("the block fails")

    async with in_background(hold()) as task, asyncio.timeout(60):
        await is_held.wait()
        fails.set()
        asyncio.get_running_loop().call_soon(task.cancel)
        await asyncio.wait([task])
    assert task.cancelled()
