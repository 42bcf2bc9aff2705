"""Rebuilds the index from PostgreSQL while it is in use, and rolls back to the previous generation.

The consumer writes to the new generation during the rebuild, so that no change is lost before the swap.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from registry.db.engine import Database
from registry.db.lock_numbers import REBUILD_CLASS
from registry.errors import SearchUnavailable
from registry.events import log as event_log
from registry.events.locks import held
from registry.search import store
from registry.search.counts import refresh as counts
from registry.search.documents import PACKAGES, VERSIONS
from registry.search.index import SearchIndex
from registry.search.indexing import CONSUMER, index_events, package_writes, version_writes, write
from registry.search.visible import announce_change

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with ("packages" or "versions", documents written, documents in total)."""

PAGE = 500
EVENTS = 500
LOCK = REBUILD_CLASS, 0
# How often the new indices are compared with PostgreSQL before a difference ends the rebuild.
CHECKS = 5

_SOURCES = {PACKAGES: (store.packages_after, package_writes), VERSIONS: (store.versions_after, version_writes)}


async def rebuild(db: Database, index: SearchIndex, progress: Progress | None = None) -> None:
    """Builds both indices from PostgreSQL and swaps them in together. The old generation is kept for a rollback.

    Waits for a rebuild that another process runs. Raises SearchUnavailable when Elasticsearch becomes unavailable or
    the new indices are incomplete; then searches go on using the old ones.
    """
    async with held(db, *LOCK):
        await _rebuild(db, index, progress)


async def heal(db: Database, index: SearchIndex) -> bool:
    """Rebuilds if the indices are missing or have an older mapping. Returns whether it did."""
    if await index.is_current():
        return False
    async with held(db, *LOCK):
        if await index.is_current():
            return False
        log.warning("search index is missing or outdated")
        await _rebuild(db, index, None)
    return True


async def rollback(db: Database, index: SearchIndex) -> None:
    """Makes the previous generation the current one again, after it has indexed the changes that it misses.

    Raises IndexMissing when there is no previous generation. A rollback that failed can be repeated.
    """
    async with held(db, *LOCK), _building(index):
        seq = await index.revive_previous()
        await _replace(db, index, seq)
    await counts.refresh_all(db, index)
    log.warning("search index rolled back", extra={"from_seq": seq})


async def _rebuild(db: Database, index: SearchIndex, progress: Progress | None) -> None:
    async with db.read() as conn:
        seq = await event_log.last_seq(conn)
        counted = await event_log.position(conn, counts.CONSUMER)
    async with _building(index):
        await index.create_generation()
        failed = {kind: await _fill(db, index, kind, progress) for kind in _SOURCES}
        seq = await _catch_up(db, index, seq)
        await index.merge_building()
        await _check(db, index, seq, failed)
        await _replace(db, index, seq)
    # A document may have been read before a download and written after the consumer had updated its count.
    await counts.refresh_since(db, index, counted)
    log.info("search index rebuilt", extra={"seq": seq})


@contextlib.asynccontextmanager
async def _building(index: SearchIndex) -> AsyncIterator[None]:
    """Removes the building aliases if the block fails."""
    try:
        yield
    except BaseException:
        # If Elasticsearch is unavailable, the next rebuild or rollback removes them.
        with contextlib.suppress(SearchUnavailable):
            await index.drop_building()
        raise


async def _fill(db: Database, index: SearchIndex, kind: str, progress: Progress | None) -> int:
    """Writes all documents of `kind`. Returns how many Elasticsearch refused."""
    read, writes_of = _SOURCES[kind]
    async with db.read() as conn:
        total = dict(zip(_SOURCES, await store.counts(conn), strict=True))[kind]
    after = done = failed = 0
    while True:
        async with db.read(snapshot=True) as conn:
            seq = await event_log.last_seq(conn)
            rows = await read(conn, after, PAGE)
        if not rows:
            return failed
        failed += await write(db, index, writes_of(rows, seq), building_only=True)
        after, done = rows[-1].id, done + len(rows)
        if progress:
            progress(kind, done, max(done, total))


async def _catch_up(db: Database, index: SearchIndex, seq: int) -> int:
    """Indexes the events after `seq`. Returns the seq up to which the new generation is complete."""
    while True:
        async with db.read() as conn:
            events = await event_log.read_after(conn, seq, EVENTS)
        if not events:
            return seq
        await index_events(db, index, events, building_only=True)
        seq = events[-1].seq


async def _check(db: Database, index: SearchIndex, seq: int, failed: dict[str, int]) -> None:
    """Compares the number of documents with PostgreSQL. Refused documents and new events may account for a difference.

    Raises SearchUnavailable when the difference is larger.
    """
    for _ in range(CHECKS):
        seq = await _catch_up(db, index, seq)
        await index.refresh(building=True)
        found = {kind: await index.count(kind, building=True) for kind in _SOURCES}
        async with db.read(snapshot=True) as conn:
            expected = dict(zip(_SOURCES, await store.counts(conn), strict=True))
            new = await event_log.last_seq(conn) - seq
        wrong = [kind for kind in _SOURCES if abs(expected[kind] - found[kind]) > failed[kind] + new]
        if not wrong:
            return
    raise SearchUnavailable(f"The rebuilt index holds {found}, but PostgreSQL {expected}. It is not used.")


async def _replace(db: Database, index: SearchIndex, seq: int) -> None:
    await _catch_up(db, index, seq)
    await index.refresh(building=True)
    async with db.read() as conn:
        handled = await event_log.position(conn, CONSUMER)
    await index.swap(handled)
    await announce_change(db)
