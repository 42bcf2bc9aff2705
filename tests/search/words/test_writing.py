"""The lexemes of packages in PostgreSQL: who writes them, when, and what is found without them."""

from itertools import product
from typing import Any

import pytest
import sqlalchemy as sa

from registry.db.engine import Database, statement
from registry.events.log import Event, read_after
from registry.search.fallback import consumer, store
from registry.search.fallback.lexemes import ANALYSIS
from registry.search.index import SearchIndex
from tests.background import in_background
from tests.search.conftest import Shelf
from tests.until import until

HANG_SECONDS = 60.0
_SEQ = statement(
    sa.text("SELECT seq FROM package_words JOIN packages ON id = package_id WHERE name = CAST(:of AS text)")
)
_OUTDATE = statement(sa.text("UPDATE package_words SET analysis = 0, words = ''"))
_LOSE = statement(sa.text("DELETE FROM package_words"))
_COUNT = statement(sa.text("SELECT count(*) FROM package_words WHERE analysis = CAST(:analysis AS int)"))


@pytest.fixture
def offline(db: Database, away: SearchIndex) -> Shelf:
    """An empty registry without Elasticsearch."""
    return Shelf(db, away)


async def index(shelf: Shelf) -> None:
    await shelf.handle(consumer.CONSUMER, consumer.handler(shelf.db), 10_000)


async def found(shelf: Shelf, q: str, **params: Any) -> list[str]:
    return [result["name"] for result in (await shelf.find(q, **params))["results"]]


async def events(db: Database) -> list[Event]:
    async with db.read() as conn:
        return list(await read_after(conn, 0, 1_000))


async def test_a_change_of_a_package_changes_its_lexemes(offline: Shelf) -> None:
    await offline.publish("swift", "1.0.0", description="高性能的网络请求库")
    await index(offline)
    assert await found(offline, "网络") == ["swift"]
    await offline.publish("swift", "2.0.0", description="图像处理")
    await index(offline)
    assert await found(offline, "网络") == []
    assert await found(offline, "图像") == ["swift"]
    await offline.delete("swift", "2.0.0")
    await index(offline)
    assert await found(offline, "网络") == ["swift"]


async def test_a_package_in_quarantine_has_no_lexemes(offline: Shelf) -> None:
    await offline.publish("swift", description="网络")
    await offline.quarantine("swift", "malware")
    await index(offline)
    assert await found(offline, "网络") == []
    await offline.quarantine("swift", None)
    await index(offline)
    assert await found(offline, "网络") == ["swift"]


async def test_a_package_without_lexemes_is_found_as_before(offline: Shelf) -> None:
    await offline.publish("swift", description="Sends requests", license="MIT", author="Ada Lovelace")
    for q in ("request", "swift", "sends license:mit", "sends author:ada", '"sends requests"', "sends -receives"):
        assert await found(offline, q) == ["swift"], q
    for q in ("sends license:isc", "sends author:grace", "sends -requests", "sends keyword:http"):
        assert await found(offline, q) == [], q


async def test_old_events_are_skipped(offline: Shelf) -> None:
    await offline.publish("swift", "1.0.0")
    await offline.publish("swift", "1.1.0")
    handle = consumer.handler(offline.db)
    log = await events(offline.db)
    await handle(log[:1])
    async with offline.db.read() as conn:
        assert await conn.value(_SEQ, of="swift") == log[-1].seq
    async with offline.db.transaction() as conn:
        await conn.run(statement(sa.text("UPDATE packages SET description = 'changed without an event'")))
    await handle(log)
    assert await found(offline, "changed") == []


async def test_lexemes_of_an_older_analysis_are_written_again(offline: Shelf) -> None:
    for name in ("swift", "slow"):
        await offline.publish(name, description="网络")
    await index(offline)
    async with offline.db.transaction() as conn:
        await conn.run(_OUTDATE)
    assert await found(offline, "网络") == []
    assert await consumer.rewrite_outdated(offline.db) == 2
    assert set(await found(offline, "网络")) == {"swift", "slow"}
    async with offline.db.read() as conn:
        assert await conn.value(_COUNT, analysis=ANALYSIS) == 2
    assert await consumer.rewrite_outdated(offline.db) == 0


async def test_a_new_consumer_writes_the_lexemes_of_all_packages(offline: Shelf) -> None:
    for name in ("swift", "slow"):
        await offline.publish(name, description="网络")
    async with offline.db.transaction() as conn:
        await conn.run(_LOSE)
    await index(offline)
    assert set(await found(offline, "网络")) == {"swift", "slow"}


async def test_min_seq_waits_for_the_lexemes(offline: Shelf) -> None:
    await offline.publish("swift", "1.0.0", description="old")
    await index(offline)
    assert await found(offline, "swift") == ["swift"]
    seq = await offline.publish("swift", "2.0.0", description="网络")
    offline.wait_seconds = HANG_SECONDS
    async with in_background(offline.find("网络", min_seq=seq)) as searching:
        await until(lambda: bool(offline.announcements._subscriptions["registry_consumers"]))
        assert not searching.done()
        await index(offline)
        page = await searching
    assert [result["name"] for result in page["results"]] == ["swift"]


async def test_every_version_is_filtered_by_its_own_fields(offline: Shelf) -> None:
    await offline.publish("swift", "1.0.0", description="Requests", license="MIT", author="Zoë", keywords=["Météo"])
    # In normal form, the last keyword has characters with a meaning in JSON.
    keywords = ["http", "\uff02\ufe68"]
    await offline.publish("swift", "2.0.0", description="Requests", license="ISC", author="Ada", keywords=keywords)
    await index(offline)

    async def versions(q: str) -> list[str]:
        page = await offline.find(q, versions="all", sort="name")
        return [result["version"] for result in page["results"]]

    assert await versions("requests") == ["2.0.0", "1.0.0"]
    assert await versions("requests license:mit") == ["1.0.0"]
    assert await versions("requests -license:mit") == ["2.0.0"]
    assert await versions("author:zoe") == ["1.0.0"]
    assert await versions("keyword:meteo") == ["1.0.0"]
    assert await versions("requests -keyword:meteo") == ["2.0.0"]
    assert await versions("name:swift -author:ada") == ["1.0.0"]


async def test_every_version_is_filtered_by_the_words_of_its_name(offline: Shelf) -> None:
    for name in ("http-retry", "retry_http", "https", "xhttp", "h-index"):
        await offline.publish(name)
    await index(offline)
    for versions in ("latest", "all"):
        for q, names in (
            ('name:"http retry"', ["http-retry", "retry_http"]),
            ("name:http", ["http-retry", "https", "retry_http"]),
            ("name:http -name:retry", ["https"]),
            ('name:http -name:"http retry"', ["https"]),
            ("name:h", []),
        ):
            assert await found(offline, q, versions=versions, sort="name") == names, (q, versions)


@pytest.mark.parametrize(("q", "meant"), [("sqlalchmeyy", "sqlalchemy"), ("numercial-arays", "numerical-arrays")])
async def test_two_wrong_letters_in_a_long_name_are_forgiven_when_nothing_else_is_found(
    offline: Shelf, q: str, meant: str
) -> None:
    for name in ("sqlalchemy", "numerical-arrays", "other"):
        await offline.publish(name, description="-")
    await index(offline)
    assert await found(offline, q) == [meant]


async def test_popular_names_of_another_length_do_not_hide_the_one_that_was_meant(
    offline: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST_MISTYPED", 1)
    await offline.publish("sqlalchemy-extensions", description="-", downloads=9_000)
    await offline.publish("sqlalchemy", description="-")
    await index(offline)
    assert await found(offline, "sqlalchmeyy") == ["sqlalchemy"]


async def test_an_explicit_order_leaves_out_weak_matches(offline: Shelf) -> None:
    await offline.publish("retry-http-client", downloads=5)
    await offline.publish("retry-http", description="a server", downloads=9_000)
    await offline.publish("rety", downloads=9_000)
    await index(offline)
    assert set(await found(offline, "retry http client")) == {"retry-http-client", "retry-http"}
    assert await found(offline, "retry http client", sort="downloads") == ["retry-http-client"]
    assert "rety" in await found(offline, "retry")
    assert await found(offline, "retry", sort="downloads") == ["retry-http", "retry-http-client"]


async def test_texts_of_many_long_linked_words_are_indexed(offline: Shelf) -> None:
    letters = [chr(code) for code in range(0x10400, 0x10428)]  # of four bytes each
    chain = "-".join("".join(pair) for pair in product(letters, repeat=2))
    long = "-".join(letter * 127 for letter in letters)
    keywords = [f"{first}{second}-" * 80 + chain[:90] for first, second in product(letters[:10], repeat=2)]
    await offline.publish("chained", description=chain + " last", readme=f"{chain} {long}", keywords=keywords)
    await offline.publish("long", description=long, author=long, license=long, keywords=[long])
    await index(offline)
    assert await found(offline, "last") == ["chained"]
    assert await found(offline, "long") == ["long"]


@pytest.mark.parametrize(
    "q", ["x " * 256, "abcdefgh" * 64, "a-b " * 128, "a1" * 256, "é" * 512, "网" * 512, '"a" ' * 128, "-x " * 170,
          "author:a " * 56, "wi-fi sha256 " * 40, "k8s orm gui cli api db " * 22],
)  # fmt: skip
async def test_the_longest_queries_are_answered(offline: Shelf, q: str) -> None:
    await offline.publish("swift", description="x wi-fi")
    await index(offline)
    assert (await offline.find(q[:512]))["degraded"]
