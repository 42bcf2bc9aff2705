"""Fills the indices for dashboards: writes downloads, events and lags, removes old data, and repairs losses."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

from registry.analytics import documents, store
from registry.analytics.documents import DOWNLOADS, EVENTS, Document
from registry.analytics.index import AnalyticsIndex
from registry.db.engine import Connection, Database, Row
from registry.downloads import store as downloads
from registry.events import consumer
from registry.events import log as event_log
from registry.events.announcements import Announcements
from registry.events.consumer import BATCH, Reader
from registry.events.log import VERSION_PUBLISHED, Event
from registry.search.counts import refresh as counts
from registry.webhooks import store as webhooks

log = logging.getLogger(__name__)

CONSUMERS = (DOWNLOADS, EVENTS)
# The consumers that follow the downloads. All others follow the event log.
OF_DOWNLOADS = (DOWNLOADS, consumer.CLIENTS, counts.CONSUMER)
# Dashboards may be some seconds behind. Larger bulks cost Elasticsearch less.
GATHER_SECONDS = 5.0
# The limit of 100 years keeps the first day of the retention within Python's dates.
LONGEST_RETENTION = timedelta(days=36_500)


async def follow(
    db: Database, announcements: Announcements, index: AnalyticsIndex, *, gather_seconds: float = GATHER_SECONDS
) -> None:
    """Writes each download and event to the dashboards' indices. Ends only by cancellation.

    Waits `gather_seconds` after each batch, so that the next one is larger.
    """
    follow_log = partial(consumer.follow, db, announcements, pause=gather_seconds)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follow_log(DOWNLOADS, partial(write_downloads, db, index), read=downloads.read_after))
        tasks.create_task(follow_log(EVENTS, partial(write_events, db, index)))


async def write_downloads(db: Database, index: AnalyticsIndex, rows: Sequence[Row]) -> None:
    """Writes the documents of `rows`, as downloads.store.read_after() gives them."""
    async with db.read() as conn:
        owners = await store.owners(conn, {row.package_id for row in rows if row.package_id is not None})
    await _write(db, index, [documents.download(row, owners.get(row.package_id)) for row in rows])


async def write_events(db: Database, index: AnalyticsIndex, logged: Sequence[Event]) -> None:
    """Writes the documents of those events that are about a package."""
    events = [each for each in logged if each.is_about_package]
    async with db.read() as conn:
        owners = await store.owners(conn, {each.package_id for each in events if each.package_id is not None})
        publishers = await store.publishers(conn, [each.seq for each in events if each.type == VERSION_PUBLISHED])
    await _write(
        db,
        index,
        [documents.event(each, owners.get(each.package_id), publishers.get(each.seq)) for each in events],
    )


async def _write(db: Database, index: AnalyticsIndex, batch: Sequence[Document]) -> None:
    """Writes documents. Records those that Elasticsearch refuses, so that checks do not report them as missing."""
    refused = [
        {"document": document.id, "at": document.at, "reason": reason} for document, reason in await index.write(batch)
    ]
    async with db.transaction() as conn:
        await store.save_outcome(conn, [document.id for document in batch], refused)


async def lags(conn: Connection) -> list[tuple[str, int, float]]:
    """(consumer, number of entries it has not handled, age of the oldest in seconds) of every known consumer."""
    return [
        (name, *await downloads.lag(conn, name)) if name in OF_DOWNLOADS else (name, behind, seconds)
        for name, behind, seconds in await event_log.lags(conn)
    ]


async def sample_lags(db: Database, index: AnalyticsIndex) -> None:
    """Writes the lag of each consumer for dashboards."""
    async with db.read() as conn:
        samples = await lags(conn)
    now = datetime.now(UTC)
    await index.write([documents.lag(name, behind, seconds, now) for name, behind, seconds in samples])


async def sample_webhooks(db: Database, index: AnalyticsIndex) -> None:
    """Writes for dashboards how many webhooks work, fail and are disabled."""
    async with db.read() as conn:
        states = await webhooks.states(conn)
    now = datetime.now(UTC)
    await index.write([documents.webhooks(state, number, now) for state, number in states.items()])


def oldest_month(retention: timedelta) -> date:
    """The first day of the oldest month that is at least partly within `retention`."""
    return (datetime.now(UTC).date() - min(retention, LONGEST_RETENTION)).replace(day=1)


async def retain(db: Database, index: AnalyticsIndex | None, retention: timedelta) -> None:
    """Removes the single downloads of months that are wholly older than `retention`. Counts stay.

    Also creates the next month's partition.
    """
    oldest = oldest_month(retention)
    async with db.transaction() as conn:
        await downloads.drop_before(conn, oldest)
        await store.forget_failed_downloads(conn, oldest)
    async with db.transaction() as conn:
        await downloads.make_partition(conn, downloads.next_month(datetime.now(UTC).date().replace(day=1)))
    if index is not None:
        await index.drop_before(oldest)


async def replay_lost(db: Database, index: AnalyticsIndex, retention: timedelta) -> list[str]:
    """Replays each consumer whose documents are missing, for instance after a loss of Elasticsearch. Returns the names.

    It looks for the first and the last document of each month of downloads, and for the first and the last event.
    """
    oldest = oldest_month(retention)
    async with db.read(snapshot=True) as conn:
        months = [month for month in await downloads.months(conn) if month >= oldest]
        handled = {name: await event_log.position(conn, name) for name in CONSUMERS}
        rows = await store.download_ends(conn, months, handled[DOWNLOADS])
        events = await store.event_ends(conn, handled[EVENTS])
    expected = {
        DOWNLOADS: [documents.download_place(row.id, row.downloaded_at) for row in rows],
        EVENTS: [documents.event_place(row.seq, row.created_at) for row in events],
    }
    lost = [name for name, places in expected.items() if places and not await index.holds(places)]
    for name in lost:
        log.warning("documents for dashboards are lost and will be written again", extra={"consumer": name})
        async with db.transaction() as conn:
            await consumer.replay(conn, name)
    return lost


async def rewrite(
    db: Database,
    index: AnalyticsIndex,
    name: str,
    wanted: Callable[[Any], bool],
    *,
    after: int = 0,
    until: int | None = None,
) -> None:
    """Writes the documents of the consumer `name` again, up to its cursor.

    Only for entries with `after` < seq <= `until` for which `wanted` is true.
    """
    read: Reader = downloads.read_after if name == DOWNLOADS else event_log.read_after
    write = write_downloads if name == DOWNLOADS else write_events
    async with db.read() as conn:
        cursor = await event_log.position(conn, name)
    last = cursor if until is None else min(until, cursor)
    while after < last:
        async with db.read() as conn:
            batch = await read(conn, after, BATCH)
        if not batch:
            return
        chosen = [each for each in batch if each.seq <= last and wanted(each)]
        if chosen:
            await write(db, index, chosen)
        after = batch[-1].seq


async def replay(db: Database) -> None:
    """Resets both cursors, so that everything is written again. The documents keep their ids."""
    async with db.transaction() as conn:
        for name in CONSUMERS:
            await consumer.replay(conn, name)
