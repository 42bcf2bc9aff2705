"""What runs in the background: the consumers of the event log and the periodic jobs.

Any number of processes may run it: one of them leads each consumer and runs each job, the others stand by.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from datetime import timedelta
from typing import Any

from registry.accounts import administer
from registry.accounts.delays import attempt
from registry.analytics import consumer as analytics
from registry.analytics.index import open_analytics
from registry.db.engine import Database, open_database
from registry.downloads.record import forget_batches
from registry.events.periodic import every
from registry.packages import sweep
from registry.search import consumer, counts
from registry.search.index import SearchIndex, open_search
from registry.search.reconcile import reconcile
from registry.settings import Settings
from registry.storage.base import Storage
from registry.storage.opened import open_storage

log = logging.getLogger(__name__)

Job = Callable[[], Awaitable[object]]


@contextlib.asynccontextmanager
async def background(settings: Settings, db: Database, storage: Storage, index: SearchIndex) -> AsyncIterator[None]:
    """Everything in the background, for as long as the block lasts."""
    jobs: dict[str, tuple[timedelta, Job]] = {
        "sweep deleted": (
            timedelta(seconds=10), lambda: sweep.sweep_deleted(db, storage, settings.limits.delete_grace)
        ),
        "forget answers": (timedelta(hours=1), lambda: sweep.forget_answers(db)),
        "forget batches": (timedelta(hours=6), lambda: forget_batches(db)),
        "purge password failures": (timedelta(hours=1), lambda: attempt.purge(db)),
        "purge revoked tokens": (timedelta(hours=1), lambda: administer.purge_expired(db)),
    }  # fmt: skip
    async with open_analytics(settings.search) as dashboards:
        jobs["keep downloads"] = (
            timedelta(hours=12),
            lambda: analytics.retain(db, dashboards, settings.downloads.retention),
        )
        # Not at once: after a start the consumers may still be catching up.
        minute = timedelta(minutes=1)
        followers = [
            consumer.follow(db, index),
            every(
                db,
                "sweep orphans",
                timedelta(hours=6),
                lambda: sweep.sweep_orphans(db, storage, settle=sweep.SETTLE),
                first_after=10 * minute,
            ),
        ]
        if dashboards is not None:
            followers += [
                analytics.follow(db, dashboards),
                every(db, "sample lags", minute, lambda: analytics.sample_lags(db, dashboards), first_after=minute),
                every(
                    db,
                    "refresh downloads",
                    10 * minute,
                    lambda: counts.refresh_downloads(db, index),
                    first_after=minute,
                ),
                every(db, "reconcile", timedelta(days=1), lambda: reconcile(db, index), first_after=timedelta(hours=1)),
            ]
        followers += [every(db, name, interval, job) for name, (interval, job) in jobs.items()]
        async with running(followers):
            yield


@contextlib.asynccontextmanager
async def running(work: Iterable[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Runs `work` beside the block, and ends it with the block."""
    tasks = [asyncio.create_task(each) for each in work]
    for task in tasks:
        task.add_done_callback(_tell_failure)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tell_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("work in the background ended", exc_info=error)


@contextlib.asynccontextmanager
async def run_worker(settings: Settings) -> AsyncIterator[Database]:
    """The background with resources of its own, of which the block gets the database: a process without the web."""
    async with (
        open_database(settings.database) as db,
        open_storage(settings.storage) as storage,
        open_search(settings.search) as index,
        background(settings, db, storage, index),
    ):
        yield db
