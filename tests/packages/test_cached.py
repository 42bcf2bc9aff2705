"""The cache of package reads. It never returns data older than the last change in this or another process."""

import asyncio
from dataclasses import dataclass

import pytest

from registry.events.log import CHANNEL
from registry.packages.cached import DOWNLOADED, MAX_BYTES, SECONDS, PackageCache
from tests.background import in_background
from tests.until import until


@dataclass(frozen=True)
class Read:
    package_id: int
    number: int


class Reads:
    """Stands for a read of the database. It counts its calls, and waits until `go_on` is set."""

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


async def until_listening(cache: PackageCache) -> None:
    reads = Reads(0)

    async def is_cached() -> bool:
        before = reads.count
        await cache.get(("anything",), reads)
        return reads.count == before

    await until(is_cached)


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def cache(announcements, clock):
    return PackageCache(announcements, clock=clock)


async def announce(db, channel: str, payload: str) -> None:
    async with db.transaction() as conn:
        conn.announce(channel, payload)


async def test_an_unchanged_package_is_read_once(cache):
    reads = Reads()
    assert [(await cache.get(("page", "a"), reads)).number for _ in range(3)] == [1, 1, 1]
    await cache.get(("page", "b"), reads)
    assert reads.count == 2


async def test_a_commit_in_this_process_invalidates_before_it_returns(cache, db):
    reads = Reads()
    await cache.get(("page", "a"), reads)
    await announce(db, CHANNEL, "1")
    assert (await cache.get(("page", "a"), reads)).number == 2
    assert (await cache.get(("page", "a"), reads)).number == 2


async def test_a_change_of_another_package_invalidates_nothing(cache, db):
    reads = Reads()
    await cache.get(("page", "a"), reads)
    await announce(db, CHANNEL, "2")
    assert (await cache.get(("page", "a"), reads)).number == 1


async def test_downloads_invalidate_only_values_that_show_counts(cache, db):
    page, blob = Reads(), Reads()
    await cache.get(("page", "a"), page, counts=True)
    await cache.get(("blob", "a"), blob)
    await announce(db, DOWNLOADED, "7 1")
    assert (await cache.get(("page", "a"), page, counts=True)).number == 2
    assert (await cache.get(("blob", "a"), blob)).number == 1


async def test_a_read_during_which_the_package_changed_is_not_cached(cache, db):
    reads = Reads()
    reads.go_on.clear()
    async with in_background(cache.get(("page", "a"), reads)) as reading:
        while not reads.count:
            await asyncio.sleep(0)
        await announce(db, CHANNEL, "1")
        reads.go_on.set()
        assert (await reading).number == 1
    assert (await cache.get(("page", "a"), reads)).number == 2


async def test_a_failed_transaction_invalidates_nothing(cache, db):
    reads = Reads()
    await cache.get(("page", "a"), reads)
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as conn:
            conn.announce(CHANNEL, "1")
            raise ZeroDivisionError
    assert (await cache.get(("page", "a"), reads)).number == 1


async def test_an_entry_expires_after_a_few_seconds(cache, clock):
    reads = Reads()
    await cache.get(("page", "a"), reads)
    clock.now += SECONDS
    assert (await cache.get(("page", "a"), reads)).number == 1
    clock.now += 0.1
    assert (await cache.get(("page", "a"), reads)).number == 2


async def test_nothing_is_cached_while_the_connection_is_lost(cache, db, postgres):
    reads = Reads()
    await cache.get(("page", "a"), reads)
    async with db.session() as (conn, _):
        await conn.command(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )

    async def is_invalid() -> bool:
        return (await cache.get(("page", "a"), reads)).number > 1

    await until(is_invalid)
    assert (await cache.get(("page", "a"), reads)).number == 3
    await until_listening(cache)


async def test_another_process_shows_changes_at_once(make_registry):
    here, there = await make_registry(), await make_registry()
    ada = await here.user()
    await ada.publish("demo", "1.0.0")

    async def seen(version: str, downloads: int) -> None:
        async def is_shown() -> bool:
            page = (await there.get("/packages/demo")).json
            return (page["version"], page["total_downloads"]) == (version, downloads)

        await until(is_shown)

    await seen("1.0.0", 0)
    await ada.publish("demo", "1.1.0")
    await seen("1.1.0", 0)
    assert (await there.get("/packages/demo/1.1.0/tarball")).status == 200
    await here.get("/packages/demo/1.0.0/tarball")
    await seen("1.1.0", 2)
    assert (await ada.call("DELETE", "/packages/demo/1.1.0")).status == 204
    await seen("1.0.0", 2)
    assert (await there.get("/packages/demo/1.1.0/tarball")).status == 404


async def test_large_values_take_the_place_of_many_small_ones(cache):
    @dataclass(frozen=True)
    class Large(Read):
        weight: int = MAX_BYTES // 3

    reads = Reads()

    async def large() -> Large:
        return Large(1, (await reads()).number)

    await until_listening(cache)
    for key in "abcd":
        await cache.get((key,), large)
    assert reads.count == 4
    await cache.get(("d",), large)
    assert reads.count == 4
    await cache.get(("a",), large)
    assert reads.count == 5
