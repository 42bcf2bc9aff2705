"""What runs in the background: the consumers of the event log and the periodic jobs.

Any number of processes may run it: one of them leads each consumer and runs each job, the others stand by.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial

from registry.accounts import administer
from registry.accounts.delays import attempt
from registry.analytics import consumer as analytics
from registry.analytics.index import open_analytics
from registry.db.engine import Database, open_database
from registry.downloads.record import forget_batches
from registry.events import consumer as event_consumer
from registry.events import log as event_log
from registry.events.announcements import Announcements
from registry.events.periodic import every
from registry.packages import sweep
from registry.packages.cached import DOWNLOADED
from registry.search import consumer, counts
from registry.search.index import SearchIndex, open_search
from registry.search.reconcile import reconcile
from registry.settings import Settings
from registry.storage.base import Storage
from registry.storage.opened import open_storage
from registry.tasks import Task, running

CHANNELS = (event_log.CHANNEL, event_consumer.PROGRESS, DOWNLOADED)
"""What a process listens for."""

Job = Callable[[], Awaitable[object]]


@contextlib.asynccontextmanager
async def background(
    settings: Settings, db: Database, announcements: Announcements, storage: Storage, index: SearchIndex
) -> AsyncIterator[None]:
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
        tasks: dict[str, Task] = {"index": lambda: consumer.follow(db, announcements, index)}
        later: dict[str, tuple[timedelta, timedelta, Job]] = {
            "sweep orphans": (
                timedelta(hours=6),
                10 * minute,
                lambda: sweep.sweep_orphans(db, storage, settle=sweep.SETTLE),
            )
        }
        if dashboards is not None:
            tasks["dashboards"] = lambda: analytics.follow(db, announcements, dashboards)
            later |= {
                "sample lags": (minute, minute, lambda: analytics.sample_lags(db, dashboards)),
                "refresh downloads": (10 * minute, minute, lambda: counts.refresh_downloads(db, index)),
                "reconcile": (timedelta(days=1), timedelta(hours=1), lambda: reconcile(db, index)),
            }
        for name, (interval, job) in jobs.items():
            tasks[name] = partial(every, db, name, interval, job)
        for name, (interval, first_after, job) in later.items():
            tasks[name] = partial(every, db, name, interval, job, first_after=first_after)
        async with running(tasks):
            yield


@contextlib.asynccontextmanager
async def run_worker(settings: Settings) -> AsyncIterator[Database]:
    """The background with resources of its own, of which the block gets the database: a process without the web."""
    async with (
        open_database(settings.database) as db,
        open_storage(settings.storage) as storage,
        open_search(settings.search) as index,
    ):
        announcements = Announcements(db, CHANNELS)
        async with (
            running({"announcements": announcements.listen}),
            background(settings, db, announcements, storage, index),
        ):
            yield db
