"""Builds the index anew from PostgreSQL while it is searched and written, and goes back to the one before.

The consumer writes to the generation being built as well, so that nothing is lost between the last page and the swap.
"""

import contextlib
import logging
from collections.abc import Callable

from registry.db.engine import Database
from registry.errors import SearchUnavailable
from registry.events import log as event_log
from registry.events.locks import held
from registry.search import store
from registry.search.documents import PACKAGES, VERSIONS
from registry.search.index import SearchIndex
from registry.search.indexing import CONSUMER, index_events, package_writes, version_writes, write

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Hears (packages | versions, documents written, documents there are)."""

PAGE = 500
EVENTS = 500
# Beside the session locks of consumers and of periodic jobs.
LOCK_CLASS, LOCK_KEY = 4204, 0
CHECKS = 5

_SOURCES = {PACKAGES: (store.packages_after, package_writes), VERSIONS: (store.versions_after, version_writes)}


async def rebuild(db: Database, index: SearchIndex, progress: Progress | None = None) -> None:
    """Replaces both indices by new ones, made from PostgreSQL, in one step; the old generation is kept for rollback.

    Raises SearchUnavailable when Elasticsearch goes away or the new indices don't hold what they should; the old ones
    are searched on then. Waits for a rebuild that runs elsewhere.
    """
    async with held(db, LOCK_CLASS, LOCK_KEY):
        await _rebuild(db, index, progress)


async def heal(db: Database, index: SearchIndex) -> bool:
    """Rebuilds when the indices are missing or of another mapping than this code has; whether it did."""
    if await index.is_current():
        return False
    async with held(db, LOCK_CLASS, LOCK_KEY):
        if await index.is_current():
            return False
        log.warning("search index is missing or outdated")
        await _rebuild(db, index, None)
    return True


async def rollback(db: Database, index: SearchIndex) -> None:
    """Searches the kept generation again, with what changed since it was replaced.

    Raises IndexMissing when none is kept.
    """
    async with held(db, LOCK_CLASS, LOCK_KEY):
        seq = await index.revive_previous()
        await _replace(db, index, seq)
    log.warning("search index rolled back", extra={"from_seq": seq})


async def _rebuild(db: Database, index: SearchIndex, progress: Progress | None) -> None:
    async with db.read() as conn:
        seq = await event_log.last_seq(conn)
    await index.create_generation()
    try:
        failed = {kind: await _fill(db, index, kind, progress) for kind in _SOURCES}
        seq = await _catch_up(db, index, seq)
        await _check(db, index, seq, failed)
        await _replace(db, index, seq)
    except BaseException:
        # Without an engine there is nothing to tidy up; the next rebuild drops what is left.
        with contextlib.suppress(SearchUnavailable):
            await index.drop_building()
        raise
    log.info("search index rebuilt", extra={"seq": seq})


async def _fill(db: Database, index: SearchIndex, kind: str, progress: Progress | None) -> int:
    """Every document of `kind`; how many the engine refused."""
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
    """What happened after `seq`; the seq up to which the generation being built is complete."""
    while True:
        async with db.read() as conn:
            events = await event_log.read_after(conn, seq, EVENTS)
        if not events:
            return seq
        await index_events(db, index, events, building_only=True)
        seq = events[-1].seq


async def _check(db: Database, index: SearchIndex, seq: int, failed: dict[str, int]) -> None:
    """Compares counts with PostgreSQL; what was refused and what happens just now may make a difference."""
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
    raise SearchUnavailable(f"The rebuilt index holds {found}, but PostgreSQL {expected}; it is not used.")


async def _replace(db: Database, index: SearchIndex, seq: int) -> None:
    await _catch_up(db, index, seq)
    await index.refresh(building=True)
    async with db.read() as conn:
        handled = await event_log.position(conn, CONSUMER)
    await index.swap(handled)
