"""Ranking of queries in many languages, of compounds and of common words, with a real Elasticsearch.

Every query of the table in words/queries.py is a test.
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.postgres import Postgres
from registry.search.explain import explain
from registry.search.request import SearchRequest
from registry.settings import Settings
from tests.search.conftest import Shelf, opened, shared_registry
from tests.search.words.corpus import PACKAGES, nfd
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


async def test_results_show_texts_as_published(library: Shelf) -> None:
    page = await library.find("météo france", limit=1)
    [result] = page["results"]
    assert result["name"] == "storm-watch"
    assert result["description"] == nfd("Prévisions météo pour la France")
    assert result["keywords"] == [nfd("météo")]
    assert result["author"] == nfd("Zoë Müller")
    marked = f"<em>{nfd('météo')}</em>"
    assert result["highlight"]["description"] == f"{nfd('Prévisions')} {marked} pour la <em>France</em>"


@pytest.mark.parametrize("author", ["Zoë Müller", nfd("Zoë Müller")], ids=["composed", "decomposed"])
async def test_two_forms_of_an_author_are_one_facet(library: Shelf, author: str) -> None:
    page = await library.find("prévisions", author=author, facets="true")
    assert page["facets"]["author"] == [{"value": "Zoë Müller", "count": 1}]
    assert page["total"] == 1


async def test_runs_are_marked_as_a_whole(library: Shelf) -> None:
    page = await library.find("网络请求")
    assert page["results"][0]["highlight"]["description"] == "高性能的<em>网络请求</em>库"


async def test_versions_are_found_by_runs(library: Shelf) -> None:
    assert (await library.names("网络请求", versions="all"))[0] == "swift-fetch"


async def test_names_are_completed_from_full_width_letters(library: Shelf) -> None:
    assert await library.suggestions("ｓｗｉｆｔ") == ["swift-fetch"]


async def test_the_evidence_of_runs_is_explained(library: Shelf) -> None:
    request = SearchRequest.parse([("q", "网络 请求库")])
    found = await explain(library.db, library.index, request, "swift-fetch")
    assert found["position"] == 1
    assert found["evidence"][0]["kind"] == "words in its texts"
    assert {part["part"] for part in found["evidence"][0]["parts"]} >= {"enough of the words", "every word"}
    missed = await explain(library.db, library.index, request, "net-graph")
    assert missed["unmatched"] == ["请求库"]


@pytest.mark.parametrize(
    "q",
    ["a\u0336", "“not”", "网" * 512, "网a" * 256, "网 " * 256, "\ufdfa" * 512, "ก็" * 256, "é a " * 128, "c++" * 170],
)
async def test_strange_and_long_queries_are_answered(library: Shelf, q: str) -> None:
    for sort in ("relevance", "downloads"):
        assert not (await library.find(q[:512], sort=sort))["degraded"]
