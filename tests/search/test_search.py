"""Searches: pages, cursors, waiting for `min_seq`, and the answers of PostgreSQL without Elasticsearch."""

import asyncio
from typing import Any

import pytest

from registry.db.engine import Database
from registry.errors import SearchUnavailable
from registry.events.consumer import PROGRESS
from registry.search.breaker import SLOW_IN_A_ROW, Breaker
from registry.search.index import SearchIndex, open_search
from registry.settings import Settings
from tests.background import in_background
from tests.client import delete_search_indices
from tests.conftest import listening
from tests.search.conftest import Shelf
from tests.until import until

# The time after which a test fails because its code hangs. It is no limit for speed.
HANG_SECONDS = 60.0

PACKAGES: list[dict[str, Any]] = [
    {
        "name": "alpha-http",
        "description": "An HTTP client",
        "downloads": 50,
        "author": "Ada Lovelace",
        "license": "MIT",
    },
    {"name": "alpha-math", "description": "Sums and products", "downloads": 900, "keywords": ["ML", "sum"]},
    {"name": "beta_http", "description": "HTTP server", "downloads": 500, "author": "Grace", "license": "Apache-2.0"},
    {"name": "gamma", "description": "Rays, not 100% alpha_math", "downloads": 5, "author": "Marie"},
    {"name": "delta-early", "version": "1.0.0-rc.1", "description": "HTTP soon", "downloads": 7},
]


@pytest.fixture
async def stocked(shelf: Shelf) -> Shelf:
    for package in PACKAGES:
        await shelf.publish(**package)
    await shelf.drain()
    return shelf


@pytest.fixture(params=["index", "database"])
async def either(request: pytest.FixtureRequest, stocked: Shelf, away: SearchIndex) -> Shelf:
    """The same packages, searched with Elasticsearch or with PostgreSQL."""
    return stocked if request.param == "index" else Shelf(stocked.db, away)


async def found(shelf: Shelf, q: str, **params: Any) -> list[str]:
    return [result["name"] for result in (await shelf.find(q, **params))["results"]]


async def test_elasticsearch_and_postgresql_find_the_same(either: Shelf) -> None:
    assert (await found(either, "alpha-math"))[0] == "alpha-math"
    assert (await either.find("alpha-math"))["results"][0]["score"] == 1.0
    assert (await found(either, "Beta HTTP"))[0] == "beta_http"
    assert (await found(either, "alphama"))[0] == "alpha-math"
    assert set(await found(either, "http")) == {"alpha-http", "beta_http", "delta-early"}
    assert set(await found(either, "http", prerelease="false")) == {"alpha-http", "beta_http"}
    assert await found(either, "lovelace") == ["alpha-http"]
    assert await found(either, "author:ada") == ["alpha-http"]
    assert await found(either, "http", author=["grace", "ada"], sort="name") == ["alpha-http", "beta_http"]
    assert await found(either, "http", license="mit") == ["alpha-http"]
    assert await found(either, "license:apache-2.0") == ["beta_http"]
    assert await found(either, "keyword:ml keyword:SUM") == ["alpha-math"]
    assert await found(either, "sums", keyword=["ml", "other"]) == []
    assert await found(either, "name:http -author:grace", sort="name") == ["alpha-http"]
    assert await found(either, '"http client"') == ["alpha-http"]
    assert set(await found(either, "http -server")) == {"alpha-http", "delta-early"}
    assert await found(either, "http -keyword:x -license:mit", sort="downloads") == ["beta_http", "delta-early"]
    assert await found(either, "*") == []
    assert await found(either, "%") == []
    assert await found(either, "http", versions="all", sort="name") == ["alpha-http", "beta_http", "delta-early"]


async def test_elasticsearch_and_postgresql_show_a_deprecation_and_hide_a_quarantine(
    stocked: Shelf, either: Shelf
) -> None:
    await stocked.deprecate("alpha-http", "Take beta", "beta_http")
    await stocked.quarantine("delta-early", "malware")
    await stocked.drain()
    for params in ({}, {"versions": "all"}):
        results = (await either.find("http", sort="name", **params))["results"]
        assert [result["name"] for result in results] == ["alpha-http", "beta_http"]
        [old, other] = results
        assert (old["deprecated"], old["deprecation"]["message"]) == ("Take beta", "Take beta")
        assert old["deprecation"]["successor"] == "beta_http"
        assert (other["deprecated"], other["deprecation"]) == ("", None)
        assert {(result["yanked"], result["yank_reason"]) for result in results} == {(False, "")}


async def test_no_query_causes_an_error(either: Shelf) -> None:
    for q in ("\\", "'", '"', "a & b | !c", "<->", ":*", "_", "a\\", "-", "or or or", "é\u200b", "100%", "-a"):
        page = await either.find(q)
        assert page["degraded"] is either.index.is_away, q
        assert page["total"] >= len(page["results"]), q


@pytest.mark.parametrize("scope", ["latest", "all"])
async def test_cursors_visit_every_result_once(either: Shelf, scope: str) -> None:
    for sort in ("downloads", "recently-updated", "recently-created", "name"):
        wanted = {"sort": sort, "versions": scope}
        names: list[str] = []
        page = await either.find("-nothing", limit=2, **wanted)
        while True:
            names += [result["name"] for result in page["results"]]
            assert page["total"] == len(PACKAGES)
            if page["next_cursor"] is None:
                break
            page = await either.find("-nothing", limit=2, cursor=page["next_cursor"], **wanted)
        assert names == await found(either, "-nothing", **wanted)
        assert sorted(names) == sorted(package["name"] for package in PACKAGES)


async def test_postgresql_accepts_the_cursors_of_elasticsearch(stocked: Shelf, away: SearchIndex) -> None:
    for sort in ("downloads", "recently-updated", "name"):
        everything = await found(stocked, "-nothing", sort=sort)
        cursor = (await stocked.find("-nothing", sort=sort, limit=2))["next_cursor"]
        assert await found(Shelf(stocked.db, away), "-nothing", sort=sort, cursor=cursor) == everything[2:]


async def test_offsets_page_without_gaps(either: Shelf) -> None:
    names = [name for offset in range(0, 6, 2) for name in await found(either, "http", limit=2, offset=offset)]
    assert sorted(names) == ["alpha-http", "beta_http", "delta-early"]


async def test_a_page_has_all_its_members(either: Shelf) -> None:
    page = await either.find("http", facets="true", limit=1)
    assert page["packages"] == page["results"]
    assert {"total": 3, "limit": 1, "offset": 0}.items() <= page.items()
    assert isinstance(page["took_ms"], int)
    assert set(page["facets"]) == {"author", "license", "keyword"}
    assert [name for name, value in page["results"][0].items() if value is None] == ["deprecation"]
    assert page["degraded"] is either.index.is_away


async def test_elasticsearch_is_not_called_right_after_it_was_unavailable(stocked: Shelf, away: SearchIndex) -> None:
    shelf = Shelf(stocked.db, away)
    assert (await shelf.find("http"))["degraded"]
    assert away.is_away
    shelf.wait_seconds = HANG_SECONDS * 2
    async with asyncio.timeout(HANG_SECONDS):
        assert (await shelf.find("http", min_seq=1))["degraded"]


async def test_postgresql_answers_if_the_index_is_missing(stocked: Shelf) -> None:
    await delete_search_indices(stocked.index)
    page = await stocked.find("alpha-math")
    assert page["degraded"]
    assert page["results"][0]["name"] == "alpha-math"


async def test_postgresql_answers_if_no_elasticsearch_is_configured(db: Database) -> None:
    async with open_search(Settings.read({}).search) as none:
        shelf = Shelf(db, none)
        await shelf.publish("alone")
        assert (await shelf.find("alone"))["degraded"]
        with pytest.raises(SearchUnavailable):
            await none.health()


async def test_min_seq_waits_for_the_consumer(stocked: Shelf) -> None:
    seq = await stocked.publish("brand-new")
    stocked.wait_seconds = HANG_SECONDS
    async with in_background(stocked.find("brand-new", min_seq=seq)) as searching:
        await until(lambda: bool(stocked.announcements._subscriptions[PROGRESS]))
        assert not searching.done()
        await stocked.drain()
        assert (await searching)["results"][0]["name"] == "brand-new"


async def test_min_seq_asks_postgresql_three_times_however_long_it_waits(stocked: Shelf) -> None:
    class Counting(Database):
        reads = 0

        def read(self, **more: bool) -> Any:
            self.reads += 1
            return super().read(**more)

    seqs = [await stocked.publish(f"new-{number}") for number in range(8)]
    db = Counting(stocked.db._pool, stocked.db._settings)
    async with listening(db) as announcements:
        shelf = Shelf(db, stocked.index)
        shelf.announcements = announcements
        async with in_background(shelf.find("new-7", min_seq=seqs[-1])) as searching:
            for _ in seqs:
                assert not searching.done()
                await stocked.drain(1)
            assert (await searching)["results"][0]["name"] == "new-7"
    assert db.reads == 3  # does the event exist, is it indexed, and is it indexed after the announcement


async def test_min_seq_waits_for_a_limited_time(stocked: Shelf) -> None:
    stocked.wait_seconds = 0.2
    seq = await stocked.publish("brand-new")
    assert (await stocked.find("brand-new", min_seq=seq))["total"] == 0


async def test_a_min_seq_of_the_future_does_not_wait(stocked: Shelf) -> None:
    stocked.wait_seconds = HANG_SECONDS * 2
    async with asyncio.timeout(HANG_SECONDS):
        assert (await stocked.find("alpha-math", min_seq=10**17))["results"]


async def test_suggestions_begin_with_the_most_popular(either: Shelf) -> None:
    names = either.suggestions
    assert await names("alp") == ["alpha-math", "alpha-http"]
    assert await names("a") == ["alpha-math", "alpha-http"]
    assert await names("betaht") == ["beta_http"]
    assert await names("Beta-H") == ["beta_http"]
    assert await names("zzz") == []
    assert await names("%") == []
    assert await names("alpha", 1) == ["alpha-math"]


async def test_suggestions_match_words_inside_names(stocked: Shelf) -> None:
    assert await stocked.suggestions("math") == ["alpha-math"]


async def test_health_reports_the_index_or_raises(stocked: Shelf, away: SearchIndex) -> None:
    assert await stocked.index.health() == {"status": "green", "documents": len(PACKAGES)}
    with pytest.raises(SearchUnavailable):
        await away.health()


def test_the_breaker_opens_at_once_for_an_unavailable_server_and_later_for_a_slow_one() -> None:
    now = 100.0
    breaker = Breaker(clock=lambda: now)
    breaker.failed(slow=True)
    assert breaker.admits()
    for _ in range(SLOW_IN_A_ROW):
        breaker.failed(slow=True)
    assert not breaker.admits()
    now += 10
    assert [breaker.admits(), breaker.admits()] == [True, False], "one probes"
    breaker.succeeded()
    assert breaker.admits()
    breaker.failed(slow=False)
    assert not breaker.admits()
