"""Explains why a package has its position in the results, or why it is missing."""

from typing import Any

import pytest

from registry.errors import InvalidInput, SearchUnavailable
from registry.search.explain import explain
from registry.search.index import SearchIndex
from registry.search.request import SearchRequest, parse_explain
from tests.client import Registry
from tests.search.conftest import Shelf


@pytest.fixture
async def stocked(shelf: Shelf) -> Shelf:
    await shelf.publish("http-client", description="A small HTTP client", downloads=40, license="MIT", author="Ada")
    await shelf.publish("httpx", description="The next generation HTTP client", downloads=500_000)
    await shelf.publish("requests", description="HTTP for humans", downloads=900_000, keywords=["http"])
    await shelf.publish("old-http", description="An HTTP client of old", downloads=700_000)
    await shelf.deprecate("old-http")
    await shelf.publish("pulled", description="An HTTP client")
    await shelf.yank("pulled", "1.0.0")
    await shelf.publish("gone", description="An HTTP client")
    await shelf.delete("gone", "1.0.0")
    await shelf.publish("sqlalchemy", description="Object relational mapper")
    await shelf.drain()
    return shelf


async def told(shelf: Shelf, q: str, name: str, **filters: str) -> Any:
    return await explain(shelf.db, shelf.index, SearchRequest.parse([("q", q), *filters.items()]), name)


@pytest.mark.parametrize(
    "q", ["http client", "http", "htpx", "http -old", "license:mit", "keyword:http", "sqlalchmeey"]
)
async def test_every_result_is_explained_with_its_position_rank_and_score(stocked: Shelf, q: str) -> None:
    results = (await stocked.find(q))["results"]
    assert results
    for position, result in enumerate(results, 1):
        found = await told(stocked, q, result["name"])
        assert (found["found"], found["reason"]) == (True, "found")
        assert found["position"] == position
        assert found["score"] == result["score"]


@pytest.mark.parametrize("q", ["birds", "keyword:birds"])
async def test_equal_scores_have_the_positions_of_the_results(shelf: Shelf, q: str) -> None:
    for name, downloads in (("owl", 0), ("crow", 2), ("wren", 0), ("kiwi", 2), ("duck", 9)):
        await shelf.publish(name, description="Counts birds", keywords=["birds"])
        await shelf.downloaded(name, downloads)
        await shelf.clients(name, 1)
    await shelf.drain()
    assert await shelf.names(q) == ["duck", "crow", "kiwi", "owl", "wren"]
    positions = [(await told(shelf, q, name))["position"] for name in await shelf.names(q)]
    assert positions == [1, 2, 3, 4, 5]


async def test_evidence_factors_and_demotion_give_the_rank(stocked: Shelf) -> None:
    for name in ("httpx", "http-client", "old-http", "requests"):
        found = await told(stocked, "http client humans", name)
        worths = [sum(part["worth"] for part in kind["parts"]) for kind in found["evidence"]]
        evidence = max(worths) + 0.2 * (sum(worths) - max(worths))
        factor = 1 + sum(part["worth"] for part in found["factors"])
        assert found["rank"] == pytest.approx(evidence * factor * found["demotion"], rel=0.01)


async def test_tiers_and_demotions_are_named(stocked: Shelf) -> None:
    assert (await told(stocked, "http client", "http-client"))["tier"] == "exact"
    assert (await told(stocked, "HttpClient", "http-client"))["tier"] == "compact"
    assert (await told(stocked, "http", "httpx"))["tier"] == "text"
    old = await told(stocked, "old-http", "old-http")
    assert (old["tier"], old["demotion"]) == ("text", 0.4)
    assert "deprecated" in old["explanation"]


@pytest.mark.parametrize(
    ("q", "name", "reason", "unmatched"),
    [
        ("http", "never-was", "unknown", []),
        ("http", "Not/A Name", "unknown", []),
        ("http", "gone", "deleted", []),
        ("http", "pulled", "yanked", []),
        ("http license:MIT", "httpx", "filtered", ["license:MIT"]),
        ("http -generation", "requests", "found", []),
        ("client -license:mit", "http-client", "filtered", ["-license:mit"]),
        ('"humans first"', "requests", "filtered", ['"humans first"']),
        ("http zebra quagga", "requests", "no_match", ["zebra", "quagga"]),
        ("*", "requests", "no_match", []),
    ],
)
async def test_the_reason_why_a_package_is_missing_is_reported(
    stocked: Shelf, q: str, name: str, reason: str, unmatched: list[str]
) -> None:
    found = await told(stocked, q, name)
    assert (found["reason"], found["unmatched"]) == (reason, unmatched)
    assert found["found"] == (reason == "found")
    assert found["explanation"].endswith(".")
    assert (found["position"] is None) == (reason != "found")


async def test_filters_given_as_parameters_are_explained(stocked: Shelf) -> None:
    await stocked.publish("early-http", "1.0.0-rc.1", description="HTTP")
    await stocked.drain()
    assert (await told(stocked, "http", "early-http", prerelease="false"))["unmatched"] == ["prerelease=false"]
    assert (await told(stocked, "http", "httpx", author="grace"))["unmatched"] == ["author=grace"]


async def test_a_package_that_is_not_indexed_yet_is_reported(stocked: Shelf) -> None:
    await stocked.publish("brand-new", description="HTTP")
    assert (await told(stocked, "http", "brand-new"))["reason"] == "not_indexed"


async def test_names_ignore_case_and_separators(stocked: Shelf) -> None:
    assert (await told(stocked, "http", "HTTP_Client"))["name"] == "http-client"


async def test_explain_fails_without_elasticsearch(stocked: Shelf, away: SearchIndex) -> None:
    with pytest.raises(SearchUnavailable):
        await explain(stocked.db, away, SearchRequest.parse([("q", "http")]), "httpx")


@pytest.mark.parametrize(
    ("params", "wrong"),
    [
        ([], {"q", "name"}),
        ([("q", "x")], {"name"}),
        ([("q", "x"), ("name", " ")], {"name"}),
        ([("q", "x"), ("name", "a\0b")], {"name"}),
        ([("q", ""), ("name", "a"), ("prerelease", "maybe")], {"q", "prerelease"}),
    ],
)
def test_every_wrong_parameter_is_named(params: list[tuple[str, str]], wrong: set[str]) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_explain(params)
    assert {error["field"] for error in raised.value.errors} == wrong


async def test_explain_works_over_http(registry: Registry) -> None:
    ada = await registry.user()
    await ada.publish("hello-world", description="Says hello")
    await registry.drain()
    answer = await registry.get("/search/explain", params={"q": "hello", "name": "hello-world"})
    assert answer.status == 200
    assert answer.json["position"] == 1
    assert (await registry.get("/search/explain", params={"q": "hello"})).status == 400
