"""Leases due jobs and runs them, in any number of processes.

A lease lasts LEASE and is renewed while the job runs. When a worker dies, the lease ends and another worker takes the
job. A worker that was frozen notices that its lease is lost, and cancels the job. It can't mark the job as done,
because each update of a leased job requires the current lease.
"""

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

from prometheus_client import Counter, Histogram

from registry.db.engine import Database
from registry.errors import Unavailable
from registry.events.announcements import Announcements, wait
from registry.jobs import store
from registry.jobs.queue import CHANNEL, Job, Kind

log = logging.getLogger(__name__)

RUNS = Counter("registry_jobs_total", "Runs of jobs", ["job", "outcome"])
SECONDS = Histogram(
    "registry_job_seconds", "How long runs of jobs took", ["job"], buckets=(0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 1800)
)
DONE, FAILED, UNAVAILABLE, DIED, LOST = "done", "failed", "unavailable", "dead", "lost"

LEASE = timedelta(seconds=30)
RENEWALS_PER_LEASE = 3
POLL_SECONDS = 1.0
SCHEDULE_SECONDS = 60.0
# The number of jobs of all kinds that one process runs at the same time.
MAX_RUNNING = 32
FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 3600.0
MAX_ERROR = 2000


def back_off(attempt: int, chance: float) -> timedelta:
    """The pause after the failed `attempt`, which counts from 1. The pause doubles with each attempt.

    `chance` (0 to 1) shortens it by up to half. With this jitter, jobs that failed together are not retried together.
    """
    seconds = min(FIRST_RETRY_SECONDS * 2.0 ** min(attempt - 1, 30), LONGEST_RETRY_SECONDS)
    return timedelta(seconds=seconds * (1 - chance / 2))


class Runner:
    """Runs jobs of `kinds` in this process. `run()` does it until it is cancelled."""

    def __init__(
        self,
        db: Database,
        announcements: Announcements,
        kinds: Sequence[Kind],
        *,
        lease: timedelta = LEASE,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._announcements = announcements
        self._kinds = {kind.name: kind for kind in kinds}
        self._lease = lease
        self._chance = chance
        self._clock = clock
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._tasks: set[asyncio.Task[None]] = set()
        # The tasks of running jobs, by lease. A task is removed before the result of its job is saved.
        self._leased: dict[UUID, asyncio.Task[None]] = {}
        # Creates these series at 0, so that alerts see the first failure as an increase.
        for name in self._kinds:
            for outcome in (FAILED, DIED):
                RUNS.labels(name, outcome)

    async def run(self) -> None:
        """Leases and runs jobs for ever. When cancelled, it cancels the running jobs and releases their leases."""
        try:
            with self._announcements.wakeups(CHANNEL) as wakeup:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._renew_forever())
                    tasks.create_task(self._lease_forever(wakeup))
        finally:
            # Jobs whose result is being saved are not in `_leased`, so they are not cancelled.
            for task in list(self._leased.values()):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _lease_forever(self, wakeup: asyncio.Event) -> None:
        schedule_at = self._clock()
        while True:
            wakeup.clear()
            try:
                if self._clock() >= schedule_at:
                    await self._schedule()
                    schedule_at = self._clock() + SCHEDULE_SECONDS
                await self._lease_due(wakeup)
            except Unavailable as error:
                log.info("no jobs are leased because a server is unavailable", extra={"reason": error.detail})
            await wait(wakeup, POLL_SECONDS)

    async def _schedule(self) -> None:
        """Adds periodic jobs that are missing: in a new registry, or after a restore from a backup."""
        async with self._db.transaction() as conn:
            for kind in self._kinds.values():
                if kind.every is not None:
                    await store.schedule(conn, kind.name, kind.every, kind.first_after)

    async def _lease_due(self, wakeup: asyncio.Event) -> None:
        free = MAX_RUNNING - len(self._tasks)
        if free <= 0:
            return
        limits = {name: kind.concurrency for name, kind in self._kinds.items()}
        async with self._db.transaction() as conn:
            rows = await store.lease(conn, limits, free, self._worker, self._lease)
        for row in rows:
            held = UUID(str(row.lease))
            job = Job(row.id, row.kind, row.payload, row.attempts)
            task = asyncio.create_task(self._work(self._kinds[job.kind], job, held), name=f"job {job.kind}")
            self._leased[held] = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: wakeup.set())

    async def _renew_forever(self) -> None:
        """Renews the leases of running jobs, and cancels jobs whose lease is lost."""
        renewed_at = self._clock()
        while True:
            await asyncio.sleep(self._lease.total_seconds() / RENEWALS_PER_LEASE)
            leased = dict(self._leased)
            began = self._clock()
            lost: set[UUID] = set()
            try:
                if leased:
                    async with self._db.transaction() as conn:
                        lost = set(leased) - await store.renew(conn, list(leased), self._lease)
                renewed_at = began
            except Unavailable as error:
                log.warning("leases can't be renewed", extra={"reason": error.detail})
                if began - renewed_at >= self._lease.total_seconds():
                    lost = set(leased)
            for held in lost & set(self._leased):
                self._leased.pop(held).cancel()

    async def _work(self, kind: Kind, job: Job, held: UUID) -> None:
        began = self._clock()
        try:
            result = await self._handle(kind, job)
        except asyncio.CancelledError:
            if self._leased.pop(held, None) is None:
                self._count(kind, job, LOST, began)
            else:
                await self._release(kind, job, held)
            raise
        self._leased.pop(held, None)
        outcome = LOST
        try:
            outcome = await self._save_result(kind, job, held, result)
        except Unavailable as unavailable:
            log.warning("the result of a job can't be saved", extra={"job": kind.name, "reason": unavailable.detail})
        self._count(kind, job, outcome, began)

    def _count(self, kind: Kind, job: Job, outcome: str, began: float) -> None:
        if outcome == LOST:
            log.warning("job lost its lease and runs again", extra={"job": kind.name, "id": job.id})
        RUNS.labels(kind.name, outcome).inc()
        SECONDS.labels(kind.name).observe(self._clock() - began)

    async def _handle(self, kind: Kind, job: Job) -> Exception | timedelta | None:
        """Runs a job. Returns its error, or the time after which it wants to run again."""
        try:
            again = await kind.run(job)
        except Unavailable as error:
            log.warning("job can't run now", extra={"job": kind.name, "id": job.id, "reason": error.detail})
            return error
        except Exception as error:  # a bug in one job must not end the others
            log.exception("job failed", extra={"job": kind.name, "id": job.id, "attempt": job.attempt})
            return error
        return again if isinstance(again, timedelta) else None

    async def _save_result(self, kind: Kind, job: Job, held: UUID, result: Exception | timedelta | None) -> str:
        """Saves the result of a run and returns its outcome."""
        if not isinstance(result, Exception):
            again_after = kind.every if result is None else result
            async with self._db.transaction() as conn:
                return DONE if await store.finish(conn, job.id, held, again_after) else LOST
        delay = back_off(job.attempt, self._chance())
        if kind.every is not None:
            delay = min(delay, kind.every)
        text = f"{type(result).__name__}: {result}".replace("\0", "")[:MAX_ERROR]
        async with self._db.transaction() as conn:
            state = await store.fail(conn, job.id, held, delay, text)
        if state == store.DEAD:
            log.error("job is dead", extra={"job": kind.name, "id": job.id, "error": text})
            return DIED
        if state is None:
            return LOST
        return UNAVAILABLE if isinstance(result, Unavailable) else FAILED

    async def _release(self, kind: Kind, job: Job, held: UUID) -> None:
        """Releases the lease, so that another process can run the job at once."""
        try:
            async with self._db.transaction() as conn:
                await store.release(conn, job.id, held)
        except Unavailable as error:
            log.info("lease can't be released", extra={"job": kind.name, "id": job.id, "reason": error.detail})
