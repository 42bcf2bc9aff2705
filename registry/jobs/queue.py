"""The job queue, for work that must happen after a transaction has committed, even if processes die.

A job is a row. `enqueue()` adds it on the caller's connection, so the job exists if and only if the transaction
commits. A worker (`registry.jobs.runner`) leases it, runs it, and removes it. A job whose worker died, or lost its
lease, runs again: handlers must be idempotent. A job that fails is retried with exponential back-off; after
`max_attempts` it is dead. Dead jobs stay for 90 days, so that an operator can look at them and retry them.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from registry.db.engine import Connection, Database
from registry.jobs import store

CHANNEL = "registry_jobs"
"""Announces the kind of a job that is due."""

MAX_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Job:
    """What a handler gets. `attempt` is 1 at the first try."""

    id: int
    kind: str
    payload: dict[str, Any]
    attempt: int

    @property
    def has_begun(self) -> bool:
        """Whether an earlier run called `begin_once` and ended before it saved its result."""
        return bool(self.payload.get("begun"))


@dataclass(frozen=True, slots=True)
class Kind:
    """How jobs of one kind run. At most `concurrency` of them run at the same time in the whole registry.

    With `every` the kind is periodic: it has a single job, which is due again `every` after each run and is never dead.
    In a new registry it first runs after `first_after`. To end a periodic kind for good, delete its row in a migration.

    A `run` that returns a timedelta has more to do: its job stays in the queue and is due again after that time.
    """

    name: str
    run: Callable[[Job], Awaitable[object]]
    concurrency: int = 1
    every: timedelta | None = None
    first_after: timedelta = timedelta(0)


async def enqueue(
    conn: Connection,
    kind: str,
    payload: Mapping[str, Any],
    *,
    key: str | None = None,
    delay: timedelta = timedelta(0),
    max_attempts: int = MAX_ATTEMPTS,
) -> int | None:
    """Adds a job that is due after `delay`, in the transaction of `conn`. Returns its id.

    If a queued or running job of the same kind has this `key`, adds nothing and returns None.
    """
    job = await store.enqueue(conn, kind, payload, key, delay, max_attempts)
    if job is not None:
        conn.announce(CHANNEL, kind)
    return job


async def retry(conn: Connection, job: int) -> bool:
    """Makes the dead job due again. False when it isn't dead, or when a live job has the same kind and key."""
    retried = await store.retry(conn, job)
    if retried:
        conn.announce(CHANNEL, "")
    return retried


async def begin_once(conn: Connection, job: Job) -> bool:
    """Marks the running job, in the transaction of `conn`, right before a step that must never happen twice.

    Returns False if another run has marked it: then the step may have happened. Each run asks `Job.has_begun` first.
    """
    return await store.begin(conn, job.id)


async def undo_begin(conn: Connection, job: Job) -> None:
    """Removes the mark of `begin_once`, because the step certainly did not happen."""
    await store.undo_begin(conn, job.id)


async def purge(db: Database) -> int:
    """Removes jobs that have been dead for 90 days. Returns their number."""
    async with db.transaction() as conn:
        return await store.purge(conn)
