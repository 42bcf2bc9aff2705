"""Rebuilds and rollbacks of the search indices, and changes that happen during them."""

import asyncio
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch, ConnectionTimeout
from elasticsearch._async.client.indices import IndicesClient

import es_mappings
from registry.db.engine import Database
from registry.elastic import IndexMissing
from registry.errors import SearchUnavailable
from registry.search import rebuild as rebuilding
from registry.search import store
from registry.search.documents import MAX_README, PACKAGES, VERSIONS
from registry.search.index import BUILDING, KINDS, SearchIndex
from registry.search.rebuild import heal, rebuild, rollback
from registry.setting_parts import SearchSettings
from tests.search.conftest import Shelf
from tests.service import run_command


async def indices(own: SearchSettings) -> dict[str, list[str]]:
    """The indices of this test, each with its aliases."""
    async with AsyncElasticsearch(own.url) as client:
        found = await client.indices.get(index=f"{own.prefix}*", features="aliases")
        return {name: sorted(entry["aliases"]) for name, entry in found.body.items()}


async def test_both_indices_are_replaced_and_one_generation_is_kept(shelf: Shelf, own: SearchSettings) -> None:
    for number in range(3):
        await shelf.publish(f"package-{number}")
        await shelf.publish(f"package-{number}", "1.1.0")
    await shelf.drain()
    first = set(await indices(own))
    seen: list[tuple[str, int, int]] = []
    await rebuild(shelf.db, shelf.index, lambda *progress: seen.append(progress))
    second = await indices(own)
    await rebuild(shelf.db, shelf.index)
    third = await indices(own)

    assert seen == [(PACKAGES, 3, 3), (VERSIONS, 6, 6)]
    assert first < set(second)
    assert len(third) == 4
    assert not first & set(third)
    assert sorted(alias for aliases in third.values() for alias in aliases) == [
        shelf.index.alias(PACKAGES),
        shelf.index.alias(VERSIONS),
    ]
    assert await shelf.index.count(PACKAGES) == 3
    assert await shelf.index.count(VERSIONS) == 6


async def segments(own: SearchSettings, alias: str) -> int:
    async with AsyncElasticsearch(own.url) as client:
        found = await client.indices.segments(index=alias)
    [[shard]] = [entry["shards"]["0"] for entry in found["indices"].values()]
    return sum(segment["search"] for segment in shard["segments"].values())


async def test_publishes_leave_few_segments(shelf: Shelf, own: SearchSettings) -> None:
    for number in range(10):
        await shelf.publish(f"package-{number}")
        await shelf.drain()
    async with asyncio.timeout(30):
        while await segments(own, shelf.index.alias(PACKAGES)) > 6:
            await asyncio.sleep(0.1)


@pytest.fixture
async def in_pieces(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A rebuild of this registry writes a segment for each page of two rows."""
    for number in range(6):
        await shelf.publish(f"package-{number}")
    bulk = SearchIndex.bulk

    async def visible_bulk(self: SearchIndex, *writes: Any, **how: Any) -> Any:
        outcome = await bulk(self, *writes, **how)
        await self.refresh(building=True)
        return outcome

    monkeypatch.setattr(rebuilding, "PAGE", 2)
    monkeypatch.setattr(SearchIndex, "bulk", visible_bulk)
    return shelf


async def test_a_rebuilt_index_has_one_segment(in_pieces: Shelf, own: SearchSettings) -> None:
    await rebuild(in_pieces.db, in_pieces.index)
    assert [await segments(own, in_pieces.index.alias(kind)) for kind in (PACKAGES, VERSIONS)] == [1, 1]
    assert len(await in_pieces.names("package")) == 6


async def test_an_index_that_can_not_be_merged_is_used_all_the_same(
    in_pieces: Shelf, own: SearchSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_slow(*_: object, **__: object) -> None:
        raise ConnectionTimeout("merging")

    monkeypatch.setattr(IndicesClient, "forcemerge", too_slow)
    await rebuild(in_pieces.db, in_pieces.index)
    assert await segments(own, in_pieces.index.alias(PACKAGES)) == 3
    assert len(await in_pieces.names("package")) == 6


async def test_searches_see_only_what_was_refreshed_explicitly(shelf: Shelf, own: SearchSettings) -> None:
    await rebuild(shelf.db, shelf.index)
    async with AsyncElasticsearch(own.url) as client:
        found = await client.indices.get_settings(index=[shelf.index.alias(kind) for kind in KINDS])
        assert [entry["settings"]["index"]["refresh_interval"] for entry in found.body.values()] == ["-1", "-1"]


async def test_changes_during_a_rebuild_reach_both_generations(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    await shelf.publish("early")
    await shelf.publish("doomed")
    await shelf.drain()
    check = rebuilding._check

    async def meanwhile(*arguments: object) -> None:
        await shelf.publish("late")
        await shelf.delete("doomed", "1.0.0")
        await shelf.drain()
        assert await shelf.names("late") == ["late"], "the searched generation goes on"
        await check(*arguments)
        await shelf.publish("final")
        await shelf.drain()

    monkeypatch.setattr(rebuilding, "_check", meanwhile)
    await rebuild(shelf.db, shelf.index)
    for name in ("early", "late", "final"):
        assert await shelf.names(name, sort="name") == [name]
    assert await shelf.names("doomed") == []


async def test_documents_found_before_the_swap_are_found_after_it(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = shelf.index.swap

    async def published_meanwhile(seq: int) -> None:
        await shelf.publish("late")
        await shelf.drain()
        await swap(seq)

    monkeypatch.setattr(shelf.index, "swap", published_meanwhile)
    await rebuild(shelf.db, shelf.index)
    assert await shelf.names("late") == ["late"]


async def test_searches_during_a_rebuild_find_all_existing_packages(shelf: Shelf) -> None:
    before = [f"steady-{number}" for number in range(10)]
    for name in (*before, "doomed"):
        await shelf.publish(name)
    await shelf.drain()
    searched: list[str] = []
    published: list[str] = []
    over = asyncio.Event()

    async def search() -> None:
        while not over.is_set():
            name = before[len(searched) % len(before)]
            assert (await shelf.names(name))[:1] == [name]
            searched.append(name)

    async def change() -> None:
        await shelf.delete("doomed", "1.0.0")
        while not over.is_set():
            name = f"meanwhile-{len(published)}"
            await shelf.publish(name)
            await shelf.drain()
            published.append(name)

    async with asyncio.TaskGroup() as tasks:
        for work in (search, change):
            tasks.create_task(work())
        while len(searched) < 2 * len(before) or len(published) < 2:
            await rebuild(shelf.db, shelf.index)
        over.set()

    for name in (*before, *published):
        assert (await shelf.names(name))[:1] == [name]
    assert await shelf.names("doomed", sort="name") == []


async def test_a_rebuild_is_complete_without_a_running_consumer(shelf: Shelf) -> None:
    await shelf.publish("unhandled")
    await rebuild(shelf.db, shelf.index)
    assert await shelf.names("unhandled") == ["unhandled"]


async def test_an_incomplete_index_is_not_used(
    shelf: Shelf, own: SearchSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shelf.publish("kept")
    await shelf.drain()
    before = await indices(own)

    async def nothing(*_: object) -> int:
        return 0

    monkeypatch.setattr(rebuilding, "_fill", nothing)
    with pytest.raises(SearchUnavailable, match="not used"):
        await rebuild(shelf.db, shelf.index)
    assert await indices(own) == before
    assert await shelf.names("kept") == ["kept"]


async def test_a_rebuild_drops_what_a_killed_rebuild_left(shelf: Shelf, own: SearchSettings) -> None:
    await shelf.index.create_generation()
    leftover = {name for name, aliases in (await indices(own)).items() if aliases[0].endswith(BUILDING)}
    await shelf.publish("kept")
    await shelf.drain()
    await rebuild(shelf.db, shelf.index)
    assert len(leftover) == 2
    assert not leftover & set(await indices(own))
    assert await shelf.names("kept") == ["kept"]


async def test_a_rollback_updates_the_previous_generation(shelf: Shelf, own: SearchSettings) -> None:
    await shelf.publish("old")
    await shelf.publish("doomed")
    await shelf.drain()
    first = await indices(own)
    await rebuild(shelf.db, shelf.index)
    await shelf.publish("new")
    await shelf.delete("doomed", "1.0.0")
    await shelf.drain()

    await rollback(shelf.db, shelf.index)
    now = await indices(own)
    assert {name: aliases for name, aliases in now.items() if aliases} == first
    assert await shelf.names("old") == ["old"]
    assert await shelf.names("new") == ["new"]
    assert await shelf.names("doomed") == []

    await rollback(shelf.db, shelf.index)
    assert {name for name, aliases in (await indices(own)).items() if aliases} == set(now) - set(first)


async def test_a_rollback_fails_without_a_previous_generation(shelf: Shelf) -> None:
    with pytest.raises(IndexMissing):
        await rollback(shelf.db, shelf.index)


async def test_a_failed_or_killed_rollback_can_be_repeated(
    shelf: Shelf, own: SearchSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shelf.publish("old")
    await shelf.drain()
    first = await indices(own)
    await rebuild(shelf.db, shelf.index)
    rebuilt = await indices(own)

    async def fail(*_: object) -> int:
        raise SearchUnavailable("Elasticsearch is too busy")

    with monkeypatch.context() as patched, pytest.raises(SearchUnavailable):
        patched.setattr(rebuilding, "_catch_up", fail)
        await rollback(shelf.db, shelf.index)
    assert await indices(own) == rebuilt
    await shelf.index.revive_previous()  # a rollback that was killed here leaves the building aliases
    await shelf.publish("new")
    await shelf.drain()

    await rollback(shelf.db, shelf.index)
    assert {name: aliases for name, aliases in (await indices(own)).items() if aliases} == first
    assert sorted(await shelf.names("package")) == ["new", "old"]


async def test_the_command_rolls_back(shelf: Shelf, own: SearchSettings, database_url: str, tmp_path: Path) -> None:
    where = {"REGISTRY_DB_URL": database_url, "REGISTRY_ES_URL": own.url, "REGISTRY_ES_PREFIX": own.prefix}
    await shelf.publish("kept")
    await shelf.drain()
    first = await indices(own)
    status, out, _ = await run_command(tmp_path, "reindex", **where)
    assert (status, out.splitlines()[-1]) == (0, "The new index serves.")
    assert {name for name, aliases in (await indices(own)).items() if aliases}.isdisjoint(first)

    status, out, _ = await run_command(tmp_path, "reindex", "--rollback", **where)
    assert (status, out.strip()) == (0, "The former index serves again.")
    assert {name: aliases for name, aliases in (await indices(own)).items() if aliases} == first
    assert await shelf.names("kept") == ["kept"]


async def test_concurrent_rebuilds_run_one_after_the_other(shelf: Shelf, own: SearchSettings) -> None:
    await shelf.publish("kept")
    await asyncio.gather(rebuild(shelf.db, shelf.index), rebuild(shelf.db, shelf.index))
    assert len(await indices(own)) == 4
    assert await shelf.names("kept") == ["kept"]


async def test_concurrent_heals_build_one_index(db: Database, index: SearchIndex, own: SearchSettings) -> None:
    healed = await asyncio.gather(*(heal(db, index) for _ in range(3)))
    assert sorted(healed) == [False, False, True]
    assert len(await indices(own)) == 2


async def test_the_old_index_stays_in_use_if_two_rebuilds_run_without_a_lock(
    shelf: Shelf, own: SearchSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shelf.publish("kept")
    await shelf.drain()
    before = await indices(own)
    fill = rebuilding._fill

    async def and_another(*arguments: Any) -> int:
        filled = await fill(*arguments)
        async with AsyncElasticsearch(own.url) as client:
            body = {shelf.index.alias(arguments[2], building=True): {}}
            await client.indices.create(index=f"{own.prefix}{arguments[2]}-another-1", aliases=body)
        return filled

    monkeypatch.setattr(rebuilding, "_fill", and_another)
    with pytest.raises(SearchUnavailable, match=r"not one\. None is used\."):
        await rebuild(shelf.db, shelf.index)
    assert await indices(own) == before
    await shelf.publish("later")
    await shelf.drain()
    assert await shelf.names("kept") == ["kept"]


async def test_an_alias_with_two_indices_is_healed_and_no_failure_is_recorded(
    shelf: Shelf, own: SearchSettings
) -> None:
    await shelf.publish("kept")
    await shelf.drain()
    async with AsyncElasticsearch(own.url) as client:
        body = {shelf.index.alias(VERSIONS): {}}
        await client.indices.create(index=f"{own.prefix}{VERSIONS}-another-1", aliases=body)
    assert not await shelf.index.is_current()
    await shelf.publish("later")
    await shelf.drain()
    assert await shelf.index.is_current()
    assert await shelf.names("later") == ["later"]
    async with shelf.db.read() as conn:
        assert await store.failures(conn, "", 10) == []


def test_a_changed_layout_has_a_new_version_number() -> None:
    """Workers rebuild indices with a lower version number. If you change the layout, increase its version here, too."""
    layout = es_mappings.load(PACKAGES)
    digest = hashlib.sha256(json.dumps({**layout, "version": None}, sort_keys=True).encode()).hexdigest()
    assert (layout["version"], digest[:16]) == (3, "46d218465a02e7e5")


async def test_only_an_index_with_an_older_layout_is_rebuilt(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    await shelf.publish("kept")
    await shelf.drain()
    former = es_mappings.load
    with monkeypatch.context() as newer:
        newer.setattr(es_mappings, "load", lambda name: {**former(name), "version": former(name)["version"] + 1})
        assert not await shelf.index.is_current()
        assert await heal(shelf.db, shelf.index)
        assert await shelf.index.is_current()
    assert not await heal(shelf.db, shelf.index)  # as a process of the previous release would
    assert await shelf.names("kept") == ["kept"]
    await rollback(shelf.db, shelf.index)
    assert not await heal(shelf.db, shelf.index)
    assert await shelf.names("kept") == ["kept"]


async def test_drop_building_keeps_an_index_that_a_late_swap_activated(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the swap was lost, and the swap took effect after `drop_building` had read the aliases."""
    await shelf.publish("kept")
    await shelf.drain()
    await shelf.index.create_generation()
    await shelf.publish("both")
    await shelf.drain()
    behind = {
        name: await shelf.index._indices_of(name) for name in (shelf.index.alias(kind, building=True) for kind in KINDS)
    }
    await shelf.index.swap(1)
    before = {kind: await shelf.index._indices_of(shelf.index.alias(kind)) for kind in KINDS}

    async def earlier(alias: str) -> list[str]:
        return behind[alias]

    with monkeypatch.context() as late:
        late.setattr(shelf.index, "_indices_of", earlier)
        await shelf.index.drop_building()
    assert {kind: await shelf.index._indices_of(shelf.index.alias(kind)) for kind in KINDS} == before


async def test_a_late_swap_of_dropped_indices_changes_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    await shelf.publish("kept")
    await shelf.drain()
    await shelf.index.create_generation()
    drop = shelf.index.drop_building
    find = shelf.index._indices_of

    async def dropped_meanwhile(alias: str) -> list[str]:
        found = await find(alias)
        if alias == shelf.index.alias(KINDS[-1]):  # the last one that the swap looks for
            monkeypatch.undo()
            await drop()
        return found

    monkeypatch.setattr(shelf.index, "_indices_of", dropped_meanwhile)
    with pytest.raises(SearchUnavailable):
        await shelf.index.swap(1)
    assert await shelf.names("kept") == ["kept"]


async def test_a_write_never_creates_an_index(db: Database, index: SearchIndex, own: SearchSettings) -> None:
    shelf = Shelf(db, index)
    await shelf.publish("early")
    with pytest.raises(IndexMissing):
        await index.targets(PACKAGES)
    assert await indices(own) == {}


async def test_a_failed_request_for_the_highest_popularity_is_retried(db: Database, index: SearchIndex):
    with pytest.raises(SearchUnavailable):
        await index.max_popularity()
    await heal(db, index)
    shelf = Shelf(db, index)
    await shelf.publish("popular", downloads=5_000_000)
    await shelf.drain()
    assert await index.max_popularity() == pytest.approx(math.log1p(5_000_000), rel=1e-6)


async def test_only_the_indexed_part_of_a_large_readme_is_read(shelf: Shelf):
    await shelf.publish("large", readme="word " * 100_000)
    async with shelf.db.read() as conn:
        rows = [
            *await store.packages_after(conn, 0, 10),
            *await store.packages_named(conn, ["large"]),
            *await store.versions_after(conn, 0, 10),
            *await store.versions_named(conn, [("large", "1.0.0")]),
        ]
        identities = [
            *await store.package_identities_after(conn, 0, 10),
            *await store.version_identities_after(conn, 0, 10),
        ]
    assert [len(row.readme) for row in rows] == [MAX_README] * 4
    assert [row._fields for row in identities] == [("id", "name", "version")] * 2


async def test_words_of_the_indexed_part_of_a_readme_are_found(shelf: Shelf):
    await shelf.publish("large", readme="Heliotropes " + "word " * 100_000)
    await shelf.drain()
    assert await shelf.names("heliotropes") == ["large"]
    await rebuild(shelf.db, shelf.index)
    assert await shelf.names("heliotropes") == ["large"]
