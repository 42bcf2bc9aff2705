"""Ranking with a real Elasticsearch. Some tests are named after complaints of users of other registries."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.postgres import Postgres
from registry.settings import Settings
from tests.search.conftest import Shelf, opened, shared_registry

LIBRARIES: list[dict[str, Any]] = [
    {"name": "requests", "description": "Python HTTP for humans", "downloads": 900_000, "keywords": ["http"]},
    {"name": "http-client", "description": "A small HTTP client", "downloads": 40, "keywords": ["http", "client"]},
    {"name": "http-client-tls", "description": "TLS for the HTTP client", "downloads": 2_000},
    {"name": "httpx", "description": "The next generation HTTP client", "downloads": 500_000, "keywords": ["http"]},
    {"name": "left-http", "description": "An HTTP client nobody uses", "downloads": 3},
    {"name": "flask", "description": "A micro web framework", "downloads": 800_000, "author": "Armin Ronacher"},
    {"name": "flask-ci", "description": "flask for continuous integration, flask flask", "downloads": 950_000},
    {"name": "serde_json", "description": "Serialise data", "downloads": 100_000},
    {"name": "synapse-algorithms", "description": "Sorting and searching", "downloads": 10},
    {"name": "sorting-networks", "description": "Networks that sort", "downloads": 100, "license": "MIT"},
    {"name": "numpy", "description": "Numerical arrays", "downloads": 700_000, "keywords": ["science", "ML"]},
    {"name": "cpp-tools", "description": "Bindings for C++ and C#", "downloads": 5},
    {"name": "sqlalchemy", "description": "Object relational mapper and SQL toolkit", "downloads": 600_000},
]


@pytest.fixture(scope="module")
def filled(postgres: Postgres, elasticsearch: Elasticsearch) -> Iterator[Settings]:
    with shared_registry(postgres, elasticsearch, LIBRARIES) as settings:
        yield settings


@pytest.fixture
async def libraries(filled: Settings) -> AsyncIterator[Shelf]:
    async with opened(filled) as shelf:
        yield shelf


async def publish_libraries(shelf: Shelf) -> None:
    for library in LIBRARIES:
        await shelf.publish(**library)
    await shelf.drain()


async def test_pypi_warehouse_10718_the_exact_name_is_first(libraries: Shelf) -> None:
    page = await libraries.find("flask")
    assert [r["name"] for r in page["results"]][:2] == ["flask", "flask-ci"]
    assert page["results"][0]["score"] == 1.0
    assert page["results"][1]["score"] < 0.9


async def test_pypi_warehouse_4849_the_abandoned_package_is_not_on_top(libraries: Shelf) -> None:
    names = await libraries.names("http client nobody")
    assert names[0] == "left-http"
    names = await libraries.names("HTTP clients")
    assert names.index("httpx") < names.index("left-http")


async def test_crates_5222_the_popular_answer_to_a_topic_is_there(libraries: Shelf) -> None:
    assert "requests" in await libraries.names("http")
    assert (await libraries.names("web framework"))[0] == "flask"


@pytest.mark.parametrize("q", ["serde-json", "serde_json", "serde json", "SerdeJson", "serdejson", "SERDE.JSON"])
async def test_crates_1065_separators_and_capitals_do_not_matter(libraries: Shelf, q: str) -> None:
    page = await libraries.find(q)
    assert page["results"][0]["name"] == "serde_json"
    assert page["results"][0]["score"] >= 0.9
    assert (page["results"][0]["score"] == 1.0) == (q == "serde_json")


@pytest.mark.parametrize("q", ["sqlalch", "synapse-alg", "algorithm", "algor", "Synapse Algo"])
async def test_rubygems_1662_half_typed_names_are_found(libraries: Shelf, q: str) -> None:
    assert (await libraries.names(q))[0] == {"sqlalch": "sqlalchemy"}.get(q, "synapse-algorithms")


@pytest.mark.parametrize("q", ["reqeustss", "sqlalchmeey", "numercal arays"])
async def test_two_wrong_letters_are_forgiven_when_nothing_else_is_found(libraries: Shelf, q: str) -> None:
    assert (await libraries.names(q))[0] == {"r": "requests", "s": "sqlalchemy", "n": "numpy"}[q[0]]


async def test_the_most_popular_name_with_the_typed_prefix_is_first(shelf: Shelf) -> None:
    await shelf.publish("libnl-dev", description="Development files for libnl, with libnl headers", downloads=900)
    await shelf.publish("libnl-route", description="Netlink sockets", downloads=50_000)
    await shelf.publish("sniffer", description="Uses libnl", downloads=900_000)
    await shelf.drain()
    assert await shelf.names("libnl") == ["libnl-route", "libnl-dev", "sniffer"]


async def test_names_with_the_typed_separator_are_first(shelf: Shelf) -> None:
    await shelf.publish("medcon", downloads=100)
    await shelf.publish("med-config", downloads=200)
    await shelf.drain()
    assert (await shelf.names("med-con"))[0] == "med-config"
    assert (await shelf.names("medcon"))[0] == "medcon"


async def test_a_package_nobody_downloaded_yet_is_not_buried(shelf: Shelf) -> None:
    await shelf.publish("fresh-start", description="Reads tide tables")
    await shelf.publish("favourite", description="Reads everything, sometimes tables", downloads=900_000)
    await shelf.drain()
    assert (await shelf.names("tide tables"))[0] == "fresh-start"


async def test_pypi_warehouse_19136_a_new_package_is_found_at_once(shelf: Shelf) -> None:
    await publish_libraries(shelf)
    await shelf.publish("http-brand-new", description="An HTTP client of today")
    await shelf.drain()
    assert (await shelf.names("http-brand-new"))[0] == "http-brand-new"
    assert "http-brand-new" in await shelf.names("http client")
    assert (await shelf.names("http", sort="recently-created"))[0] == "http-brand-new"


async def test_nugetgallery_7375_a_word_that_is_a_name_does_not_come_first(libraries: Shelf) -> None:
    assert (await libraries.names("flask continuous integration"))[0] == "flask-ci"


@pytest.mark.parametrize("sort", ["downloads", "name", "recently-updated", "recently-created"])
async def test_crates_649_an_explicit_sort_pins_nothing(libraries: Shelf, sort: str) -> None:
    page = await libraries.find("http-client", sort=sort)
    found = [r["name"] for r in page["results"]]
    keys = {
        "downloads": lambda r: (-r["downloads"], r["name"]),
        "name": lambda r: r["name"],
    }
    assert {"http-client", "http-client-tls", "httpx"} <= set(found)
    assert "numpy" not in found
    if sort in keys:
        assert page["results"] == sorted(page["results"], key=keys[sort])
    else:
        assert [r["updated_at"] for r in page["results"]] == sorted(
            (r["updated_at"] for r in page["results"]), reverse=True
        )
    assert next(r["score"] for r in page["results"] if r["name"] == "http-client") == 1.0


async def test_libraries_io_3440_deep_pages_answer(libraries: Shelf) -> None:
    page = await libraries.find("http", offset=9_980)
    assert page["results"] == []
    assert page["total"] >= 4
    assert not page["degraded"]


async def test_words_of_author_keyword_and_description_find(libraries: Shelf) -> None:
    assert await libraries.names("ronacher") == ["flask"]
    assert "numpy" in await libraries.names("science")
    assert (await libraries.names("numerical"))[0] == "numpy"


async def test_synonyms_bridge_vocabularies(libraries: Shelf) -> None:
    assert (await libraries.names("orm"))[0] == "sqlalchemy"


async def test_optional_words_need_not_occur(libraries: Shelf) -> None:
    assert (await libraries.names("python numerical library"))[0] == "numpy"


async def test_language_names_with_symbols_are_found(libraries: Shelf) -> None:
    assert "cpp-tools" in await libraries.names("c++")
    assert "cpp-tools" in await libraries.names("C#")


@pytest.mark.parametrize("q", ["requsets", "sqlalchmey", "reqests", "nunpy"])
async def test_one_typo_finds_and_suggests(libraries: Shelf, q: str) -> None:
    page = await libraries.find(q)
    meant = {"sqlalchmey": "sqlalchemy", "nunpy": "numpy"}.get(q, "requests")
    assert page["results"][0]["name"] == meant
    assert page["suggestion"] == meant


async def test_a_suggestion_keeps_the_rest_of_the_query(libraries: Shelf) -> None:
    assert (await libraries.find("𠮷 numrical"))["suggestion"] == "𠮷 numerical"
    assert (await libraries.find("numrical keyword:science"))["suggestion"] == "numerical keyword:science"


@pytest.mark.parametrize("q", ["requests", "http client", "reque", "*", "zzzzqqqq", "author:ada"])
async def test_no_spelling_is_suggested_for_a_known_or_a_completely_unknown_word(libraries: Shelf, q: str) -> None:
    assert "suggestion" not in await libraries.find(q)


@pytest.mark.parametrize(
    "q",
    ["*", "?", "(", "[a TO b]", "a AND", "name:*", "\\", "/.*/", "!", "^5", "~", "{", "a && b || !c", "<script>", "%"],
)
async def test_no_character_is_an_operator(libraries: Shelf, q: str) -> None:
    page = await libraries.find(q)
    assert not page["degraded"]
    if not any(character.isalnum() for character in q):
        assert page["total"] == 0


@pytest.mark.parametrize(
    "q", ["x " * 256, "abcdefgh" * 64, "a-b " * 128, "a1" * 256, "é" * 512, '"a" ' * 128, "-x " * 170, "author:a " * 56]
)
async def test_the_longest_queries_are_answered(libraries: Shelf, q: str) -> None:
    assert not (await libraries.find(q[:512]))["degraded"]


async def test_filters(libraries: Shelf) -> None:
    assert await libraries.names("author:armin") == ["flask"]
    assert await libraries.names("web", author="armin ronacher") == ["flask"]
    assert await libraries.names("license:mit") == ["sorting-networks"]
    assert await libraries.names("arrays", keyword=["ml", "Science"]) == ["numpy"]
    assert await libraries.names("arrays", keyword=["ml", "http"]) == []
    assert set(await libraries.names("name:http")) == {"http-client", "http-client-tls", "httpx", "left-http"}
    assert "http-client-tls" not in await libraries.names("http client -tls")
    assert set(await libraries.names('"generation http client"')) == {"httpx"}
    assert "requests" not in await libraries.names("http -keyword:http")


async def test_facets_count_the_results(libraries: Shelf) -> None:
    facets = (await libraries.find("http", facets="true"))["facets"]
    assert facets["keyword"][0] == {"value": "http", "count": 3}
    assert set(facets) == {"author", "license", "keyword"}


async def test_each_word_of_a_synonym_is_marked(shelf: Shelf) -> None:
    await shelf.publish("typed", description="Menus for the command line")
    await shelf.drain()
    (result,) = (await shelf.find("cli"))["results"]
    assert result["highlight"]["description"] == "Menus for the <em>command</em> <em>line</em>"


async def test_highlights_are_safe_html(shelf: Shelf) -> None:
    await shelf.publish("marked", description="<b>fast</b> parser & more")
    await shelf.drain()
    (result,) = (await shelf.find("parsers"))["results"]
    assert result["highlight"]["description"].count("<em>parser</em>") == 1
    assert "<b>" not in result["highlight"]["description"]
    assert result["highlight"]["name"] == "marked"


async def test_a_deprecated_package_ranks_lower_even_for_its_exact_name(shelf: Shelf) -> None:
    await publish_libraries(shelf)
    await shelf.deprecate("flask")
    await shelf.drain()
    page = await shelf.find("flask")
    assert [r["name"] for r in page["results"]][:2] == ["flask-ci", "flask"]
    assert page["results"][1]["score"] < 0.9


async def test_stuffing_keywords_and_repeating_words_gain_nothing(shelf: Shelf) -> None:
    await shelf.publish("honest", description="A parser for dates", keywords=["parser", "dates"])
    await shelf.publish(
        "stuffed", description="parser " * 50, keywords=["parser"] * 30 + [f"parser dates {i}" for i in range(40)]
    )
    await shelf.drain()
    assert (await shelf.names("dates parser"))[0] == "honest"


async def test_prereleases_can_be_left_out(shelf: Shelf) -> None:
    await shelf.publish("early", "1.0.0-beta.1")
    await shelf.publish("stable", "1.0.0")
    await shelf.drain()
    assert set(await shelf.names("package")) == {"early", "stable"}
    assert await shelf.names("package", prerelease="false") == ["stable"]


async def test_scores_descend_with_the_order(libraries: Shelf) -> None:
    for q in ("http client", "flask", "http-client", "sorting"):
        scores = [r["score"] for r in (await libraries.find(q))["results"]]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
