"""While Elasticsearch is unavailable, PostgreSQL may rank worse, but it must not find less."""

import pytest

from tests.search.conftest import Shelf
from tests.search.words.queries import QUERIES, Query


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
