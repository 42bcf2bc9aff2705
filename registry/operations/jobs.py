"""The background jobs as admins see them. Payloads are not shown: those of mails have addresses and links."""

from dataclasses import dataclass
from datetime import datetime

from registry.accounts.identity import Principal
from registry.db.engine import Database
from registry.errors import Conflict, InvalidInput, NotFound
from registry.events import audit
from registry.jobs import queue, store

STATES = (store.DEAD, store.QUEUED, store.RUNNING)
NO_JOB = "There is no job with this id. It may have ended."


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job. `max_attempts` is None for a periodic job, and `finished_at` is when it last succeeded.

    `run_at` is when a queued job is due, and when the lease of a running job ends. A dead job died at `updated_at`.
    """

    id: int
    kind: str
    state: str
    attempts: int
    max_attempts: int | None
    last_error: str
    run_at: datetime
    finished_at: datetime | None
    created_at: datetime
    updated_at: datetime


async def list_jobs(db: Database, who: Principal, state: str, before: int, count: int) -> list[ListedJob]:
    """Up to `count` jobs in a state with ids below `before`, newest first.

    Raises InvalidInput for an unknown state, and Forbidden unless `who` is an admin.
    """
    who.require("admin")
    if state not in STATES:
        raise InvalidInput.field("state", f"must be one of {', '.join(STATES)}")
    async with db.read() as conn:
        rows = await store.page(conn, state, before, count)
    return [ListedJob(**{name: getattr(row, name) for name in ListedJob.__slots__}) for row in rows]


async def count_jobs(db: Database, who: Principal) -> dict[str, int]:
    """The number of jobs in each state. Raises Forbidden unless `who` is an admin."""
    who.require("admin")
    counts = dict.fromkeys(STATES, 0)
    async with db.read() as conn:
        for _, state, number, _ in await store.figures(conn):
            counts[state] += number
    return counts


async def retry_job(db: Database, who: Principal, job: int) -> None:
    """Makes a dead job due again. Raises NotFound, Forbidden unless `who` is an admin, and Conflict.

    A conflict means that the job isn't dead, or that a job that does the same is in the queue.
    """
    who.require("admin")
    async with db.transaction() as conn:
        kind = await store.kind_of(conn, job)
        if kind is None:
            raise NotFound(NO_JOB)
        if not await queue.retry(conn, job):
            raise Conflict("This job is not dead, or another job that does the same is in the queue.")
        audit.write_with_commit(conn, "job.retry", who.actor, details={"job": job, "kind": kind})


async def discard_job(db: Database, who: Principal, job: int) -> None:
    """Deletes a dead job. Its work is never done. Raises NotFound, and Forbidden unless `who` is an admin."""
    who.require("admin")
    async with db.transaction() as conn:
        kind = await store.discard(conn, job)
        if kind is None:
            raise NotFound("There is no dead job with this id.")
        audit.write_with_commit(conn, "job.discard", who.actor, details={"job": job, "kind": kind})
