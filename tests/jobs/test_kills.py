"""Workers are killed in the middle of their jobs: no job is lost, and periodic jobs don't run more often."""

import asyncio
import random
import sys
from asyncio.subprocess import Process

from registry.db.engine import Database, Statement
from registry.jobs import queue
from tests.jobs.worker import KIND, PERIODIC, TABLE

KILLS = 8
JOBS_PER_KILL = 12
_DONE = Statement("SELECT number FROM done WHERE kind = %(kind)s", {})
_LEFT = Statement("SELECT count(*) FROM jobs WHERE kind = %(kind)s", {})
_RUNNING = Statement("SELECT split_part(leased_by, ':', 2)::integer AS pid FROM jobs WHERE state = 'running'", {})


async def start(url: str) -> Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.jobs.worker", url)


async def enqueue(db: Database, numbers: range) -> None:
    async with db.transaction() as conn:
        for number in numbers:
            await queue.enqueue(conn, KIND, {"number": number})


async def busy(db: Database) -> set[int]:
    """Returns the process ids of the workers that hold a lease."""
    async with db.read() as conn:
        return {row.pid for row in await conn.all(_RUNNING)}


async def left(db: Database) -> int:
    async with db.read() as conn:
        return int(await conn.value(_LEFT, kind=KIND))


async def test_every_job_is_done_even_if_workers_are_killed(db: Database, database_url: str):
    async with db.transaction() as conn:
        await conn.command(TABLE)
    workers = [await start(database_url) for _ in range(3)]
    try:
        async with asyncio.timeout(240):
            for kill in range(KILLS):
                await enqueue(db, range(kill * JOBS_PER_KILL, (kill + 1) * JOBS_PER_KILL))
                while not (holding := [each for each in workers if each.pid in await busy(db)]):
                    await asyncio.sleep(0.01)
                victim = random.choice(holding)
                victim.kill()
                await victim.wait()
                workers[workers.index(victim)] = await start(database_url)
            while await left(db):
                await asyncio.sleep(0.1)
            async with db.read() as conn:
                while not (ticks := await conn.all(_DONE, kind=PERIODIC)):
                    await asyncio.sleep(0.1)
    finally:
        for each in workers:
            each.kill()
            await each.wait()
    async with db.read() as conn:
        done = [row.number for row in await conn.all(_DONE, kind=KIND)]
    jobs = KILLS * JOBS_PER_KILL
    assert set(done) == set(range(jobs))
    # A job runs again only if its worker died after the work and before it removed the job: at most four per kill.
    assert len(done) <= jobs + 4 * KILLS
    assert 1 <= len(ticks) <= 1 + KILLS
