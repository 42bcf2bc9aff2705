"""The pages of the search."""

import pytest

from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.pages.visitor import Visitor


@pytest.fixture
async def filled(registry: Registry) -> Registry:
    ada = await registry.user("ada")
    texts = {
        "mint-http": ("Small HTTP client with retries", "MIT", ["http", "client"]),
        "http-core": ("The engine below most clients", "Apache-2.0", ["http"]),
        "quiet-fetch": ("A client for flaky <b>networks</b>", "MIT", ["http", "offline"]),
    }
    for name, (description, license_, keywords) in texts.items():
        await ada.publish(name, description=description, license=license_, keywords=keywords, author="Ada & Co")
    await ada.publish("tidewater", description="Tide tables")
    await registry.drain()
    return registry


async def test_results_show_what_matched_and_what_helps_to_choose(filled: Registry):
    await (await filled.user("ada")).call("PATCH", "/packages/http-core", json={"deprecated": "Use <i>mint-http</i>"})
    await filled.drain()
    async with Visitor(filled.url) as visitor:
        page = await visitor.get("/search?q=http client")
        assert page.texts(".result h2 a") == ["mint-http", "quiet-fetch", "http-core"]
        assert "HTTP" in page.texts(".result mark")
        assert page.texts(".result")[0].startswith(
            "mint-http 1.0.0 Small HTTP client with retries MIT published just now"
        )
        assert "A client for flaky <b>networks</b>" in page.text
        assert "deprecated Use <i>mint-http</i>" in page.texts(".result")[2].replace(
            " The engine below most clients", ""
        )
        assert page.all(".result time")[0].get("title").endswith(" UTC")
        assert page.heading.startswith("3 packages for “http client”")


async def test_filters_are_links_that_add_and_remove(filled: Registry):
    async with Visitor(filled.url) as visitor:
        page = await visitor.get("/search?q=client")
        [mit] = [each for each in page.all(".filters a") if each.text_content() == "MIT2"]
        page = await visitor.get(mit.get("href"))
        assert set(page.texts(".result h2 a")) == {"mint-http", "quiet-fetch"}
        [chosen] = page.all(".chip-on")
        assert chosen.text_content().startswith("MIT")
        page = await visitor.get(chosen.get("href"))
        assert len(page.all(".result")) == 3
        page = await visitor.get(page.link("offline"))
        assert page.texts(".result h2 a") == ["quiet-fetch"]


async def test_the_order_is_a_form_that_keeps_the_filters(filled: Registry):
    async with Visitor(filled.url) as visitor:
        page = await visitor.get("/search?q=client&license=MIT")
        page = await visitor.send(page, "Sort", sort="name")
        assert page.texts(".result h2 a") == ["mint-http", "quiet-fetch"]
        assert page.all("option[selected]")[0].get("value") == "name"


async def test_pages_of_results_are_links(filled: Registry):
    async with Visitor(filled.url) as visitor:
        page = await visitor.get("/search?q=client&limit=2&sort=name")
        assert "Results 1 to 2 of 3" in page.text
        page = await visitor.get(page.link("Next page"))
        assert page.texts(".result h2 a") == ["quiet-fetch"]
        assert not [each for each in page.all("a") if each.text_content() == "Next page"]
        page = await visitor.get(page.link("Previous page"))
        assert page.texts(".result h2 a") == ["http-core", "mint-http"]


async def test_a_typing_error_is_met_with_a_suggestion(filled: Registry):
    async with Visitor(filled.url) as visitor:
        page = await visitor.get("/search?q=tidewter tables")
        page = await visitor.get(page.link("tidewater tables"))
        assert page.texts(".result h2 a")[0] == "tidewater"


async def test_nothing_found_says_what_to_do(filled: Registry):
    async with Visitor(filled.url) as visitor:
        page = await visitor.get("/search?q=xyzzyplugh")
        assert "Try fewer or other words." in page.text


async def test_no_query_explains_the_language(filled: Registry):
    async with Visitor(filled.url) as visitor:
        assert "license:MIT" in (await visitor.get("/search?q=+")).text


async def test_a_query_that_is_too_long_is_a_page_of_400(filled: Registry):
    async with Visitor(filled.url) as visitor:
        assert "at most 512 characters" in (await visitor.get("/search?q=" + "x" * 513, status=400)).text


async def test_why_a_result_is_where_it_is(filled: Registry):
    async with Visitor(filled.url) as visitor:
        page = await visitor.get("/search?q=http client")
        [why] = [each for each in page.all(".result")[0].cssselect("a") if each.text_content() == "Why this result?"]
        page = await visitor.get(why.get("href"))
        assert page.heading == "Why mint-http is at position 1"
        assert "Popularity" in page.texts("tbody th")
        assert " downloads, which count as " in page.text
        assert "weight of a day halves" in page.text
        page = await visitor.get("/search/explain?q=http&name=tidewater")
        assert "It matches too little of the query" in page.text


async def test_a_search_without_elasticsearch_says_so(make_registry: MakeRegistry):
    registry = await make_registry()
    await (await registry.user("ada")).publish("tidewater", description="Tide tables")
    away = await make_registry(REGISTRY_ES_URL="http://127.0.0.1:9", with_background=False)
    async with Visitor(away.url) as visitor:
        page = await visitor.get("/search?q=tide")
        assert page.texts(".result h2 a") == ["tidewater"]
        assert "The search engine is away." in page.text
        assert page.headers["Cache-Control"] == "no-store"


async def test_suggestions_of_the_box(filled: Registry):
    answer = await filled.call("GET", filled.url + "/search/suggest?q=ti")
    assert answer.json["suggestions"] == ["tidewater"]


async def test_a_result_says_when_its_latest_version_was_published(filled: Registry):
    """Neither the backport of an older version nor a yank changes that."""
    ada = await filled.user("ada")
    await ada.publish("tidewater", "0.9.0")
    await ada.call("PATCH", "/packages/tidewater/0.9.0", json={"yanked": True, "reason": "wrong"})
    await filled.drain()
    latest = (await filled.get("/packages/tidewater/1.0.0")).json["published_at"]
    for query in ("q=tidewater", "q=tidewater&versions=all&limit=1"):
        [found] = (await filled.get(f"/search?{query}")).json["results"]
        assert found["published_at"][:19] == latest[:19]
    async with Visitor(filled.url) as visitor:
        page = await visitor.get("/search?q=tidewater")
        assert page.all(".result time")[0].get("datetime")[:19] == latest[:19]
