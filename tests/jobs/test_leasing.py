"""Leasing jobs waits for no transaction of another part of the registry."""

import asyncio
from datetime import timedelta

from registry.db.engine import Database
from registry.downloads import store as downloads
from registry.events import log as event_log
from registry.jobs import queue, store

# A guard against a wait that never ends. It says nothing about speed.
HANG_SECONDS = 3.0


async def test_jobs_are_leased_while_downloads_are_added_and_events_are_appended(db: Database):
    async with db.transaction() as conn:
        await queue.enqueue(conn, "test", {})
    async with db.transaction() as other:
        await downloads.lock(other)
        await event_log.lock(other)
        async with asyncio.timeout(HANG_SECONDS), db.transaction() as conn:
            leased = await store.lease(conn, {"test": 1}, 1, "worker", timedelta(seconds=30))
    assert [row.kind for row in leased] == ["test"]
