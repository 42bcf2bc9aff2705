"""The search consumer: from events in PostgreSQL to documents in Elasticsearch."""

import asyncio

import pytest
import sqlalchemy as sa
from elasticsearch import AsyncElasticsearch

from registry.db.engine import Database, statement
from registry.db.tables import index_failures
from registry.events import consumer as event_consumer
from registry.events import log as event_log
from registry.events.announcements import Announcements
from registry.search import consumer, indexing
from registry.search.documents import PACKAGES, VERSIONS
from registry.search.index import KINDS, SearchIndex
from registry.search.rebuild import rebuild
from registry.search.writes import Write
from registry.setting_parts import SearchSettings
from tests.background import in_background
from tests.client import delete_search_indices
from tests.search.conftest import Shelf
from tests.until import until

FAILURES = statement(sa.select(index_failures.c.document, index_failures.c.package, index_failures.c.reason))


async def failures(db: Database) -> list[tuple[str, str, str]]:
    async with db.read() as conn:
        return [tuple(row) for row in await conn.all(FAILURES)]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Write]:
    """Every write that goes to the index from now on."""
    seen: list[Write] = []
    bulk = SearchIndex.bulk

    async def noting(self: SearchIndex, writes: list[Write], **how: bool) -> object:
        seen.extend(writes)
        return await bulk(self, writes, **how)

    monkeypatch.setattr(SearchIndex, "bulk", noting)
    return seen


async def test_a_published_package_is_found_with_all_its_members(shelf: Shelf) -> None:
    await shelf.publish(
        "synapse-math", "1.2.3", description="Sums", author="Ada", license="MIT", keywords=["sum"], downloads=7
    )
    await shelf.drain()
    (result,) = (await shelf.find("synapse-math"))["results"]
    assert result.pop("updated_at").endswith("Z")
    assert result.pop("published_at").endswith("Z")
    assert result == {
        "name": "synapse-math",
        "version": "1.2.3",
        "description": "Sums",
        "downloads": 7,
        "author": "Ada",
        "score": 1.0,
        "latest_version": "1.2.3",
        "total_downloads": 7,
        "license": "MIT",
        "keywords": ["sum"],
        "yanked": False,
        "yank_reason": "",
        "deprecated": "",
        "deprecation": None,
        "highlight": {"name": "<em>synapse</em>-<em>math</em>", "description": "Sums"},
    }


async def test_a_package_is_one_result_unless_all_versions_are_requested(shelf: Shelf) -> None:
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        await shelf.publish("many", version, description=f"release {version.replace('.', '')}")
    await shelf.drain()
    assert [r["version"] for r in (await shelf.find("many"))["results"]] == ["1.10.0"]
    page = await shelf.find("many", versions="all")
    assert [r["version"] for r in page["results"]] == ["1.10.0", "1.9.0", "1.0.0"]
    assert {r["latest_version"] for r in page["results"]} == {"1.10.0"}
    assert [r["version"] for r in (await shelf.find("release 100", versions="all"))["results"]] == ["1.0.0"]


async def test_a_publish_writes_two_documents_however_many_versions_there_are(
    shelf: Shelf, written: list[Write]
) -> None:
    for patch in range(30):
        await shelf.publish("busy", f"1.0.{patch}")
    await shelf.drain()
    written.clear()
    await shelf.publish("busy", "2.0.0")
    await shelf.drain()
    assert [(w.kind, w.id) for w in written] == [(PACKAGES, "busy"), (VERSIONS, "busy@2.0.0")]
    written.clear()
    await shelf.yank("busy", "2.0.0")
    await shelf.deprecate("busy")
    await shelf.drain()
    assert len(written) == 2


async def test_the_previous_version_is_shown_after_a_version_is_deleted(shelf: Shelf) -> None:
    await shelf.publish("shrinking", "1.0.0", description="first")
    await shelf.publish("shrinking", "2.0.0", description="second")
    await shelf.drain()
    await shelf.delete("shrinking", "2.0.0")
    await shelf.drain()
    assert [(r["version"], r["description"]) for r in (await shelf.find("shrinking"))["results"]] == [
        ("1.0.0", "first")
    ]
    assert await shelf.names("second", versions="all") == []
    await shelf.delete("shrinking", "1.0.0")
    await shelf.drain()
    assert await shelf.names("shrinking") == []
    assert await shelf.names("shrinking", versions="all") == []


async def test_a_package_with_only_yanked_versions_is_not_found(shelf: Shelf) -> None:
    await shelf.publish("yanked", "1.0.0")
    await shelf.publish("yanked", "1.1.0")
    await shelf.yank("yanked", "1.1.0")
    await shelf.drain()
    assert [r["version"] for r in (await shelf.find("yanked"))["results"]] == ["1.0.0"]
    await shelf.yank("yanked", "1.0.0")
    await shelf.drain()
    assert await shelf.names("yanked") == []
    assert await shelf.names("yanked", versions="all") == []


async def test_a_deprecation_is_shown_with_the_package_and_with_each_version(shelf: Shelf) -> None:
    for version in ("1.0.0", "2.0.0"):
        await shelf.publish("old", version)
    await shelf.deprecate("old", "Take new", "new")
    await shelf.drain()
    for params in ({}, {"versions": "all"}):
        for result in (await shelf.find("old", **params))["results"]:
            assert (result["deprecated"], result["deprecation"]["message"]) == ("Take new", "Take new")
            assert result["deprecation"]["successor"] == "new"
            assert result["deprecation"]["at"].endswith("Z")


async def test_a_document_of_an_earlier_release_is_shown_without_its_deprecation(shelf: Shelf) -> None:
    await shelf.publish("old")
    await shelf.deprecate("old")
    async with shelf.db.read(snapshot=True) as conn:
        [write] = await indexing.writes_of(conn, {"old"}, set())
    assert write.document is not None
    del write.document["deprecation"], write.document["yank_reason"]
    await indexing.write(shelf.db, shelf.index, [write])
    await shelf.index.refresh()
    [result] = (await shelf.find("old"))["results"]
    assert (result["deprecated"], result["deprecation"], result["yank_reason"]) == ("", None, "")


async def test_a_quarantine_removes_every_version_and_a_release_brings_them_back(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "PAGE", 2)
    versions = [f"1.{minor}.0" for minor in range(5)]
    for version in versions:
        await shelf.publish("evil", version)
    await shelf.publish("good")
    await shelf.drain()
    await shelf.quarantine("evil", "malware")
    await shelf.drain()
    for kind, count in ((PACKAGES, 1), (VERSIONS, 1)):
        assert await shelf.index.count(kind) == count
    assert await shelf.names("evil") == await shelf.names("evil", versions="all") == []
    await shelf.quarantine("evil", None)
    await shelf.drain()
    assert await shelf.names("evil", versions="all") == ["evil"] * 5
    assert await shelf.names("evil") == ["evil"]


async def test_the_log_can_be_replayed_from_the_beginning(shelf: Shelf) -> None:
    await shelf.publish("kept", "1.0.0")
    await shelf.publish("gone", "1.0.0")
    await shelf.delete("gone", "1.0.0")
    for _ in range(2):
        await shelf.drain()
        async with shelf.db.transaction() as conn:
            await event_consumer.replay(conn, indexing.CONSUMER)
    assert await shelf.names("kept") == ["kept"]
    assert await shelf.names("gone") == []


async def test_a_late_write_never_replaces_a_newer_one(shelf: Shelf) -> None:
    await shelf.publish("raced", description="old words")
    await shelf.publish("raced", "2.0.0", description="new words")
    await shelf.drain()
    stale = Write(PACKAGES, "raced", "raced", 1, {"name": "raced", "version": "1.0.0"})
    assert (await shelf.index.bulk([stale, Write(PACKAGES, "raced", "raced", 1, None)])).failed == {}
    await shelf.index.refresh()
    assert (await shelf.find("raced"))["results"][0]["version"] == "2.0.0"


async def refuse(own: SearchSettings, index: SearchIndex, name: str) -> str:
    """Makes Elasticsearch refuse the documents of package `name`. Returns the id of the ingest pipeline."""
    pipeline = f"{own.prefix}refuse"
    async with AsyncElasticsearch(own.url) as client:
        fail = {"fail": {"if": f"ctx.name == '{name}'", "message": "this document is poison"}}
        await client.ingest.put_pipeline(id=pipeline, processors=[fail])
        for kind in KINDS:
            await client.indices.put_settings(index=index.alias(kind), settings={"index.default_pipeline": pipeline})
    return pipeline


async def accept(own: SearchSettings, index: SearchIndex, pipeline: str) -> None:
    async with AsyncElasticsearch(own.url) as client:
        for kind in KINDS:
            await client.indices.put_settings(index=index.alias(kind), settings={"index.default_pipeline": "_none"})
        await client.ingest.delete_pipeline(id=pipeline)


async def test_a_refused_document_is_recorded_and_blocks_nothing(shelf: Shelf, own: SearchSettings) -> None:
    pipeline = await refuse(own, shelf.index, "poison")
    before = indexing.FAILED._value.get()
    await shelf.publish("poison")
    await shelf.publish("healthy")
    await shelf.drain()
    assert await shelf.names("healthy") == ["healthy"]
    assert await shelf.names("poison") == []
    recorded = await failures(shelf.db)
    assert {(document, package) for document, package, _ in recorded} == {
        ("packages:poison", "poison"),
        ("versions:poison@1.0.0", "poison"),
    }
    assert all("poison" in reason for *_, reason in recorded)
    assert indexing.FAILED._value.get() == before + 2

    await accept(own, shelf.index, pipeline)
    await shelf.publish("poison", "1.0.1")
    await shelf.drain()
    assert await shelf.names("poison") == ["poison"]
    assert {document for document, *_ in await failures(shelf.db)} == {"versions:poison@1.0.0"}


async def test_huge_and_strange_values_are_indexed(shelf: Shelf) -> None:
    await shelf.publish(
        "huge",
        description="x" * 100_000,
        readme="y" * 200_000,
        author="é" * 40_000,
        license="z" * 40_000,
        keywords=["k" * 40_000, "\U0001f680" * 10_000, "", *map(str, range(500))],
    )
    await shelf.drain()
    assert await failures(shelf.db) == []
    assert await shelf.names("huge") == ["huge"]


async def test_a_lost_index_is_rebuilt_at_the_next_event(shelf: Shelf) -> None:
    await shelf.publish("before")
    await shelf.drain()
    await delete_search_indices(shelf.index)
    await shelf.publish("after")
    await shelf.drain()
    assert await shelf.names("before") == ["before"]
    assert await shelf.names("after") == ["after"]


async def test_an_event_that_is_not_about_a_package_changes_nothing(shelf: Shelf, written: list[Write]) -> None:
    await shelf.publish("demo")
    await shelf.drain()
    written.clear()
    async with shelf.db.transaction() as conn:
        await event_log.append(conn, "user.left", subject_type="user", subject_id=7, actor_id=None)
    await shelf.drain()
    assert written == []
    assert await shelf.names("demo") == ["demo"]


async def test_the_consumer_builds_a_missing_index_and_continues(
    db: Database, announcements: Announcements, index: SearchIndex
) -> None:
    shelf = Shelf(db, index)
    await shelf.publish("first")
    async with in_background(consumer.follow(db, announcements, index)):
        async with asyncio.timeout(60):
            while not await index.is_current():
                await asyncio.sleep(0.1)
            seq = await shelf.publish("second")
            while (await shelf.find("second", min_seq=seq))["total"] == 0:
                await asyncio.sleep(0.1)
        assert await shelf.names("first") == ["first"]


async def test_the_consumer_survives_errors_while_it_checks_the_index(
    db: Database, announcements: Announcements, index: SearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(db, index)
    checks = 0

    async def fail(_db: Database, _index: SearchIndex) -> bool:
        nonlocal checks
        checks += 1
        if checks == 1:
            raise KeyError("a bug")
        return False

    monkeypatch.setattr(consumer, "heal", fail)
    await rebuild(db, index)
    async with in_background(consumer.follow(db, announcements, index, heal_seconds=0.05)):
        await until(lambda: checks > 1)
        seq = await shelf.publish("first")
        async with asyncio.timeout(30):
            while (await shelf.find("first", min_seq=seq))["total"] == 0:
                await asyncio.sleep(0.1)
