"""Checks that the indices for dashboards have every download and event that their consumers have handled."""

from collections import defaultdict
from datetime import UTC, date

from registry.analytics import store as analytics_store
from registry.analytics.consumer import oldest_month, rewrite
from registry.analytics.documents import DOWNLOADS, EVENTS
from registry.analytics.index import AnalyticsIndex
from registry.db.engine import Row
from registry.doctor import store
from registry.doctor.check import PAGE, Check, Found, Registry, pages, refused_documents
from registry.downloads import store as downloads
from registry.errors import SearchUnavailable

_CONSUMER_OF = {"download": DOWNLOADS, "event": EVENTS}


def _index(registry: Registry) -> AnalyticsIndex:
    if registry.dashboards is None:
        raise SearchUnavailable("No search engine is configured.")
    return registry.dashboards


async def _wrong_months(registry: Registry) -> dict[date, str]:
    """The months whose index has too few or too many downloads, each with a description of the difference."""
    index = _index(registry)
    wrong: dict[date, str] = {}
    async with registry.db.read() as conn:
        months = await downloads.months(conn)
    for month in (m for m in months if m >= oldest_month(registry.settings.downloads.retention)):
        following = downloads.next_month(month)
        async with registry.db.read() as conn:
            before = await store.downloads_written(conn, DOWNLOADS, month, following)
        await index.refresh()
        held = await index.count_downloads(month)
        async with registry.db.read() as conn:
            now = await store.downloads_written(conn, DOWNLOADS, month, following)
        if difference := _difference(held, before, now):
            wrong[month] = difference
    return wrong


async def _wrong_events(registry: Registry) -> str:
    """Describes the difference if the indices have too few or too many events, else ""."""
    index = _index(registry)
    async with registry.db.read() as conn:
        before = await store.events_written(conn, EVENTS)
    await index.refresh()
    held = await index.count_events()
    async with registry.db.read() as conn:
        now = await store.events_written(conn, EVENTS)
    return _difference(held, before, now)


def _difference(held: int, before: Row, now: Row) -> str:
    """Describes the difference between `held` documents and the rows, or "".

    A consumer writes documents before it saves its cursor, so more than `before.least` documents are no fault. If there
    are more than `now.most`, a document has no row, which is a fault.
    """
    if held < before.least:
        return f"{held} of {before.least}"
    return f"{held}, but there are only {now.most}" if held > now.most else ""


async def _find_downloads(registry: Registry) -> Found:
    found = Found()
    for month, difference in (await _wrong_months(registry)).items():
        found.add(f"downloads of {month:%Y-%m}: {difference}")
    return found


async def _find_events(registry: Registry) -> Found:
    found = Found()
    if difference := await _wrong_events(registry):
        found.add(f"events: {difference}")
    return found


async def _write_downloads(registry: Registry) -> None:
    """Writes the wrong months again. Clears months with too many documents first."""
    index = _index(registry)
    wrong = await _wrong_months(registry)
    for month in wrong:
        async with registry.db.read() as conn:
            rows = await store.downloads_written(conn, DOWNLOADS, month, downloads.next_month(month))
        if await index.count_downloads(month) > rows.most:
            await index.clear_downloads(month)

    def is_wrong(row: Row) -> bool:
        return row.downloaded_at.astimezone(UTC).date().replace(day=1) in wrong

    await rewrite(registry.db, index, DOWNLOADS, is_wrong)


async def _write_events(registry: Registry) -> None:
    """Writes all events again. Clears the indices first if they have too many documents."""
    index = _index(registry)
    async with registry.db.read() as conn:
        rows = await store.events_written(conn, EVENTS)
    if await index.count_events() > rows.most:
        await index.clear_events()
    await rewrite(registry.db, index, EVENTS, lambda _: True)


async def _retry_refused(registry: Registry) -> None:
    async for rows in pages(registry, analytics_store.failures, "document", "", PAGE):
        numbers: defaultdict[str, set[int]] = defaultdict(set)
        for row in rows:
            kind, _, number = row.document.partition("-")
            numbers[_CONSUMER_OF[kind]].add(int(number))
        for name, refused in numbers.items():
            await _rewrite(registry, name, refused)


async def _rewrite(registry: Registry, name: str, numbers: set[int]) -> None:
    def is_wanted(row: Row) -> bool:
        return row.seq in numbers

    await rewrite(registry.db, _index(registry), name, is_wanted, after=min(numbers) - 1, until=max(numbers))


CHECKS = (
    Check(
        "dashboard downloads",
        "Elasticsearch has every download that was written for dashboards and was not refused, and no others",
        "write the months that differ again",
        _find_downloads,
        _write_downloads,
    ),
    Check(
        "dashboard events",
        "Elasticsearch has every event that was written for dashboards and was not refused, and no others",
        "write the events again",
        _find_events,
        _write_events,
    ),
    Check(
        "refused dashboard documents",
        "Elasticsearch has refused no document for dashboards",
        "write each again; the next run shows the reason if it is refused again",
        refused_documents(analytics_store.failures),
        _retry_refused,
    ),
)
