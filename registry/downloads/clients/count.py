"""Counts how many clients downloaded each package per day. Popularity in the search is made of these numbers.

A consumer follows the table of downloads by its ids, which are in the order of commits. It counts a window of downloads
and moves its cursor in one transaction, so each download counts exactly once. Serving a download costs nothing more.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from registry.db.engine import Database
from registry.downloads.clients import store
from registry.events import consumer
from registry.events.announcements import Announcements
from registry.events.consumer import CLIENTS
from registry.jobs import queue
from registry.jobs.queue import Job, Kind

# The number of downloads that one transaction counts. Many downloads by one client cost as little as a single one.
WINDOW = 20_000
PAUSE_SECONDS = 0.5

ESTIMATES = "estimate clients"
# The number of packages whose past one run of the job estimates.
ESTIMATED_AT_ONCE = 2_000


async def follow(db: Database, announcements: Announcements, *, pause: float = PAUSE_SECONDS) -> None:
    """Counts the clients of all downloads. Ends only by cancellation."""
    await consumer.lead(db, announcements, CLIENTS, partial(count_window, db), batch=WINDOW, pause=pause)


async def count_window(db: Database, *, window: int = WINDOW) -> int:
    """Counts the clients of the next downloads, `window` at most. Returns the number of downloads.

    The cursor must exist.
    """
    async with db.read() as conn:
        position = await store.position(conn, CLIENTS)
    if position.seq >= position.last:
        return 0
    async with db.transaction() as conn:
        after = await store.lock_position(conn, CLIENTS)
        until, found = await store.end_of_window(conn, after, window)
        if found:
            await store.count(conn, after, until)
            await consumer.save(conn, CLIENTS, after, until)
    return found


def estimates(db: Database) -> Kind:
    """The job that estimates the clients of days whose single downloads are not kept. An upgrade adds it once."""

    async def run(job: Job) -> None:
        await estimate(db, job.payload)

    return Kind(ESTIMATES, run)


async def estimate(db: Database, payload: Mapping[str, Any]) -> None:
    """Estimates the clients of some packages, and adds the job for the next ones in the same transaction."""
    async with db.transaction() as conn:
        last = await store.estimate(conn, payload["after"], ESTIMATED_AT_ONCE)
        if last is not None:
            await queue.enqueue(conn, ESTIMATES, {"after": last})
