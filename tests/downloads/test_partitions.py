"""Dropping old partitions doesn't block new downloads."""

import asyncio
from contextlib import closing
from datetime import date

import psycopg2
import pytest

from registry.db.engine import Database, Statement, open_database
from registry.downloads import store
from registry.errors import DatabaseUnavailable
from registry.settings import Settings

_READ = Statement("SELECT count(*) FROM downloads", {})
_WAITING = Statement(
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()", {}
)


async def drop(db: Database) -> list[str]:
    async with db.transaction() as conn:
        return await store.drop_before(conn, date(2026, 1, 1))


async def test_downloads_do_not_wait_for_a_partition_that_can_not_be_dropped(db: Database, database_url: str):
    async with db.transaction() as conn:
        await store.make_partition(conn, date(2025, 12, 1))
    settings = Settings.read({"REGISTRY_DB_URL": database_url, "REGISTRY_DB_STATEMENT_TIMEOUT": "5s"}).database
    with closing(psycopg2.connect(database_url)) as dump:
        dump.cursor().execute("LOCK TABLE downloads IN ACCESS SHARE MODE")
        async with open_database(settings) as other, other.read() as reader, db.read() as watcher:
            dropping = asyncio.create_task(drop(db))
            while not await watcher.value(_WAITING) and not dropping.done():
                await asyncio.sleep(0.01)
            assert await reader.value(_READ) == 0
            with pytest.raises(DatabaseUnavailable):
                await dropping
    assert await drop(db) == ["downloads_2025_12"]
