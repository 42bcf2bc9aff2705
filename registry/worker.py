"""The background work: the consumers of the event log, and the jobs.

Any number of processes may run it. At any time, one of them runs each consumer and each periodic job.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

from registry.accounts import administer, credential_cache
from registry.accounts.delays import attempt
from registry.analytics import consumer as analytics
from registry.analytics.index import AnalyticsIndex, open_analytics
from registry.audit.purge import purge as purge_audit
from registry.changes import consumer as chaining
from registry.changes.checkpoints import Checkpoints
from registry.changes.log import ChangeLog
from registry.db.engine import Database, open_database
from registry.downloads.clients import count as clients
from registry.downloads.record import forget_batches
from registry.events import consumer as event_consumer
from registry.events import log as event_log
from registry.events import notices
from registry.events.announcements import Announcements
from registry.factors import administer as factors
from registry.jobs import queue
from registry.jobs.queue import Kind
from registry.jobs.runner import Runner
from registry.mail import send
from registry.mail.configuration import configuration
from registry.owners import invite
from registry.packages import sweep
from registry.packages.cached import DOWNLOADED
from registry.publishers import manage as publishers
from registry.sealing import Sealer
from registry.search import consumer, visible
from registry.search.counts import refresh as counts
from registry.search.fallback import consumer as words
from registry.search.index import SearchIndex, open_search
from registry.search.meaning import gaps, vectors
from registry.search.meaning.encoder import Encoder
from registry.search.reconcile import reconcile
from registry.settings import Settings
from registry.storage.base import Storage
from registry.storage.opened import open_storage
from registry.tasks import Task, running
from registry.webhooks import hooks
from registry.webhooks import secrets as webhook_secrets
from registry.webhooks.deliveries import fanout
from registry.webhooks.deliveries.deliver import Deliverer
from registry.webhooks.deliveries.purge import purge as purge_deliveries
from registry.webhooks.guard import open_guard
from registry.webhooks.sender import open_sender

CHANNELS = (
    event_log.CHANNEL,
    event_consumer.PROGRESS,
    DOWNLOADED,
    queue.CHANNEL,
    visible.CHANNEL,
    credential_cache.CHANNEL,
)
"""The channels that a process listens on."""

MAILS_AT_ONCE = 4
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@contextlib.asynccontextmanager
async def background(
    settings: Settings,
    db: Database,
    announcements: Announcements,
    storage: Storage,
    index: SearchIndex,
    *,
    gather_seconds: float = analytics.GATHER_SECONDS,
) -> AsyncIterator[None]:
    """Runs the consumers and the jobs during the block. Dashboards lag behind by about `gather_seconds`."""
    async with (
        open_analytics(settings.search) as dashboards,
        open_guard(settings.webhooks) as guard,
        open_sender(guard) as sender,
    ):
        kinds = _maintenance(settings, db, storage, dashboards, index.encoder)
        changes = ChangeLog(db)
        checkpoints = Checkpoints(db, changes, settings.log.keys)
        kinds.append(_periodic("store checkpoints", MINUTE, checkpoints.store_if_due))
        tasks: dict[str, Task] = {
            "index": lambda: consumer.follow(db, announcements, index),
            "clients": lambda: clients.follow(db, announcements),
            "words": lambda: words.follow(db, announcements),
            "changes": lambda: chaining.follow(db, announcements, changes),
            "webhooks": lambda: fanout.follow(db, announcements, changes),
        }
        sealer = Sealer(settings.accounts.secret_keys, hooks.PURPOSE)
        kinds += Deliverer(db, sender, sealer).kinds()
        if dashboards is not None:
            kinds += _search_maintenance(settings, db, index, dashboards)
            tasks["counts"] = lambda: counts.follow(db, announcements, index)
            tasks["dashboards"] = lambda: analytics.follow(db, announcements, dashboards, gather_seconds=gather_seconds)
        tasks["jobs"] = Runner(db, announcements, kinds).run
        async with running(tasks):
            yield


def _maintenance(
    settings: Settings,
    db: Database,
    storage: Storage,
    dashboards: AnalyticsIndex | None,
    encoder: Encoder | None,
) -> list[Kind]:
    grace, retention = settings.limits.delete_grace, settings.downloads.retention
    return [
        _periodic("rewrite words", MINUTE * 10, lambda: words.rewrite_outdated(db)),
        _periodic("sweep deleted", SECOND * 10, lambda: sweep.sweep_deleted(db, storage, grace)),
        _periodic(
            "sweep orphans",
            HOUR * 6,
            lambda: sweep.sweep_orphans(db, storage, settle=sweep.SETTLE),
            first_after=MINUTE * 10,
        ),
        _periodic("forget answers", HOUR, lambda: sweep.forget_answers(db)),
        clients.estimates(db),
        _periodic("forget batches", HOUR * 6, lambda: forget_batches(db)),
        _periodic("purge password failures", HOUR, lambda: attempt.purge(db)),
        _periodic("purge revoked tokens", HOUR, lambda: administer.purge_expired(db)),
        _periodic("purge challenges", HOUR, lambda: factors.purge(db)),
        _periodic("reseal factors", HOUR * 6, lambda: factors.reseal(db, settings.accounts)),
        _periodic("reseal webhooks", HOUR * 6, lambda: webhook_secrets.reseal(db, settings.accounts.secret_keys)),
        _periodic("purge invitations", HOUR * 24, lambda: invite.purge(db)),
        _periodic("purge publisher tokens", HOUR, lambda: publishers.purge(db)),
        _periodic("purge audit log", HOUR * 24, lambda: purge_audit(db, settings.audit.retention)),
        _periodic("purge links of mails", HOUR, lambda: send.purge(db)),
        Kind(notices.KIND, send.Mailer(db, configuration(settings)).run, concurrency=MAILS_AT_ONCE),
        _periodic("wake webhooks", SECOND * 2, lambda: fanout.wake_due(db)),
        _periodic("purge deliveries", HOUR * 6, lambda: purge_deliveries(db, settings.webhooks.retention)),
        _periodic("purge vectors", HOUR * 24, lambda: vectors.purge(db, encoder), first_after=HOUR),
        _periodic("purge dead jobs", HOUR * 24, lambda: queue.purge(db)),
        _periodic("keep downloads", HOUR * 12, lambda: analytics.retain(db, dashboards, retention)),
    ]


def _search_maintenance(settings: Settings, db: Database, index: SearchIndex, dashboards: AnalyticsIndex) -> list[Kind]:
    """Jobs that need Elasticsearch. In a new registry they wait until its index is built."""
    return [
        _periodic(
            "replay dashboards", MINUTE, lambda: analytics.replay_lost(db, dashboards, settings.downloads.retention)
        ),
        _periodic("sample lags", MINUTE, lambda: analytics.sample_lags(db, dashboards), first_after=MINUTE),
        _periodic("sample webhooks", MINUTE, lambda: analytics.sample_webhooks(db, dashboards), first_after=MINUTE),
        _periodic("refresh downloads", HOUR * 6, lambda: counts.refresh_all(db, index), first_after=MINUTE),
        _periodic("reconcile", HOUR * 24, lambda: reconcile(db, index), first_after=HOUR),
        _periodic("add vectors", HOUR, lambda: gaps.add_missing(db, index), first_after=HOUR),
    ]


def _periodic(
    name: str, every: timedelta, work: Callable[[], Awaitable[object]], *, first_after: timedelta = timedelta(0)
) -> Kind:
    return Kind(name, lambda _: work(), every=every, first_after=first_after)


@contextlib.asynccontextmanager
async def run_worker(settings: Settings) -> AsyncIterator[Database]:
    """Runs the background work without the API, and yields the database."""
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
