"""Records of documents for dashboards that Elasticsearch refused."""

import asyncio
from datetime import UTC, date, datetime

from registry.analytics import store
from registry.db.engine import Database, Statement
from tests.until import until

OCTOBER, NOVEMBER = (datetime(2026, month, 15, tzinfo=UTC) for month in (10, 11))
WAITING = Statement(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'", {}
)


def refusal(document: str, at: datetime = NOVEMBER, reason: str = "too long") -> dict[str, object]:
    return {"document": document, "at": at, "reason": reason}


async def recorded(db: Database) -> dict[str, str]:
    async with db.read() as conn:
        return {row.document: row.reason for row in await store.failures(conn, "", 100)}


async def test_retention_keeps_the_failures_of_events_because_it_keeps_events(db: Database):
    async with db.transaction() as conn:
        refused = [refusal("download-1", OCTOBER), refusal("download-2"), refusal("event-1", OCTOBER)]
        await store.save_outcome(conn, [], refused)
        await store.forget_failed_downloads(conn, date(2026, 11, 1))
    assert set(await recorded(db)) == {"download-2", "event-1"}


async def test_a_document_that_is_refused_again_or_written_updates_its_record(db: Database):
    async with db.transaction() as conn:
        await store.save_outcome(conn, [], [refusal("download-1"), refusal("download-2")])
    async with db.transaction() as conn:
        await store.save_outcome(conn, ["download-1", "download-2"], [refusal("download-2", reason="no address")])
    assert await recorded(db) == {"download-2": "no address"}


async def test_two_writers_can_record_the_same_refused_document_at_the_same_time(db: Database):
    async def record(reason: str) -> None:
        async with db.transaction() as conn:
            await store.save_outcome(conn, ["download-1"], [refusal("download-1", reason=reason)])

    async def is_waiting() -> bool:
        async with db.read() as conn:
            return bool(await conn.value(WAITING))

    async with db.transaction() as first:
        await store.save_outcome(first, ["download-1"], [refusal("download-1", reason="first")])
        second = asyncio.create_task(record("second"))
        await until(is_waiting)
    await second
    assert await recorded(db) == {"download-1": "second"}
