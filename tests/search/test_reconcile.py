"""Finds and repairs differences between the search indices and PostgreSQL."""

from functools import partial
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch
from prometheus_client import REGISTRY

from registry.errors import SearchUnavailable
from registry.search import reconcile as reconciling
from registry.search.documents import PACKAGES, VERSIONS
from registry.search.index import SearchIndex
from registry.setting_parts import SearchSettings
from tests.search.conftest import Shelf

EQUAL = {f"{kind} {what}": 0 for kind in (PACKAGES, VERSIONS) for what in reconciling.DIFFERENT}
EQUAL["unrepaired"] = 0


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciling, "PAGE", 2)


async def do_not_wait() -> None:
    return


reconcile = partial(reconciling.reconcile, settle=do_not_wait)


@pytest.fixture
async def stocked(shelf: Shelf) -> Shelf:
    for number in range(5):
        await shelf.publish(f"package-{number}", downloads=number * 100, keywords=["kept"])
        await shelf.publish(f"package-{number}", "1.1.0-rc.1")
    await shelf.delete("package-4", "1.1.0-rc.1")
    await shelf.drain()
    return shelf


async def change(own: SearchSettings, shelf: Shelf, kind: str, id_: str, document: dict[str, Any] | None) -> None:
    """Adds, changes or deletes a document without the consumer."""
    index = shelf.index.alias(kind)
    async with AsyncElasticsearch(own.url) as client:
        if document is None:
            await client.delete(index=index, id=id_, refresh=True)
        else:
            await client.update(index=index, id=id_, doc=document, doc_as_upsert=True, refresh=True)


async def test_equal_indices_are_not_changed(stocked: Shelf) -> None:
    assert await reconcile(stocked.db, stocked.index) == EQUAL


async def test_missing_outdated_and_surplus_documents_are_repaired(stocked: Shelf, own: SearchSettings) -> None:
    await change(own, stocked, PACKAGES, "package-0", None)
    await change(own, stocked, VERSIONS, "package-3@1.1.0-rc.1", None)
    await change(own, stocked, PACKAGES, "package-2", {"description": "forged"})
    ghost = {"name": "ghost", "version": "1.0.0", "sort_key": "~", "description": "boo", "yanked": False}
    await change(own, stocked, PACKAGES, "ghost", ghost)
    await change(own, stocked, VERSIONS, "ghost@1.0.0", ghost)
    before = REGISTRY.get_sample_value("registry_index_differences_total", {"index": PACKAGES, "difference": "surplus"})
    assert await reconcile(stocked.db, stocked.index) == {
        **EQUAL,
        "packages missing": 1,
        "packages outdated": 1,
        "packages surplus": 1,
        "versions missing": 1,
        "versions surplus": 1,
    }
    after = REGISTRY.get_sample_value("registry_index_differences_total", {"index": PACKAGES, "difference": "surplus"})
    assert after == (before or 0) + 1
    await stocked.index.refresh()
    assert await reconcile(stocked.db, stocked.index) == EQUAL
    assert await stocked.names("ghost") == []
    assert sorted(await stocked.names("kept")) == [f"package-{number}" for number in range(5)]


async def test_only_large_differences_of_counts_are_repaired(stocked: Shelf) -> None:
    await stocked.downloaded("package-3", 301)
    assert await reconcile(stocked.db, stocked.index) == EQUAL
    await stocked.downloaded("package-2", 90_000)
    assert (await reconcile(stocked.db, stocked.index))["packages drifted"] == 1


async def test_changes_that_the_consumer_has_not_handled_are_no_differences(stocked: Shelf) -> None:
    await stocked.publish("late")
    await stocked.delete("package-1", "1.0.0")
    assert await reconcile(stocked.db, stocked.index, settle=stocked.drain) == EQUAL
    assert await stocked.names("late") == ["late"]


async def test_reconcile_fails_without_elasticsearch(stocked: Shelf, away: SearchIndex) -> None:
    with pytest.raises(SearchUnavailable):
        await reconcile(stocked.db, away)
