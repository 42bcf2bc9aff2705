"""Do the indices for dashboards hold every download and event that their consumers have handled?"""

from registry.analytics.consumer import oldest_month
from registry.analytics.documents import DOWNLOADS, EVENTS
from registry.analytics.index import AnalyticsIndex
from registry.db.engine import Row
from registry.doctor import store
from registry.doctor.check import Check, Found, Registry
from registry.downloads import store as downloads
from registry.errors import SearchUnavailable
from registry.events import consumer


def _index(registry: Registry) -> AnalyticsIndex:
    if registry.dashboards is None:
        raise SearchUnavailable("No search engine is configured.")
    return registry.dashboards


async def _find_downloads(registry: Registry) -> Found:
    found = Found()
    index = _index(registry)
    async with registry.db.read() as conn:
        months = await downloads.months(conn)
    for month in (m for m in months if m >= oldest_month(registry.settings.downloads.retention)):
        async with registry.db.read() as conn:
            before = await store.downloads_written(conn, DOWNLOADS, month, downloads.next_month(month))
        await index.refresh()
        held = await index.count_downloads(month)
        async with registry.db.read() as conn:
            now = await store.downloads_written(conn, DOWNLOADS, month, downloads.next_month(month))
        _compare(found, f"downloads of {month:%Y-%m}", held, before, now)
    return found


async def _find_events(registry: Registry) -> Found:
    found = Found()
    index = _index(registry)
    async with registry.db.read() as conn:
        before = await store.events_written(conn, EVENTS)
    await index.refresh()
    held = await index.count_events()
    async with registry.db.read() as conn:
        now = await store.events_written(conn, EVENTS)
    _compare(found, "events", held, before, now)
    return found


def _compare(found: Found, what: str, held: int, before: Row, now: Row) -> None:
    """Documents may be there before their consumer's cursor tells of them, but not before their rows."""
    if held < before.least:
        found.add(f"{what}: {held} of {before.least}")
    elif held > now.most:
        found.add(f"{what}: {held}, but there are only {now.most}")


async def _write_downloads(registry: Registry) -> None:
    """Months that hold too much are emptied first; writing a document once more changes nothing."""
    index = _index(registry)
    async with registry.db.read() as conn:
        months = await downloads.months(conn)
    for month in months:
        async with registry.db.read() as conn:
            rows = await store.downloads_written(conn, DOWNLOADS, month, downloads.next_month(month))
        if await index.count_downloads(month) > rows.most:
            await index.clear_downloads(month)
    async with registry.db.transaction() as conn:
        await consumer.replay(conn, DOWNLOADS)


async def _write_events(registry: Registry) -> None:
    index = _index(registry)
    async with registry.db.read() as conn:
        rows = await store.events_written(conn, EVENTS)
    if await index.count_events() > rows.most:
        await index.clear_events()
    async with registry.db.transaction() as conn:
        await consumer.replay(conn, EVENTS)


CHECKS = (
    Check(
        "dashboard downloads",
        "Elasticsearch has every download that was written for dashboards, and none else",
        "have the worker write them once more",
        _find_downloads,
        _write_downloads,
    ),
    Check(
        "dashboard events",
        "Elasticsearch has every event that was written for dashboards, and none else",
        "have the worker write them once more",
        _find_events,
        _write_events,
    ),
)
