"""What is kept of packages: never older than the last change, in this process or another."""

import asyncio
from dataclasses import dataclass

import pytest

from registry.events.log import CHANNEL
from registry.packages import cached
from registry.packages.cached import DOWNLOADED, PackageCache


@dataclass(frozen=True)
class Read:
    package_id: int
    number: int


class Reads:
    """Counts how often the truth was asked."""

    def __init__(self, package_id: int = 1) -> None:
        self.count = 0
        self.package_id = package_id
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self) -> Read:
        self.count += 1
        number = self.count
        await self.go_on.wait()
        return Read(self.package_id, number)


async def until_it_listens(cache: PackageCache) -> None:
    reads = Reads(0)
    async with asyncio.timeout(10):
        while True:
            before = reads.count
            await cache.get(("anything",), reads)
            if reads.count == before:
                return
            await asyncio.sleep(0.01)


@pytest.fixture
async def cache(announcements):
    return PackageCache(announcements)


async def announce(db, channel: str, payload: str) -> None:
    async with db.transaction() as conn:
        conn.announce(channel, payload)


async def test_what_did_not_change_is_read_once(cache):
    reads = Reads()
    assert [(await cache.get(("page", "a"), reads)).number for _ in range(3)] == [1, 1, 1]
    await cache.get(("page", "b"), reads)
    assert reads.count == 2


async def test_a_commit_here_is_known_before_its_caller_goes_on(cache, db):
    reads = Reads()
    await cache.get(("page", "a"), reads)
    await announce(db, CHANNEL, "1")
    assert (await cache.get(("page", "a"), reads)).number == 2
    assert (await cache.get(("page", "a"), reads)).number == 2


async def test_what_another_package_does_changes_nothing(cache, db):
    reads = Reads()
    await cache.get(("page", "a"), reads)
    await announce(db, CHANNEL, "2")
    assert (await cache.get(("page", "a"), reads)).number == 1


async def test_downloads_are_news_to_those_alone_who_tell_of_them(cache, db):
    page, blob = Reads(), Reads()
    await cache.get(("page", "a"), page, counts=True)
    await cache.get(("blob", "a"), blob)
    await announce(db, DOWNLOADED, "7 1")
    assert (await cache.get(("page", "a"), page, counts=True)).number == 2
    assert (await cache.get(("blob", "a"), blob)).number == 1


async def test_a_reading_that_a_change_overtook_is_not_kept(cache, db):
    reads = Reads()
    reads.go_on.clear()
    reading = asyncio.create_task(cache.get(("page", "a"), reads))
    while not reads.count:
        await asyncio.sleep(0)
    await announce(db, CHANNEL, "1")
    reads.go_on.set()
    assert (await reading).number == 1
    assert (await cache.get(("page", "a"), reads)).number == 2


async def test_a_transaction_that_failed_announces_nothing(cache, db):
    reads = Reads()
    await cache.get(("page", "a"), reads)
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as conn:
            conn.announce(CHANNEL, "1")
            raise ZeroDivisionError
    assert (await cache.get(("page", "a"), reads)).number == 1


async def test_nothing_is_kept_for_long(cache, monkeypatch):
    monkeypatch.setattr(cached, "SECONDS", 0.05)
    reads = Reads()
    await cache.get(("page", "a"), reads)
    await asyncio.sleep(0.1)
    assert (await cache.get(("page", "a"), reads)).number == 2


async def test_nothing_is_kept_while_nothing_can_be_heard(cache, db, postgres):
    reads = Reads()
    await cache.get(("page", "a"), reads)
    async with db.session() as (conn, _):
        await conn.command(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
    async with asyncio.timeout(10):
        while (await cache.get(("page", "a"), reads)).number == 1:
            await asyncio.sleep(0.01)
    assert (await cache.get(("page", "a"), reads)).number == 3
    await until_it_listens(cache)


async def test_pages_and_tarballs_of_another_process_show_what_was_done_here(make_registry):
    here, there = await make_registry(), await make_registry()
    ada = await here.user()
    await ada.publish("demo", "1.0.0")

    async def seen(version: str, downloads: int) -> None:
        async with asyncio.timeout(2):
            while True:
                page = (await there.get("/packages/demo")).json
                if (page["version"], page["total_downloads"]) == (version, downloads):
                    return
                await asyncio.sleep(0.005)

    await seen("1.0.0", 0)
    await ada.publish("demo", "1.1.0")
    await seen("1.1.0", 0)
    assert (await there.get("/packages/demo/1.1.0/tarball")).status == 200
    await here.get("/packages/demo/1.0.0/tarball")
    await seen("1.1.0", 2)
    assert (await ada.call("DELETE", "/packages/demo/1.1.0")).status == 204
    await seen("1.0.0", 2)
    assert (await there.get("/packages/demo/1.1.0/tarball")).status == 404
