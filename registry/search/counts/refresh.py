"""Updates download counts and popularity in the index, only in documents whose numbers changed enough.

A consumer follows the table of downloads and updates what was downloaded. Every few hours a job compares all packages,
because popularity decays without any download.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from prometheus_client import Counter

from registry.db.engine import Database, Row
from registry.events import consumer
from registry.events import log as event_log
from registry.events.announcements import Announcements
from registry.events.consumer import CLIENTS
from registry.search import indexing, store
from registry.search.counts import store as counts_store
from registry.search.documents import PACKAGES, VERSIONS, download_step, popularity, version_id
from registry.search.index import SearchIndex
from registry.search.indexing import package_writes, version_writes, write
from registry.search.visible import make_searchable

UPDATED = Counter("registry_index_counts_total", "Documents indexed again because their download counts changed")

CONSUMER = "counts"
PAGE = 500
# The number of downloads whose versions are read at once.
WINDOW = 200_000
LAST_ID = (1 << 63) - 1
# Documents of packages with fewer downloads have exact counts. Larger counts are updated by steps, see `is_outdated()`.
EXACT_BELOW = 1_000
# The change of popularity that counts: a tenth more or fewer clients.
POPULARITY_STEP = 0.1
# Publishes wake the consumer, too. Without a pause, each of them would cost a query.
PAUSE_SECONDS = 0.5
# Pause after an update, in which the next one gathers downloads.
GATHER_SECONDS = 2.0
# The most documents that are updated in a second, so that updates don't slow down searches.
DOCUMENTS_PER_SECOND = 500
# If the clients of more downloads than this are not counted yet, the counts of downloads don't wait for them.
CLIENTS_BEHIND = 100_000
# How often, and with which pause, the cursor of the search consumer is read while it is writing.
LOOKS = 20
LOOK_SECONDS = 0.25

Sleep = Callable[[float], Awaitable[object]]


async def follow(
    db: Database, announcements: Announcements, index: SearchIndex, *, sleep: Sleep = asyncio.sleep
) -> None:
    """Updates the counts of all versions that are downloaded. Ends only by cancellation.

    When it runs for the first time, it begins with the next download: the index was built from the current counts.
    """
    if not index.is_configured:
        return

    async def step() -> int:
        return await refresh_downloaded(db, index, sleep=sleep)

    start = counts_store.last_download
    await consumer.lead(db, announcements, CONSUMER, step, batch=WINDOW, start=start, pause=PAUSE_SECONDS)


async def refresh_downloaded(
    db: Database, index: SearchIndex, *, window: int = WINDOW, sleep: Sleep = asyncio.sleep
) -> int:
    """Updates the versions of up to `window` downloads, and their packages. Returns the number of downloads.

    The cursor moves after searches find the new counts. Raises SearchUnavailable.
    """
    async with db.read() as conn:
        at = await counts_store.positions(conn, CONSUMER, CLIENTS)
        until = at.last if at.counted is None or at.last - at.counted > CLIENTS_BEHIND else at.counted
        if at.seq >= until:
            return 0
        last, found, versions = await counts_store.downloaded(conn, at.seq, until, window)
    if found:
        written = await _settle(db, index, versions, sleep)
        async with db.transaction() as conn:
            await consumer.save(conn, CONSUMER, at.seq, last)
        if written:
            await sleep(GATHER_SECONDS)
    return found


async def refresh_since(db: Database, index: SearchIndex, download: int) -> None:
    """Updates the versions, and their packages, of all downloads with an id above `download`."""
    found = WINDOW
    while found == WINDOW:
        async with db.read() as conn:
            download, found, versions = await counts_store.downloaded(conn, download, LAST_ID, WINDOW)
        await refresh_versions(db, index, versions)


async def refresh_all(db: Database, index: SearchIndex, *, sleep: Sleep = asyncio.sleep) -> int:
    """Updates all documents whose counts or popularity changed enough. Returns their number. Raises SearchUnavailable.

    Compares 500 documents at a time.
    """
    written = after = 0
    while True:
        async with db.read() as conn:
            rows = await counts_store.counts_after(conn, after, PAGE)
        if not rows:
            return written
        written += await _refresh(db, index, rows, sleep)
        after = rows[-1].id


async def _settle(db: Database, index: SearchIndex, versions: Sequence[int], sleep: Sleep) -> int:
    """Updates `versions` so that no older write can undo it. Returns the number of writes.

    The search consumer may have read its rows before a download, and write them after us. Such a write has ended when
    the cursor of that consumer has reached the last event. Then this function compares the documents once more.
    """
    async with db.read(snapshot=True) as conn:
        seq = await event_log.last_seq(conn)
        is_quiet = await event_log.position(conn, indexing.CONSUMER) >= seq
    written = await refresh_versions(db, index, versions, sleep=sleep)
    if is_quiet:
        return written
    for _ in range(LOOKS):
        async with db.read() as conn:
            if await event_log.position(conn, indexing.CONSUMER) >= seq:
                break
        await sleep(LOOK_SECONDS)
    return written + await refresh_versions(db, index, versions, sleep=sleep)


async def refresh_versions(
    db: Database, index: SearchIndex, versions: Sequence[int], *, sleep: Sleep = asyncio.sleep
) -> int:
    """Updates the documents of these versions and their packages. Returns the number of writes."""
    written = 0
    for start in range(0, len(versions), PAGE):
        async with db.read() as conn:
            rows = await counts_store.counts_of(conn, versions[start : start + PAGE])
        written += await _refresh(db, index, rows, sleep)
    return written


async def _refresh(db: Database, index: SearchIndex, rows: Sequence[Row], sleep: Sleep) -> int:
    """Updates those documents of `rows` that are outdated, and makes the update searchable. Returns their number."""
    packages, versions = await _outdated(index, rows)
    if not packages and not versions:
        return 0
    async with db.read(snapshot=True) as conn:
        seq = await event_log.last_seq(conn)
        writes = package_writes(await store.packages_named(conn, packages), seq)
        writes += version_writes(await store.versions_named(conn, versions), seq)
    await write(db, index, writes)
    await make_searchable(db, index)
    UPDATED.inc(len(writes))
    await sleep(len(writes) / DOCUMENTS_PER_SECOND)
    return len(writes)


async def _outdated(index: SearchIndex, rows: Sequence[Row]) -> tuple[set[str], set[tuple[str, str]]]:
    """The names of packages and (name, version) of versions of which searches find an outdated document.

    A process may die after it has written documents and before searches find them. Then they are written again.
    Documents that don't exist are left to the search consumer.
    """
    by_package = {row.name: row for row in rows}
    by_version = {version_id(row.name, row.version): row for row in rows}
    fields = ["downloads", "popularity"]
    packages = await index.documents(PACKAGES, list(by_package), fields)
    versions = await index.documents(VERSIONS, list(by_version), fields)
    return (
        {name for name, document in packages.items() if is_outdated(document, by_package[name], of_package=True)},
        {
            (by_version[key].name, by_version[key].version)
            for key, document in versions.items()
            if is_outdated(document, by_version[key])
        },
    )


def is_outdated(document: Mapping[str, Any], row: Row, *, of_package: bool = False) -> bool:
    """Whether the document of a version, or of its package, has counts that differ enough from those of `row`.

    Any change of the downloads is enough for a package with fewer than EXACT_BELOW. Otherwise they must be in another
    `download_step`, or popularity must differ by POPULARITY_STEP.
    """
    if abs(document.get("popularity", 0.0) - popularity(row.clients)) >= POPULARITY_STEP:
        return True
    downloads = row.package_downloads if of_package else row.downloads
    if row.package_downloads < EXACT_BELOW:
        return bool(document.get("downloads", 0) != downloads)
    return download_step(document.get("downloads", 0)) != download_step(downloads)
