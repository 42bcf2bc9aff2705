"""Deletes tarballs that no version needs: those of deleted versions, and those of publishes that never committed."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from registry.db.engine import Database
from registry.packages import store
from registry.packages.idempotency import store as idempotency
from registry.storage.base import Storage

log = logging.getLogger(__name__)

# A publish takes a few minutes at most. A blob that no version refers to after this time is an orphan.
ORPHAN_AGE = timedelta(days=1)
# If the clock was set forward, the blob of a running publish looks old. The publish ends within this time.
SETTLE = timedelta(minutes=5)
BATCH = 500


async def sweep_deleted(db: Database, storage: Storage, grace: timedelta) -> int:
    """Deletes the blobs of versions that were deleted more than `grace` ago. Returns how many.

    A version is first marked as swept, so that it can't be restored. If the process crashes before it deletes the blob,
    the blob is an orphan, which `sweep_orphans` deletes.
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
    """Deletes orphans (see `orphans`) and unfinished uploads to the storage. Returns how many."""
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
    """Yields the keys of orphans in batches: blobs older than `older_than` that no version refers to.

    With `settle`, versions are read a second time after that time, so that running publishes can commit.
    """
    cutoff = datetime.now(UTC) - older_than
    batch: list[str] = []
    async for blob in storage.list():
        if blob.modified < cutoff:
            batch.append(blob.key)
        if len(batch) == BATCH:
            yield await _settled(db, batch, settle)
            batch = []
    yield await _settled(db, batch, settle)


async def _settled(db: Database, keys: list[str], settle: timedelta) -> list[str]:
    """The subset of `keys` that no version refers to, neither now nor after `settle`."""
    unreferenced = await _unreferenced(db, keys)
    if unreferenced and settle:
        await asyncio.sleep(settle.total_seconds())
        unreferenced = await _unreferenced(db, unreferenced)
    return unreferenced


async def _unreferenced(db: Database, keys: list[str]) -> list[str]:
    async with db.read() as conn:
        kept = await store.kept(conn, keys)
    return [key for key in keys if key not in kept]


async def forget_answers(db: Database) -> int:
    """Deletes idempotency keys that are older than a day. Returns how many."""
    async with db.transaction() as conn:
        return await idempotency.forget_answers(conn)
