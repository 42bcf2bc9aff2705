"""Popularity is made of clients, not of downloads, and both reach the index soon after a download."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from registry.db.engine import Connection, Database, Row, Statement
from registry.downloads import store as downloads
from registry.downloads.clients import count as clients
from registry.downloads.identity import address_key
from registry.events.announcements import Announcements
from registry.search import store
from registry.search.counts import refresh
from registry.search.counts.refresh import EXACT_BELOW, refresh_all, refresh_downloaded
from registry.search.documents import PACKAGES, VERSIONS, popularity
from registry.search.index import SearchIndex
from registry.search.indexing import package_writes, write
from registry.search.rebuild import rebuild, rollback
from registry.search.visible import CHANNEL
from registry.search.writes import Write
from tests.background import in_background
from tests.conftest import SECRET
from tests.downloads.counts import made_up, rows
from tests.search.conftest import Shelf
from tests.until import until

VERSIONS_OF = Statement(
    """
    SELECT v.id, v.package_id FROM package_versions v JOIN packages p ON p.id = v.package_id
    WHERE p.name = %(name)s ORDER BY v.id
    """,
    {},
)
BEGIN = Statement("INSERT INTO consumers (name, seq) VALUES ('clients', 0), ('counts', 0) ON CONFLICT DO NOTHING", {})
FORGET = Statement("DELETE FROM consumers WHERE name IN ('clients', 'counts')", {})
POSITION = Statement("SELECT seq FROM consumers WHERE name = 'counts'", {})


async def no_pause(_: float) -> None:
    """Stands in for the pauses between updates."""


async def download(shelf: Shelf, name: str, *given: dict[str, Any], version: int = 0) -> None:
    """Adds downloads of one version of a package. Each is one by address 1, unless `given` says otherwise."""
    async with shelf.db.transaction() as conn:
        await conn.run(BEGIN)
        found = (await conn.all(VERSIONS_OF, name=name))[version]
    batch = [made_up(found.id, found.package_id, **{"address_key": 1, **fields}) for fields in given]
    for start in range(0, len(batch), 1000):
        async with shelf.db.transaction() as conn:
            downloads.add(conn, uuid4(), rows(*batch[start : start + 1000]))


def addresses(number: int) -> list[dict[str, Any]]:
    """One download each by so many addresses."""
    return [{"address_key": key} for key in range(number)]


async def catch_up(shelf: Shelf) -> None:
    """What the two consumers do until they have caught up."""
    while await clients.count_window(shelf.db):
        pass
    while await refresh_downloaded(shelf.db, shelf.index, sleep=no_pause):
        pass


async def indexed(shelf: Shelf, name: str, kind: str = PACKAGES) -> tuple[int, float]:
    """(downloads, popularity) in the document of a package or version."""
    found = (await shelf.index.documents(kind, [name], ["downloads", "popularity"]))[name]
    return found["downloads"], found["popularity"]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Write]:
    """The writes of counts, in order."""
    writes: list[Write] = []

    async def keep(db: Database, index: SearchIndex, given: Sequence[Write]) -> int:
        writes.extend(given)
        return await write(db, index, given)

    monkeypatch.setattr(refresh, "write", keep)
    return writes


async def test_one_address_cannot_lift_a_package_by_changing_its_user_agent(shelf: Shelf) -> None:
    for name in ("json-bought", "json-liked"):
        await shelf.publish(name, description="Parses JSON documents")
    await shelf.drain()
    now = datetime.now(UTC)
    key = address_key(SECRET, now, "203.0.113.7")
    await download(
        shelf,
        "json-bought",
        *({"at": now, "address_key": key, "user_agent": f"pip/{n}", "client_hash": f"{n:016x}"} for n in range(20_000)),
    )
    await download(
        shelf,
        "json-liked",
        *({"at": now, "address_key": address_key(SECRET, now, f"198.51.100.{n}")} for n in range(60)),
    )
    await catch_up(shelf)
    assert await shelf.names("json documents") == ["json-liked", "json-bought"]
    assert await shelf.names("json documents", sort="downloads") == ["json-bought", "json-liked"]
    assert await indexed(shelf, "json-bought") == (20_000, pytest.approx(popularity(1)))
    assert await indexed(shelf, "json-liked") == (60, pytest.approx(popularity(60)))


async def test_mirrors_and_bots_do_not_lift_a_package(shelf: Shelf) -> None:
    for name in ("json-mirrored", "json-liked"):
        await shelf.publish(name, description="Parses JSON documents")
    await shelf.drain()
    await download(shelf, "json-mirrored", *({**each, "kind": "mirror"} for each in addresses(400)))
    await download(shelf, "json-mirrored", *({**each, "kind": "bot"} for each in addresses(400)))
    await download(shelf, "json-liked", *addresses(2))
    await catch_up(shelf)
    assert await shelf.names("json documents") == ["json-liked", "json-mirrored"]
    assert await indexed(shelf, "json-mirrored") == (800, 0.0)


async def test_clients_count_half_after_ninety_days_and_nothing_after_a_year(shelf: Shelf) -> None:
    await shelf.publish("demo")
    for age, clients_of_day in ((0, 8), (90, 8), (180, 8), (365, 1000)):
        await shelf.clients("demo", clients_of_day, age=age)
    await shelf.drain()
    assert (await indexed(shelf, "demo"))[1] == pytest.approx(popularity(8 + 4 + 2))


async def test_popularity_decays_without_downloads(shelf: Shelf, written: list[Write]) -> None:
    for name in ("old", "new"):
        await shelf.publish(name, downloads=100)
    await shelf.drain()
    assert await refresh_all(shelf.db, shelf.index, sleep=no_pause) == 0
    await shelf.clients("old", 100, age=45)
    await shelf.clients("old", 0)
    assert await refresh_all(shelf.db, shelf.index, sleep=no_pause) == 2
    assert {(each.kind, each.id) for each in written} == {(PACKAGES, "old"), (VERSIONS, "old@1.0.0")}
    assert (await indexed(shelf, "old"))[1] == pytest.approx(popularity(100 * 0.5**0.5))
    assert await refresh_all(shelf.db, shelf.index, sleep=no_pause) == 0


async def test_each_download_of_a_small_package_is_indexed(shelf: Shelf) -> None:
    await shelf.publish("demo", "1.0.0")
    await shelf.publish("demo", "2.0.0")
    await shelf.drain()
    await download(shelf, "demo", *addresses(12))
    await catch_up(shelf)
    await download(shelf, "demo", {"address_key": 1})
    await catch_up(shelf)
    assert await indexed(shelf, "demo") == (13, pytest.approx(popularity(12)))
    assert await indexed(shelf, "demo@1.0.0", VERSIONS) == (13, pytest.approx(popularity(12)))
    [found] = (await shelf.find("demo"))["results"]
    assert found["total_downloads"] == 13
    by_version = {each["version"]: each["downloads"] for each in (await shelf.find("demo", versions="all"))["results"]}
    assert by_version == {"1.0.0": 13, "2.0.0": 0}


async def test_counts_of_a_large_package_are_indexed_by_steps(shelf: Shelf, written: list[Write]) -> None:
    await shelf.publish("large", downloads=EXACT_BELOW)
    await shelf.drain()
    await download(shelf, "large", *addresses(5))
    await catch_up(shelf)
    assert written == []
    await download(shelf, "large", *({} for _ in range(400)))
    await catch_up(shelf)
    assert {each.id for each in written} == {"large", "large@1.0.0"}
    assert (await indexed(shelf, "large"))[0] == EXACT_BELOW + 405


async def test_a_batch_of_downloads_is_written_once_and_announced(
    shelf: Shelf, announcements: Announcements, written: list[Write]
) -> None:
    await shelf.publish("demo")
    await shelf.drain()
    shown: list[str] = []
    announcements.subscribe(CHANNEL, announced=lambda _, payload: shown.append(payload))
    await download(shelf, "demo", *addresses(30))
    await catch_up(shelf)
    assert [(each.kind, each.id) for each in written] == [(PACKAGES, "demo"), (VERSIONS, "demo@1.0.0")]
    assert shown
    await catch_up(shelf)
    assert len(written) == 2


async def test_the_consumers_bring_a_download_into_the_order(shelf: Shelf, announcements: Announcements) -> None:
    for name in ("json-a", "json-b"):
        await shelf.publish(name, description="Parses JSON documents")
    await shelf.drain()
    assert await shelf.names("json documents") == ["json-a", "json-b"]
    async with (
        in_background(clients.follow(shelf.db, announcements)),
        in_background(refresh.follow(shelf.db, announcements, shelf.index)),
    ):
        for name in ("json-b", "json-a"):
            await download(shelf, name, *addresses(200 if name == "json-b" else 400))
            for sort in ("relevance", "downloads"):
                async with asyncio.timeout(30):
                    while (await shelf.names("json documents", sort=sort))[0] != name:
                        await asyncio.sleep(0.05)


async def test_the_first_start_begins_with_the_next_download(shelf: Shelf, announcements: Announcements) -> None:
    """A new index is built from the counts of now, so a registry with a long past needs no second look at it."""
    await shelf.publish("demo")
    await shelf.drain()
    await download(shelf, "demo", *addresses(3))
    async with shelf.db.transaction() as conn:
        await conn.run(FORGET)

    async def is_at_the_end() -> bool:
        async with shelf.db.read() as conn:
            return await conn.value(POSITION) == 3

    async with in_background(refresh.follow(shelf.db, announcements, shelf.index)):
        await until(is_at_the_end)
    assert await indexed(shelf, "demo") == (0, 0.0)


async def test_downloads_during_an_outage_are_indexed_afterwards(
    shelf: Shelf, announcements: Announcements, away: SearchIndex
) -> None:
    await shelf.publish("demo")
    await shelf.drain()
    await download(shelf, "demo", *addresses(3))
    async with (
        in_background(clients.follow(shelf.db, announcements)),
        in_background(refresh.follow(shelf.db, announcements, away)),
    ):
        await until(lambda: _has_failed(shelf.db))
    assert await indexed(shelf, "demo") == (0, 0.0)
    async with in_background(refresh.follow(shelf.db, announcements, shelf.index)):
        async with asyncio.timeout(30):
            while await indexed(shelf, "demo") != (3, pytest.approx(popularity(3))):
                await asyncio.sleep(0.05)


async def _has_failed(db: Database) -> bool:
    async with db.read() as conn:
        return bool(await conn.value(Statement("SELECT count(*) FROM consumers WHERE failure IS NOT NULL", {})))


@pytest.mark.parametrize("step", ["write", "make_searchable"])
async def test_counts_are_shown_although_a_process_died_before_a_step(
    step: str, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shelf.publish("demo")
    await shelf.drain()
    await download(shelf, "demo", *addresses(3))

    async def die(*_: Any) -> None:
        raise RuntimeError("the process ends here")

    with monkeypatch.context() as patched:
        patched.setattr(refresh, step, die)
        with pytest.raises(RuntimeError):
            await catch_up(shelf)
    await catch_up(shelf)
    assert await indexed(shelf, "demo") == (3, pytest.approx(popularity(3)))
    [found] = (await shelf.find("demo"))["results"]
    assert found["total_downloads"] == 3


async def test_an_older_write_of_the_search_consumer_is_replaced(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search consumer reads its rows before a download and writes them after the counts were updated."""
    await shelf.publish("demo")
    await shelf.drain()
    async with shelf.db.read() as conn:
        rows = await store.packages_named(conn, ["demo"])
    seq = await shelf.publish("demo", "1.0.1")
    await download(shelf, "demo", *addresses(3))
    late = package_writes(rows, seq)

    async def overtaken(_: float) -> None:
        """While the counts wait for the search consumer, it writes and saves its cursor."""
        if late:
            await write(shelf.db, shelf.index, [late.pop()])
            await shelf.save_cursor(seq)

    while await clients.count_window(shelf.db):
        pass
    await refresh_downloaded(shelf.db, shelf.index, sleep=overtaken)
    assert not late
    assert await indexed(shelf, "demo") == (3, pytest.approx(popularity(3)))


async def test_downloads_during_a_rebuild_are_in_the_new_index(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    await shelf.publish("demo")
    await shelf.drain()
    await catch_up_once(shelf)
    read = store.packages_after

    async def read_before_a_download(conn: Connection, after: int, count: int) -> list[Row]:
        rows = await read(conn, after, count)
        if rows:
            await download(shelf, "demo", *addresses(3))
            await catch_up(shelf)
        return rows

    monkeypatch.setitem(rebuild.__globals__["_SOURCES"], PACKAGES, (read_before_a_download, package_writes))
    await rebuild(shelf.db, shelf.index)
    assert await indexed(shelf, "demo") == (3, pytest.approx(popularity(3)))


async def catch_up_once(shelf: Shelf) -> None:
    await download(shelf, "demo")
    await catch_up(shelf)


async def test_a_rollback_updates_all_counts(shelf: Shelf) -> None:
    await shelf.publish("demo")
    await shelf.drain()
    await rebuild(shelf.db, shelf.index)
    await download(shelf, "demo", *addresses(3))
    await catch_up(shelf)
    await rollback(shelf.db, shelf.index)
    assert await indexed(shelf, "demo") == (3, pytest.approx(popularity(3)))
