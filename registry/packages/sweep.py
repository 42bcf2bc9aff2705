"""Housekeeping of blobs: tombstones whose grace is over, orphans of publishes that never committed."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from registry.db.engine import Database
from registry.packages import store
from registry.storage.base import Storage

log = logging.getLogger(__name__)

# A publish takes minutes at most; a blob that no row names after this long never will be named.
ORPHAN_AGE = timedelta(days=1)
# Clocks step: a blob that looks old may be of a publish under way, which ends in less than this.
SETTLE = timedelta(minutes=5)
BATCH = 500


async def sweep_deleted(db: Database, storage: Storage, grace: timedelta) -> int:
    """Removes the blobs of versions deleted longer ago than `grace`; how many.

    The row is marked first: from then on it can't be restored, so a crash leaves only an orphan for sweep_orphans.
    """
    swept = 0
    while True:
        async with db.transaction() as conn:
            keys = await store.expire(conn, grace)
        for key in keys:
            await storage.delete(key)
        swept += len(keys)
        if not keys:
            break
    if swept:
        log.info("swept deleted versions", extra={"count": swept})
    return swept


async def sweep_orphans(
    db: Database, storage: Storage, older_than: timedelta = ORPHAN_AGE, *, settle: timedelta = timedelta(0)
) -> int:
    """Removes blobs that no version refers to, nor does after `settle`, and uploads that never ended; how many."""
    swept = await storage.abort_stale_uploads(older_than)
    async for keys in orphans(db, storage, older_than, settle=settle):
        for key in keys:
            await storage.delete(key)
        swept += len(keys)
    if swept:
        log.info("swept orphans", extra={"count": swept})
    return swept


async def orphans(
    db: Database, storage: Storage, older_than: timedelta = ORPHAN_AGE, *, settle: timedelta = timedelta(0)
) -> AsyncIterator[list[str]]:
    """The keys of blobs that no version refers to, nor does after `settle`, up to BATCH at a time."""
    border = datetime.now(UTC) - older_than
    batch: list[str] = []
    async for blob in storage.list():
        if blob.modified < border:
            batch.append(blob.key)
        if len(batch) == BATCH:
            yield await _settled(db, batch, settle)
            batch = []
    yield await _settled(db, batch, settle)


async def _settled(db: Database, keys: list[str], settle: timedelta) -> list[str]:
    unkept = await _unkept(db, keys)
    if unkept and settle:
        await asyncio.sleep(settle.total_seconds())
        unkept = await _unkept(db, unkept)
    return unkept


async def _unkept(db: Database, keys: list[str]) -> list[str]:
    async with db.read() as conn:
        kept = await store.kept(conn, keys)
    return [key for key in keys if key not in kept]


async def forget_answers(db: Database) -> int:
    """Removes idempotency keys older than a day."""
    async with db.transaction() as conn:
        return await store.forget_answers(conn)
