"""While Elasticsearch is unavailable, PostgreSQL may rank worse, but it must not find less."""

import pytest

from tests.search.conftest import Shelf
from tests.search.words.queries import QUERIES, Query

# In an explicit order, both leave out weak matches, such as those in READMEs.
SORTED = [query for query in QUERIES if "sort" not in query.params]
BEGINNINGS = (
    "http", "client", "retry", "json", "serde json", "serdejson", "pdf m", "p", "-", "_", "m\u00e9teo", "HTTP",
    "\u7f51", "to-", "no such name",
)  # fmt: skip


async def _names(shelf: Shelf, query: Query, *, degraded: bool) -> list[str]:
    page = await shelf.find(query.q, **query.params)
    assert page["degraded"] is degraded
    return [result["name"] for result in page["results"]]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.label)
async def test_postgresql_finds(fallback: Shelf, query: Query) -> None:
    found = await _names(fallback, query, degraded=True)
    assert query.top <= set(found)
    assert not query.first or query.first in found
    assert not query.absent & set(found)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.label)
async def test_the_page_of_postgresql_has_the_first_three_of_elasticsearch(
    engine: Shelf, fallback: Shelf, query: Query
) -> None:
    best = (await _names(engine, query, degraded=False))[:3]
    assert set(best) <= set(await _names(fallback, query, degraded=True))


@pytest.mark.parametrize("query", SORTED, ids=lambda query: query.label)
async def test_postgresql_finds_exactly_the_same_in_an_explicit_order(
    engine: Shelf, fallback: Shelf, query: Query
) -> None:
    sorted_ = Query(query.q, params={**query.params, "sort": "downloads", "limit": "100"})
    assert await _names(fallback, sorted_, degraded=True) == await _names(engine, sorted_, degraded=False)


@pytest.mark.parametrize("q", ["mysql", "lossless round trips", "D", "R", "a", "name:p", "kit", "分布式事务"])
@pytest.mark.parametrize("versions", ["latest", "all"])
async def test_single_letters_and_readmes_match_alike(engine: Shelf, fallback: Shelf, q: str, versions: str) -> None:
    query = Query(q, params={"sort": "name", "limit": "100", "versions": versions})
    assert await _names(fallback, query, degraded=True) == await _names(engine, query, degraded=False)


async def test_names_are_completed_alike(engine: Shelf, fallback: Shelf) -> None:
    for q in BEGINNINGS:
        assert set(await fallback.suggestions(q)) == set(await engine.suggestions(q)), q
