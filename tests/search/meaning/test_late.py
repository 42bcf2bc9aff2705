"""A search whose vector is late."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from registry.db.engine import Database
from registry.events.announcements import Announcements
from registry.search.answers import AnswerCache
from registry.search.meaning.encoder import Encoder
from registry.search.request import SearchRequest
from registry.search.search import Searcher
from tests.search.meaning.slow import SlowModel
from tests.until import until

EMPTY = {"hits": {"total": {"value": 0}, "hits": []}, "suggest": {"spelling": []}}


class Index:
    """An index that finds nothing. `asked` says of each search whether it was by meaning, too."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.is_away = False
        self.asked: list[bool] = []

    async def max_popularity(self) -> float:
        return 1.0

    async def search(self, kind: str, body: Any) -> Any:
        self.asked.append("knn" in str(body))
        return {**EMPTY, "hits": dict(EMPTY["hits"])}


@pytest.fixture
async def index(slow: SlowModel) -> AsyncIterator[Index]:
    encoder = Encoder(slow, query_seconds=0)  # type: ignore[arg-type]
    yield Index(encoder)
    slow.go.set()
    encoder.close()


@pytest.fixture
async def searcher(db: Database, index: Index, announcements: Announcements) -> AsyncIterator[Searcher]:
    answers = AnswerCache(announcements, clock=lambda: 0.0)
    yield Searcher(db, index, announcements, answers)  # type: ignore[arg-type]
    await answers.aclose()


async def test_an_answer_without_its_vector_is_not_the_cached_answer_once_the_vector_is_there(
    slow: SlowModel, index: Index, searcher: Searcher
) -> None:
    request = SearchRequest.parse([("q", "red")])
    await searcher.body(request)
    assert not any(index.asked)
    slow.go.set()
    await until(lambda: not index.encoder._running)
    index.asked.clear()
    await searcher.body(request)
    assert any(index.asked)
    index.asked.clear()
    await searcher.body(request)
    assert index.asked == []


async def test_nothing_is_encoded_while_the_index_is_away(slow: SlowModel, index: Index, searcher: Searcher) -> None:
    index.is_away = True
    await searcher.body(SearchRequest.parse([("q", "red")]))
    assert slow.asked == []
    assert not index.encoder._running
