"""The announcement hub: who gets an announcement and when, and what happens while the connection is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.engine import make_url

from registry.db.engine import Database, Statement, open_database
from registry.devstack.postgres import Postgres
from registry.events.announcements import MAX_LAG_SECONDS, Announcements
from registry.events.log import CHANNEL
from registry.packages.cached import DOWNLOADED, PackageCache
from registry.settings import Settings
from tests.background import in_background
from tests.conftest import listening
from tests.faults.toxic import Toxic, toxic, unix
from tests.packages.test_cached import Reads

LISTENERS = Statement(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND backend_type = 'client backend'",
    {},
)


class Received:
    """A subscriber that records the payloads it gets."""

    def __init__(self) -> None:
        self.payloads: list[str] = []
        self.resumed = 0

    def announced(self, _: str, payload: str) -> None:
        if payload not in self.payloads:  # announcements of this process arrive a second time from PostgreSQL
            self.payloads.append(payload)

    def resume(self) -> None:
        self.resumed += 1

    async def until(self, payload: str) -> None:
        async with asyncio.timeout(20):
            while payload not in self.payloads:
                await asyncio.sleep(0.01)


async def announce(db: Database, channel: str, payload: str) -> None:
    async with db.transaction() as conn:
        conn.announce(channel, payload)


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[Database]:
    """A database pool of its own, as another process has one."""
    async with open_database(Settings.read({"REGISTRY_DB_URL": database_url}).database) as other:
        yield other


@asynccontextmanager
async def through(wire: Toxic, url: str) -> AsyncIterator[Database]:
    address = make_url(url).set(host="127.0.0.1", port=wire.port, query={})
    text = address.render_as_string(hide_password=False)
    async with open_database(Settings.read({"REGISTRY_DB_URL": text}).database) as db:
        yield db


async def test_local_subscribers_get_an_announcement_before_the_commit_returns_and_other_processes_soon_after(
    announcements, db, elsewhere
):
    received = Received()
    announcements.subscribe(CHANNEL, announced=received.announced)
    await announce(db, CHANNEL, "1")
    assert received.payloads == ["1"]
    await announce(elsewhere, CHANNEL, "2")
    await received.until("2")


async def test_a_subscriber_gets_only_its_channels_and_nothing_after_it_unsubscribes(announcements, db):
    events, downloads = Received(), Received()
    unsubscribe = announcements.subscribe(CHANNEL, announced=events.announced)
    announcements.subscribe(DOWNLOADED, announced=downloads.announced)
    await announce(db, CHANNEL, "1")
    unsubscribe()
    await announce(db, CHANNEL, "2")
    await announce(db, DOWNLOADED, "3")
    assert events.payloads == ["1"]
    assert downloads.payloads == ["3"]


async def test_subscribing_to_an_unknown_channel_is_refused(announcements):
    with pytest.raises(ValueError, match="misspelt"):
        announcements.subscribe("misspelt", announced=Received().announced)


async def test_an_error_in_a_subscriber_does_not_affect_the_others(announcements, db):
    received = Received()

    def fail(*_: str) -> None:
        raise KeyError("a bug")

    announcements.subscribe(CHANNEL, announced=fail)
    announcements.subscribe(CHANNEL, announced=received.announced)
    await announce(db, CHANNEL, "1")
    assert received.payloads == ["1"]


async def test_many_subscribers_share_one_connection(announcements, elsewhere):
    many = [Received() for _ in range(1000)]
    for received in many:
        announcements.subscribe(CHANNEL, announced=received.announced)
    await announce(elsewhere, CHANNEL, "1")
    await many[-1].until("1")
    assert all(received.payloads == ["1"] for received in many)
    async with elsewhere.read() as conn:
        assert await conn.value(LISTENERS) == 1


async def test_the_hub_reconnects_after_its_connection_was_closed(announcements, elsewhere):
    received = Received()
    announcements.subscribe(CHANNEL, announced=received.announced, resumed=received.resume)
    async with elsewhere.read() as conn:
        await conn.all(
            Statement(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()",
                {},
            )
        )
    async with asyncio.timeout(20):
        while received.resumed < 2 or not announcements.is_listening:
            await asyncio.sleep(0.01)
    await announce(elsewhere, CHANNEL, "1")
    await received.until("1")


async def test_a_process_that_was_frozen_is_not_listening_until_its_next_ping(db):
    """The clock has moved on meanwhile. Caches must not be used before the missed announcements were received."""
    now = 0.0
    hub = Announcements(db, [CHANNEL, DOWNLOADED], clock=lambda: now)
    async with in_background(hub.listen()), asyncio.timeout(20):
        while not hub.is_listening:
            await asyncio.sleep(0.01)
        now += MAX_LAG_SECONDS + 1
        assert not hub.is_listening
        while not hub.is_listening:
            await asyncio.sleep(0.01)


async def test_a_cache_serves_nothing_stale_when_its_connection_is_silently_lost(
    postgres: Postgres, database_url: str, elsewhere: Database
):
    """The connection is not closed. Its packets just don't arrive any more."""
    socket = f"{postgres._socket_dir}/.s.PGSQL.5432"
    async with toxic(unix(socket)) as wire, through(wire, database_url) as db, listening(db) as hub:
        cache, reads = PackageCache(hub), Reads()
        await cache.get(("page", "a"), reads)
        assert (await cache.get(("page", "a"), reads)).number == 1
        wire.silent = True
        await announce(elsewhere, CHANNEL, "1")
        async with asyncio.timeout(30):
            while True:
                before = reads.count
                for _ in range(3):
                    await cache.get(("page", "a"), reads)
                if reads.count == before + 3:
                    break
                await asyncio.sleep(0.05)
        wire.silent = False
        async with asyncio.timeout(30):
            while not hub.is_listening:
                await asyncio.sleep(0.05)
        seen = (await cache.get(("page", "a"), reads)).number
        assert (await cache.get(("page", "a"), reads)).number == seen == reads.count
