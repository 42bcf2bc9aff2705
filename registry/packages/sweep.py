"""Housekeeping of blobs: tombstones whose grace is over, orphans of publishes that never committed."""

import logging
from datetime import UTC, datetime, timedelta

from registry.db.engine import Database
from registry.packages import store
from registry.storage.base import Storage

log = logging.getLogger(__name__)

# A publish takes minutes at most; a blob that no row names after this long never will be named.
ORPHAN_AGE = timedelta(days=1)
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


async def sweep_orphans(db: Database, storage: Storage, older_than: timedelta = ORPHAN_AGE) -> int:
    """Removes blobs that no version refers to, and uploads that never ended; how many."""
    swept = await storage.abort_stale_uploads(older_than)
    border = datetime.now(UTC) - older_than
    batch: list[str] = []
    async for blob in storage.list():
        if blob.modified < border:
            batch.append(blob.key)
        if len(batch) == BATCH:
            swept += await _remove_unkept(db, storage, batch)
            batch = []
    swept += await _remove_unkept(db, storage, batch)
    if swept:
        log.info("swept orphans", extra={"count": swept})
    return swept


async def _remove_unkept(db: Database, storage: Storage, keys: list[str]) -> int:
    async with db.read() as conn:
        orphans = set(keys) - await store.kept(conn, keys)
    for key in orphans:
        await storage.delete(key)
    return len(orphans)


async def forget_answers(db: Database) -> int:
    """Removes idempotency keys older than a day."""
    async with db.transaction() as conn:
        return await store.forget_answers(conn)
