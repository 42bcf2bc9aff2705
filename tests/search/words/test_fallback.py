"""While Elasticsearch is unavailable, PostgreSQL may rank worse, but it must not find less."""

import pytest

from tests.search.conftest import Shelf
from tests.search.words.queries import PLAIN, QUERIES, Query

# An explicit order leaves out weak matches, for example those with a typing error.
SORTED = [query for query in QUERIES if query.top and not query.params and query not in PLAIN]


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
async def test_postgresql_finds_the_same_in_the_order_of_downloads(fallback: Shelf, query: Query) -> None:
    page = await fallback.find(query.q, sort="downloads", limit=100)
    names = {result["name"] for result in page["results"]}
    assert query.top <= names
    assert not query.absent & names
