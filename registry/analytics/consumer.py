"""Feeds the dashboards: two consumers with cursors of their own, samples of their lag, and the end of old months."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial

from registry.analytics import documents, store
from registry.analytics.documents import DOWNLOADS, EVENTS
from registry.analytics.index import AnalyticsIndex
from registry.db.engine import Connection, Database, Row
from registry.downloads import store as downloads
from registry.events import consumer
from registry.events import log as event_log
from registry.events.announcements import Announcements
from registry.events.log import Event

CONSUMERS = (DOWNLOADS, EVENTS)
# Dashboards are looked at a little later; larger bulks cost the engine less.
GATHER_SECONDS = 5.0
# Longer is as good as for ever, and would begin before there are dates.
LONGEST_RETENTION = timedelta(days=36_500)


async def follow(db: Database, announcements: Announcements, index: AnalyticsIndex) -> None:
    """Writes every download and event for ever; ends only by cancellation."""

    async def write_downloads(rows: Sequence[Row]) -> None:
        await index.write([documents.download(row) for row in rows])

    async def write_events(logged: Sequence[Event]) -> None:
        events = [each for each in logged if each.is_about_package]
        async with db.read() as conn:
            owners = await store.owners(conn, {each.package_id for each in events if each.package_id is not None})
        await index.write([documents.event(each, owners.get(each.package_id)) for each in events])

    follow_log = partial(consumer.follow, db, announcements, pause=GATHER_SECONDS)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follow_log(DOWNLOADS, write_downloads, read=downloads.read_after))
        tasks.create_task(follow_log(EVENTS, write_events))


async def lags(conn: Connection) -> list[tuple[str, int, float]]:
    """(consumer, how many it has not handled, seconds the oldest has waited) of every consumer that ever began."""
    return [
        (DOWNLOADS, *await downloads.lag(conn, DOWNLOADS)) if name == DOWNLOADS else (name, behind, seconds)
        for name, behind, seconds in await event_log.lags(conn)
    ]


async def sample_lags(db: Database, index: AnalyticsIndex) -> None:
    async with db.read() as conn:
        samples = await lags(conn)
    now = datetime.now(UTC)
    await index.write([documents.lag(name, behind, seconds, now) for name, behind, seconds in samples])


def oldest_month(retention: timedelta) -> date:
    """The first day of the oldest month that does not lie wholly before `retention`."""
    return (datetime.now(UTC).date() - min(retention, LONGEST_RETENTION)).replace(day=1)


async def retain(db: Database, index: AnalyticsIndex | None, retention: timedelta) -> None:
    """Ends the months that lie wholly before `retention`, and makes room for the next one. The counts stay."""
    oldest = oldest_month(retention)
    async with db.transaction() as conn:
        await downloads.drop_before(conn, oldest)
    async with db.transaction() as conn:
        await downloads.make_partition(conn, downloads.next_month(datetime.now(UTC).date().replace(day=1)))
    if index is not None:
        await index.drop_before(oldest)


async def replay(db: Database) -> None:
    """Everything is written once more, from the first download and event on; their ids keep it from doubling."""
    async with db.transaction() as conn:
        for name in CONSUMERS:
            await consumer.replay(conn, name)
