"""Ranking of queries in many languages, of compounds and of common words, with a real Elasticsearch.

Every query of the table in words/queries.py is a test.
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.postgres import Postgres
from registry.settings import Settings
from tests.search.conftest import Shelf, opened, shared_registry
from tests.search.words.corpus import PACKAGES
from tests.search.words.queries import PLAIN, QUERIES, Query

# An explicit order leaves out weak matches, for example those in a README.
SORTED = [query for query in QUERIES if query.top and not query.params and query not in PLAIN]


@pytest.fixture(scope="module")
def filled(postgres: Postgres, elasticsearch: Elasticsearch) -> Iterator[Settings]:
    with shared_registry(postgres, elasticsearch, PACKAGES) as settings:
        yield settings


@pytest.fixture
async def library(filled: Settings) -> AsyncIterator[Shelf]:
    async with opened(filled) as shelf:
        yield shelf


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.label)
async def test_a_query_finds_its_packages_first(library: Shelf, query: Query) -> None:
    names = await library.names(query.q, **query.params)
    assert query.top <= set(names[:3])
    assert not query.first or names[0] == query.first
    assert not query.absent & set(names)


@pytest.mark.parametrize(
    "query", [q for q in QUERIES if q.top and not q.params and q not in PLAIN], ids=lambda query: query.label
)
async def test_an_order_by_downloads_finds_the_same_packages(library: Shelf, query: Query) -> None:
    names = await library.names(query.q, sort="downloads", limit=100)
    assert query.top <= set(names)
    assert not query.absent & set(names)
