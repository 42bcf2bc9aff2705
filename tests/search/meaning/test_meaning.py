"""Search by meaning with the real model, Elasticsearch and PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from registry.db.engine import Database, statement
from registry.db.tables import search_vectors
from registry.doctor.search import CHECKS
from registry.search import query
from registry.search.documents import PACKAGES, VERSIONS
from registry.search.explain import explain
from registry.search.index import SearchIndex, open_search
from registry.search.meaning.encoder import TEXTS, Encoder
from registry.search.meaning.gaps import add_missing
from registry.search.meaning.model import Model
from registry.search.meaning.vectors import purge
from registry.search.rebuild import heal, rebuild
from registry.search.reconcile import reconcile
from registry.search.request import SearchRequest
from registry.search.terms import parse_terms
from registry.setting_parts import SearchSettings
from tests.search.conftest import Shelf

COUNT = statement(sa.select(sa.func.count()).select_from(search_vectors))
MODELS = statement(sa.select(search_vectors.c.model).distinct())
QUERY = "make the monitor warmer at night"


@pytest.fixture
async def index(own: SearchSettings, model_folder: Path) -> AsyncIterator[SearchIndex]:
    async with open_search(replace(own, model=model_folder)) as opened:
        assert opened.encoder is not None
        opened.encoder._query_seconds = 20
        yield opened


@pytest.fixture
async def stocked(shelf: Shelf) -> Shelf:
    await shelf.publish("redshift", description="Adjusts the color temperature of your screen", license="MIT")
    await shelf.publish("htop", description="Interactive process viewer", license="MIT", downloads=90_000)
    await shelf.publish("cowsay", description="Configurable talking cow")
    await shelf.publish("warmer", description="Heats water", license="MIT")
    await shelf.drain()
    return shelf


def encoded() -> float:
    return float(TEXTS._value.get())


async def vectors(db: Database) -> int:
    async with db.read() as conn:
        return int(await conn.value(COUNT))


async def fields(index: SearchIndex, kind: str) -> set[str]:
    [name] = await index._indices_of(index.alias(kind))
    return {name for name in (await index._mapping(name))["properties"] if name.startswith("meaning")}


async def told(shelf: Shelf, q: str, name: str) -> Any:
    return await explain(shelf.db, shelf.index, SearchRequest(q=q, terms=parse_terms(q)), name)


async def test_a_query_without_a_common_word_finds_the_package(stocked: Shelf) -> None:
    assert await stocked.names("dim the display after sunset") == ["redshift"]
    found = (await stocked.find(QUERY))["results"]
    assert "redshift" in [result["name"] for result in found]
    assert all(0 < result["score"] < 0.9 for result in found)


async def test_filters_narrow_what_is_found_by_meaning(stocked: Shelf) -> None:
    assert await stocked.names(QUERY, license="MIT", limit=1, offset=0)
    assert "redshift" not in await stocked.names(QUERY, license="GPL")
    assert "redshift" not in await stocked.names(f"{QUERY} -license:mit")
    await stocked.yank("redshift", "1.0.0")
    await stocked.drain()
    assert "redshift" not in await stocked.names(QUERY)


async def test_only_searches_by_relevance_for_packages_ask_by_meaning(stocked: Shelf) -> None:
    words = "dim the display after sunset"
    assert await stocked.names(words, sort="downloads") == []
    assert await stocked.names(words, versions="all") == []
    assert await stocked.suggestions(words) == []


async def test_an_exact_name_and_a_name_with_a_slip_stay_first(stocked: Shelf) -> None:
    assert (await stocked.names("warmer"))[0] == "warmer"
    assert (await stocked.names("redshfit"))[0] == "redshift"


async def test_what_is_only_found_by_meaning_does_not_keep_a_mistyped_text_from_being_found(stocked: Shelf) -> None:
    await stocked.publish("viewer", description="A picture gallery")
    await stocked.drain()
    assert "redshift" in await stocked.names("screen colour tempreature adjustmant night")
    page = await stocked.find("pictrue galery screen", limit=1)
    names = [result["name"] for result in page["results"]]
    names += await stocked.names("pictrue galery screen", limit=10, offset=1)
    assert len(set(names)) == page["total"]


async def test_explain_names_the_clause(stocked: Shelf) -> None:
    for q in (QUERY, "dim the display after sunset"):
        results = (await stocked.find(q))["results"]
        for position, result in enumerate(results, 1):
            found = await told(stocked, q, result["name"])
            assert (found["position"], found["score"]) == (position, result["score"])
    kinds = {each["kind"]: each["parts"] for each in found["evidence"]}
    assert [part["part"] for part in kinds["its meaning"]] == ["meaning"]
    assert 1.8 < kinds["its meaning"][0]["worth"] <= 3
    assert "mainly because of its meaning" in found["explanation"]


async def test_a_text_is_encoded_once(stocked: Shelf) -> None:
    assert await vectors(stocked.db) == 4
    before = encoded()
    await stocked.publish("redshift", "1.1.0", description="Adjusts the color temperature of your screen")
    await stocked.drain()
    await rebuild(stocked.db, stocked.index)
    assert encoded() == before
    assert await stocked.names("dim the display after sunset") == ["redshift"]
    await stocked.publish("redshift", "1.2.0", description="Counts sheep")
    await stocked.drain()
    assert (encoded(), await vectors(stocked.db)) == (before + 1, 4)
    assert await stocked.names("dim the display after sunset") == []


async def test_vectors_are_in_the_index_of_packages_alone_and_are_no_difference(stocked: Shelf) -> None:
    encoder = stocked.index.encoder
    assert encoder is not None
    assert await fields(stocked.index, PACKAGES) == {encoder.field}
    assert await fields(stocked.index, VERSIONS) == set()
    assert set((await reconcile(stocked.db, stocked.index, settle=_at_once)).values()) == {0}


async def test_another_model_rebuilds_the_index(stocked: Shelf, own: SearchSettings, model: Model) -> None:
    other = Encoder(replace(model, id="other"), query_seconds=20)
    index = SearchIndex(stocked.index._client, own.prefix, other)
    changed = Shelf(stocked.db, index, stocked.user)
    assert await stocked.index.is_current()
    assert not await index.is_current()
    assert await changed.names("dim the display after sunset") == [], "the index has no vectors of this model yet"
    assert await heal(stocked.db, index)
    assert await fields(index, PACKAGES) == {"meaning_other"}
    assert await changed.names("dim the display after sunset") == ["redshift"]
    assert await vectors(stocked.db) == 8
    assert await purge(stocked.db, other) == 4
    async with stocked.db.read() as conn:
        assert [row.model for row in await conn.all(MODELS)] == ["other"]
    other.close()


async def test_without_a_model_the_index_has_no_vectors_and_the_query_is_the_same_as_ever(
    stocked: Shelf, own: SearchSettings
) -> None:
    async with open_search(own) as index:
        assert index.encoder is None
        assert await heal(stocked.db, index)
        assert not await heal(stocked.db, index)
        assert await fields(index, PACKAGES) == set()
        assert await Shelf(stocked.db, index).names("dim the display after sunset") == []
        assert await purge(stocked.db, None) == 4
    request = SearchRequest(q=QUERY, terms=parse_terms(QUERY))
    for body in (query.build(request, 1.0), query.build_relaxed(request, 1.0)):
        assert "knn" not in str(body)
        assert query.BY_TEXT not in str(body["query"]).replace(".text", "")


async def test_vectors_of_deleted_packages_are_purged(stocked: Shelf) -> None:
    await stocked.delete("cowsay", "1.0.0")
    await stocked.drain()
    assert await purge(stocked.db, stocked.index.encoder) == 1
    assert await vectors(stocked.db) == 3


async def test_the_doctor_finds_documents_without_vectors_and_adds_them(stocked: Shelf, own: SearchSettings) -> None:
    async with open_search(own) as without:
        await stocked.publish("redshift", "1.1.0", description="Adjusts the color temperature of your screen")
        await Shelf(stocked.db, without, stocked.user).drain()
    assert await stocked.names("dim the display after sunset") == []
    [check] = [each for each in CHECKS if each.name == "search vectors"]
    registry: Any = SimpleNamespace(db=stocked.db, index=stocked.index)
    assert (await check.find(registry)).examples == ["redshift has no vector"]
    assert check.repair is not None
    await check.repair(registry)
    assert (await check.find(registry)).count == 0
    assert await stocked.names("dim the display after sunset") == ["redshift"]
    assert await add_missing(stocked.db, stocked.index) == 0


async def _at_once() -> None:
    """Waits for nothing: the test runs the consumer itself."""
