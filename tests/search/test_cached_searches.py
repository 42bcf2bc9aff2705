"""Searches with the cache: every change of the index is found at once, in every process."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from elasticsearch import AsyncElasticsearch
from prometheus_client import REGISTRY

from registry.events.announcements import Announcements
from registry.events.consumer import PROGRESS
from registry.search import store
from registry.search.answers import CACHED, AnswerCache
from registry.search.counts.refresh import refresh_all
from registry.search.documents import PACKAGES
from registry.search.index import SearchIndex
from registry.search.indexing import retry_failures
from registry.search.rebuild import rebuild, rollback
from registry.search.reconcile import reconcile
from registry.search.request import SearchRequest
from registry.search.search import Searcher
from registry.search.visible import CHANNEL
from registry.setting_parts import SearchSettings
from tests.client import Answer, Registry
from tests.conftest import MakeRegistry
from tests.search.conftest import Shelf


class Cached:
    """A process that caches answers. Its clock stands still, so that they don't expire."""

    def __init__(self, shelf: Shelf, index: SearchIndex, announcements: Announcements) -> None:
        self.announcements = announcements
        self._answers = AnswerCache(announcements, clock=lambda: 0.0)
        self._searcher = Searcher(shelf.db, index, announcements, self._answers)

    async def names(self, q: str, **params: object) -> list[str]:
        """The names that a search finds. It is sent twice, so that its answer is in the cache afterwards."""
        request = SearchRequest.parse([("q", q), *((name, str(value)) for name, value in params.items())])
        await self._searcher.body(request)
        return [each["name"] for each in (await self._searcher.page(request))["results"]]

    async def close(self) -> None:
        await self._answers.aclose()


@pytest.fixture
async def cached(shelf: Shelf, announcements: Announcements) -> AsyncIterator[Cached]:
    process = Cached(shelf, shelf.index, announcements)
    yield process
    await process.close()


def hits() -> float:
    return REGISTRY.get_sample_value("registry_search_answers_total", {"source": CACHED}) or 0.0


async def from_cache(registry: Registry, path: str) -> Answer:
    """The answer to a request that is repeated until its answer comes from the cache."""
    async with asyncio.timeout(30):
        while True:
            before = hits()
            answer = await registry.get(path)
            if hits() > before:
                return answer


async def remove_by_hand(own: SearchSettings, shelf: Shelf, name: str) -> None:
    """Deletes the document of a package without an announcement."""
    async with AsyncElasticsearch(own.url) as client:
        await client.delete(index=shelf.index.alias(PACKAGES), id=name, refresh=True)


async def test_every_kind_of_event_is_found_at_once(shelf: Shelf, cached: Cached) -> None:
    assert await cached.names("lamp") == []
    await shelf.publish("lamp")
    await shelf.drain()
    assert await cached.names("lamp") == ["lamp"]
    await shelf.publish("lamp", "2.0.0", description="A lantern")
    await shelf.drain()
    assert await cached.names("lantern") == ["lamp"]
    await shelf.quarantine("lamp", "malware")
    await shelf.drain()
    assert await cached.names("lamp") == []
    await shelf.quarantine("lamp", None)
    await shelf.drain()
    assert await cached.names("lamp") == ["lamp"]
    await shelf.delete("lamp", "1.0.0")
    await shelf.delete("lamp", "2.0.0")
    await shelf.drain()
    assert await cached.names("lamp") == []


async def test_a_change_of_counts_changes_the_order_at_once(shelf: Shelf, cached: Cached) -> None:
    for name, downloads in (("lamp-one", 10), ("lamp-two", 5)):
        await shelf.publish(name, downloads=downloads)
    await shelf.drain()
    assert await cached.names("lamp", sort="downloads") == ["lamp-one", "lamp-two"]
    await shelf.downloaded("lamp-two", 900)
    await refresh_all(shelf.db, shelf.index)
    assert await cached.names("lamp", sort="downloads") == ["lamp-two", "lamp-one"]


async def test_repairs_are_found_at_once(shelf: Shelf, cached: Cached, own: SearchSettings) -> None:
    await shelf.publish("lamp")
    await shelf.drain()
    await remove_by_hand(own, shelf, "lamp")
    assert await cached.names("lamp") == []
    await reconcile(shelf.db, shelf.index, shelf.drain)
    assert await cached.names("lamp") == ["lamp"]


async def test_documents_that_are_written_again_are_found_at_once(
    shelf: Shelf, cached: Cached, own: SearchSettings
) -> None:
    seq = await shelf.publish("lamp")
    await shelf.drain()
    await remove_by_hand(own, shelf, "lamp")
    refused: dict[str, object] = {"document": f"{PACKAGES}:lamp", "package": "lamp", "seq": seq, "reason": "a test"}
    async with shelf.db.transaction() as conn:
        await store.save_outcome(conn, succeeded=[], failed=[refused])
    await shelf.publish("other")  # the version of the deleted document is taken
    assert await cached.names("lamp") == []
    await retry_failures(shelf.db, shelf.index)
    assert await cached.names("lamp") == ["lamp"]


async def test_a_rebuild_and_a_rollback_are_found_at_once(shelf: Shelf, cached: Cached, own: SearchSettings) -> None:
    await shelf.publish("lamp")
    await shelf.drain()
    await remove_by_hand(own, shelf, "lamp")
    assert await cached.names("lamp") == []
    await rebuild(shelf.db, shelf.index)
    assert await cached.names("lamp") == ["lamp"]
    await remove_by_hand(own, shelf, "lamp")
    await rebuild(shelf.db, shelf.index)
    assert await cached.names("lamp") == ["lamp"]
    await rollback(shelf.db, shelf.index)
    assert await cached.names("lamp") == []


async def test_min_seq_does_not_depend_on_the_announcement(shelf: Shelf, cached: Cached) -> None:
    assert await cached.names("lamp") == []
    cached.announcements._subscriptions[CHANNEL].clear()  # the announcement is still on its way
    seq = await shelf.publish("lamp")
    await shelf.drain()
    assert await cached.names("lamp") == []
    cached.announcements._subscriptions[PROGRESS].clear()
    later = await shelf.publish("lamp-two")
    await shelf.drain()
    assert "lamp-two" in await cached.names("lamp", min_seq=later)
    assert seq < later


async def test_answers_of_postgresql_are_not_cached(
    shelf: Shelf, away: SearchIndex, announcements: Announcements
) -> None:
    process = Cached(shelf, away, announcements)
    assert await process.names("lamp") == []
    await shelf.publish("lamp")
    assert await process.names("lamp") == ["lamp"]


async def test_a_cached_answer_is_the_same_text_except_for_its_time(registry: Registry) -> None:
    ada = await registry.user()
    for number in range(3):
        await ada.publish(f"lamp-{number}", description='Quotes "took_ms":0, and < signs', keywords=["light"])
    await registry.drain()
    for query in ("q=lamp", "q=lamp&facets=true", "q=lampp", "q=lamp&sort=name&limit=2", "q=lamp&versions=all"):
        asked = await registry.get(f"/search?{query}")
        reused = await from_cache(registry, f"/search?{query}")
        assert list(asked.json) == list(reused.json)
        assert {**asked.json, "took_ms": 0} == {**reused.json, "took_ms": 0}
        assert asked.json["packages"] == asked.json["results"]
        assert asked.headers["Content-Type"] == reused.headers["Content-Type"] == "application/json; charset=utf-8"
    asked = await registry.get("/search/suggest?q=lam")
    reused = await from_cache(registry, "/search/suggest?q=lam")
    assert asked.json == reused.json == {"suggestions": ["lamp-0", "lamp-1", "lamp-2"], "query": "lam"}


async def test_all_processes_find_what_one_of_them_indexed(make_registry: MakeRegistry) -> None:
    first, second = await make_registry(), await make_registry(with_background=False)
    ada = await first.user()
    names: list[str] = []
    for number in range(5):
        for each in (first, second):
            assert sorted(json.loads((await each.get("/search/suggest?q=lamp")).body)["suggestions"]) == names
            assert (await each.get("/search?q=lamp")).json["total"] == len(names)
        names.append(f"lamp-{number}")
        seq = (await ada.publish(names[-1]))["seq"]
        assert (await second.get(f"/search?q=lamp&min_seq={seq}")).json["total"] == len(names)
        assert (await second.get("/search?q=lamp")).json["total"] == len(names)


async def test_a_restricted_token_gets_no_answer_of_others(make_registry: MakeRegistry) -> None:
    registry = await make_registry(REGISTRY_ACCESS="private")
    ada = await registry.user()
    for name in ("lamp", "lantern"):
        await ada.publish(name, description="A light")
    await registry.drain()
    made = await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["read"], "packages": ["lamp"]})
    assert made.status == 201, made.body
    bound = {"Authorization": f"Bearer {made.json['token']}"}
    for _ in range(2):
        assert (await ada.call("GET", "/search?q=light")).json["total"] == 2
        found = await registry.get("/search?q=light", headers=bound)
        assert [each["name"] for each in found.json["results"]] == ["lamp"], found.body
