"""The job queue on a real PostgreSQL: leases, retries, dead jobs, limits and schedules."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from registry.db.engine import Database, Row, Statement
from registry.errors import StorageUnavailable
from registry.events.announcements import Announcements
from registry.jobs import queue, store
from registry.jobs.queue import Job, Kind
from registry.jobs.runner import LONGEST_RETRY_SECONDS, SCHEDULE_SECONDS, Runner, back_off
from registry.tasks import running

HOUR = timedelta(hours=1)
_ROWS = Statement("SELECT *, run_at <= now() AS is_due FROM jobs ORDER BY id", {})
_DUE = Statement("UPDATE jobs SET run_at = now() WHERE state = 'queued'", {})
_STEAL = Statement("UPDATE jobs SET lease = gen_random_uuid(), run_at = now() + interval '1 hour'", {})


@pytest.fixture
def outcomes() -> Callable[[str], float]:
    """How many runs of jobs of kind `test` had an outcome, since the test began."""

    def value(outcome: str) -> float:
        return REGISTRY.get_sample_value("registry_jobs_total", {"job": "test", "outcome": outcome}) or 0.0

    before = {outcome: value(outcome) for outcome in ("done", "failed", "unavailable", "dead", "lost")}
    return lambda outcome: value(outcome) - before[outcome]


class Work:
    """A handler that records its jobs. It raises `failures` one by one, and waits while `go_on` is not set."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.failures: list[Exception] = []
        self.cancelled = 0
        self.now = self.most = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, job: Job) -> None:
        self.jobs.append(job)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.go_on.wait()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1
        if self.failures:
            raise self.failures.pop(0)


@asynccontextmanager
async def runner(db: Database, hub: Announcements, work: Work, **more: Any) -> AsyncIterator[None]:
    lease = more.pop("lease", timedelta(seconds=30))
    kinds = [Kind("test", work, **more)]
    async with running({"jobs": Runner(db, hub, kinds, lease=lease, chance=lambda: 0.0).run}):
        yield


async def enqueue(db: Database, **more: Any) -> int | None:
    async with db.transaction() as conn:
        return await queue.enqueue(conn, "test", more.pop("payload", {}), **more)


async def rows(db: Database) -> list[Row]:
    async with db.read() as conn:
        return await conn.all(_ROWS)


async def run(db: Database, stmt: Statement) -> None:
    async with db.transaction() as conn:
        await conn.run(stmt)


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)


async def empty(db: Database) -> None:
    async def is_empty() -> bool:
        return not await rows(db)

    await until(is_empty)


async def started(work: Work, count: int) -> None:
    async def are_there() -> bool:
        return len(work.jobs) >= count

    await until(are_there)


async def state(db: Database, wanted: str, attempts: int) -> None:
    async def is_so() -> bool:
        return [(row.state, row.attempts) for row in await rows(db)] == [(wanted, attempts)]

    await until(is_so)


async def test_a_job_runs_once_and_is_removed(db, announcements, outcomes):
    work = Work()
    async with runner(db, announcements, work):
        job = await enqueue(db, payload={"number": 7})
        await empty(db)
    assert work.jobs == [Job(job, "test", {"number": 7}, 1)]
    assert outcomes("done") == 1


async def test_a_job_is_not_added_when_its_transaction_fails(db):
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as conn:
            await queue.enqueue(conn, "test", {})
            raise ZeroDivisionError
    assert await rows(db) == []


async def test_a_key_is_unique_among_live_jobs(db, announcements):
    work = Work()
    assert await enqueue(db, key="a")
    assert await enqueue(db, key="a") is None
    assert await enqueue(db, key="b")
    async with runner(db, announcements, work):
        await empty(db)
    assert len(work.jobs) == 2
    assert await enqueue(db, key="a")


async def test_a_job_is_not_due_before_its_delay(db, announcements):
    work = Work()
    later = await enqueue(db, delay=HOUR)
    async with runner(db, announcements, work):
        now = await enqueue(db)
        await state(db, "queued", 0)  # one job is left
    assert [job.id for job in work.jobs] == [now]
    [row] = await rows(db)
    assert (row.id, row.is_due) == (later, False)


async def test_a_failed_job_is_retried_and_is_dead_after_its_last_attempt(db, announcements, outcomes):
    work = Work()
    work.failures = [ValueError("a bug\0"), StorageUnavailable("away"), ValueError("still a bug")]
    await enqueue(db, max_attempts=3)
    async with runner(db, announcements, work):
        for attempt in (1, 2):
            await state(db, "queued", attempt)
            assert not (await rows(db))[0].is_due
            await run(db, _DUE)
        await state(db, "dead", 3)
        assert [job.attempt for job in work.jobs] == [1, 2, 3]
        async with db.transaction() as conn:
            [dead] = await store.dead(conn, 0, 10)
            assert dead.last_error == "ValueError: still a bug"
            assert await queue.retry(conn, dead.id)
            assert not await queue.retry(conn, dead.id)
        await empty(db)
    assert [outcomes(each) for each in ("failed", "unavailable", "dead", "done")] == [1, 1, 1, 1]


async def test_a_dead_job_is_not_retried_while_a_live_job_has_its_key(db, announcements):
    work = Work()
    work.failures = [ValueError("a bug")]
    await enqueue(db, key="a", max_attempts=1)
    async with runner(db, announcements, work):
        await state(db, "dead", 1)
    await enqueue(db, key="a", delay=HOUR)
    async with db.transaction() as conn:
        [dead] = await store.dead(conn, 0, 10)
        assert not await queue.retry(conn, dead.id)


async def test_old_dead_jobs_are_removed(db):
    await enqueue(db)
    for days, left in ((89, 1), (91, 0)):
        age = f"UPDATE jobs SET state = 'dead', updated_at = now() - interval '{days} days'"
        await run(db, Statement(age, {}))
        async with db.transaction() as conn:
            await store.purge(conn)
        assert len(await rows(db)) == left


def test_retries_back_off_up_to_an_hour_with_jitter():
    longest = [back_off(attempt, 0.0).total_seconds() for attempt in range(1, 15)]
    assert longest[:4] == [5, 10, 20, 40]
    assert longest[-1] == LONGEST_RETRY_SECONDS
    assert back_off(1, 1.0).total_seconds() == 2.5
    assert back_off(10_000, 0.0).total_seconds() == LONGEST_RETRY_SECONDS


async def test_several_workers_run_each_job_once(db, announcements):
    works = [Work() for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(enqueue(db))
    async with (
        runner(db, announcements, works[0], concurrency=100),
        runner(db, announcements, works[1], concurrency=100),
        runner(db, announcements, works[2], concurrency=100),
    ):
        await empty(db)
    done = sorted(job.id for work in works for job in work.jobs)
    assert len(done) == len(set(done)) == 40


async def test_the_concurrency_of_a_kind_is_limited_across_workers(db, announcements):
    work = Work()
    work.go_on.clear()
    for _ in range(6):
        await enqueue(db)
    async with runner(db, announcements, work, concurrency=2), runner(db, announcements, work, concurrency=2):
        await started(work, 2)
        # Each announcement makes both runners look for due jobs, but the limit is reached.
        for _ in range(5):
            await enqueue(db)
        work.go_on.set()
        await empty(db)
    assert work.most == 2
    assert len(work.jobs) == 11


async def test_the_lease_of_a_long_job_is_renewed(db, announcements):
    work = Work()
    work.go_on.clear()
    await enqueue(db)
    async with runner(db, announcements, work, lease=timedelta(seconds=1)):
        await started(work, 1)
        ends = {(await rows(db))[0].run_at}

        async def renewed() -> bool:
            ends.add((await rows(db))[0].run_at)
            return len(ends) > 5

        await until(renewed)
        work.go_on.set()
        await empty(db)
    assert len(work.jobs) == 1


async def test_a_worker_that_loses_its_lease_cancels_the_job_and_does_not_complete_it(db, announcements, outcomes):
    work = Work()
    work.go_on.clear()
    await enqueue(db)
    async with runner(db, announcements, work, lease=timedelta(seconds=1)):
        await started(work, 1)
        await run(db, _STEAL)

        async def was_cancelled() -> bool:
            return work.cancelled == 1 and outcomes("lost") == 1

        await until(was_cancelled)
    [row] = await rows(db)
    assert (row.state, row.is_due) == ("running", False)
    assert outcomes("done") == 0


async def test_a_job_that_ends_after_its_lease_was_lost_is_not_marked_as_done(db, announcements, outcomes):
    """The lease is so long that no renewal detects the loss before the job ends."""
    work = Work()
    work.go_on.clear()
    await enqueue(db)
    async with runner(db, announcements, work, lease=HOUR):
        await started(work, 1)
        await run(db, _STEAL)
        work.go_on.set()

        async def is_counted() -> bool:
            return outcomes("lost") == 1

        await until(is_counted)
    [row] = await rows(db)
    assert row.state == "running"
    assert outcomes("done") == 0


async def test_a_worker_that_stops_releases_its_jobs(db, announcements):
    work = Work()
    work.go_on.clear()
    await enqueue(db)
    async with runner(db, announcements, work):
        await started(work, 1)
    [row] = await rows(db)
    assert (row.state, row.is_due, row.attempts, row.lease) == ("queued", True, 0, None)


async def test_a_periodic_job_runs_once_an_interval_in_the_whole_registry(db, announcements, outcomes):
    work = Work()
    for _ in range(3):  # restarts
        async with runner(db, announcements, work, every=HOUR), runner(db, announcements, work, every=HOUR):
            await state(db, "queued", 0)
            await started(work, 1)
            await state(db, "queued", 0)
    assert len(work.jobs) == 1
    assert outcomes("done") == 1
    [row] = await rows(db)
    assert row.finished_at is not None
    assert not row.is_due
    await run(db, _DUE)
    async with runner(db, announcements, work, every=HOUR), runner(db, announcements, work, every=HOUR):
        await started(work, 2)
        await state(db, "queued", 0)
    assert len(work.jobs) == 2


async def test_a_periodic_job_that_fails_is_retried_and_never_dead(db, announcements):
    work = Work()
    work.failures = [ValueError("a bug")] * 30
    async with runner(db, announcements, work, every=timedelta(seconds=0.01)):
        await started(work, 3)
        work.failures.clear()

        async def recovered() -> bool:
            [row] = await rows(db)
            return row.finished_at is not None

        await until(recovered)


async def test_a_missing_periodic_job_is_added_again(db, announcements):
    """A restore from an older backup may have removed its row."""
    now = 0.0
    kind = Kind("test", Work(), every=HOUR, first_after=HOUR)
    async with running({"jobs": Runner(db, announcements, [kind], clock=lambda: now).run}):
        await state(db, "queued", 0)
        await run(db, Statement("DELETE FROM jobs", {}))
        now += SCHEDULE_SECONDS
        await state(db, "queued", 0)


async def test_the_first_run_of_a_periodic_job_can_be_delayed(db, announcements):
    work = Work()
    async with runner(db, announcements, work, every=HOUR, first_after=HOUR):
        await state(db, "queued", 0)
    [row] = await rows(db)
    assert not row.is_due
    assert work.jobs == []


async def test_a_shorter_interval_brings_the_next_run_forward(db, announcements):
    work = Work()
    async with runner(db, announcements, work, every=24 * HOUR, first_after=24 * HOUR):
        await state(db, "queued", 0)
    [before] = await rows(db)
    async with runner(db, announcements, work, every=HOUR):

        async def is_earlier() -> bool:
            return bool((await rows(db))[0].run_at < before.run_at - 22 * HOUR)

        await until(is_earlier)


async def test_a_job_that_has_more_to_do_stays_and_runs_again(db: Database, announcements: Announcements):
    seen: list[Job] = []

    async def work(job: Job) -> timedelta | None:
        seen.append(job)
        return timedelta(0) if len(seen) < 3 else None

    first = await enqueue(db, key="host")
    async with running({"jobs": Runner(db, announcements, [Kind("test", work)]).run}):
        async with asyncio.timeout(30):
            while await rows(db):
                await asyncio.sleep(0.02)
    assert [(job.id, job.attempt) for job in seen] == [(first, 1)] * 3
