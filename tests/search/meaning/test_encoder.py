"""The limits of encoding."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from registry.search.meaning import encoder as encoding
from registry.search.meaning.encoder import CACHED, ENCODED, FAILED, LATE, QUERIES, UNFAMILIAR, Encoder
from tests.search.meaning.slow import SlowModel
from tests.until import until


@pytest.fixture
async def make(slow: SlowModel) -> AsyncIterator[Callable[[float], Encoder]]:
    made: list[Encoder] = []

    def make(seconds: float) -> Encoder:
        made.append(Encoder(slow, query_seconds=seconds))  # type: ignore[arg-type]
        return made[-1]

    yield make
    slow.go.set()
    for each in made:
        each.close()


def counts() -> dict[str, float]:
    found = QUERIES.collect()[0].samples
    return {sample.labels["outcome"]: sample.value for sample in found if sample.name.endswith("_total")}


async def test_a_late_query_gets_no_vector_and_the_next_one_finds_it_in_the_cache(
    slow: SlowModel, make: Callable[[float], Encoder]
) -> None:
    encoder, before = make(0.0), counts()
    assert await encoder.of_query("red") is None
    slow.go.set()
    await until(lambda: not encoder._running)
    vector = await encoder.of_query("RED")
    assert vector is not None
    assert (vector.field, vector.value) == ("meaning_slow", "P4A=")
    assert slow.asked == ["red"]
    assert counts()[LATE] == before[LATE] + 1
    assert counts()[CACHED] == before[CACHED] + 1


async def test_equal_queries_at_once_are_encoded_once(slow: SlowModel, make: Callable[[float], Encoder]) -> None:
    encoder, before = make(20), counts()
    asked = [asyncio.create_task(encoder.of_query("green")) for _ in range(5)]
    await until(lambda: bool(slow.asked))
    slow.go.set()
    assert len({(await each).value for each in asked if await each}) == 1  # type: ignore[union-attr]
    assert slow.asked == ["green"]
    assert counts()[ENCODED] == before[ENCODED] + 5


async def test_a_query_that_is_given_up_does_not_end_that_of_others(
    slow: SlowModel, make: Callable[[float], Encoder]
) -> None:
    encoder = make(20)
    first, second = (asyncio.create_task(encoder.of_query("blue")) for _ in range(2))
    await until(lambda: bool(slow.asked))
    first.cancel()
    slow.go.set()
    assert await second is not None


async def test_a_query_of_unknown_words_is_not_encoded(slow: SlowModel, make: Callable[[float], Encoder]) -> None:
    before = counts()
    assert await make(20).of_query("qwzrt xyzzy red") is None
    assert slow.asked == []
    assert await make(20).of_query("qwzrt xyzzy red") is None
    assert counts()[UNFAMILIAR] == before[UNFAMILIAR] + 2


async def test_a_query_that_the_model_cannot_encode_gets_no_vector(
    slow: SlowModel, make: Callable[[float], Encoder]
) -> None:
    encoder, before = make(20), counts()
    slow.failure = RuntimeError("out of memory")
    slow.go.set()
    assert await encoder.of_query("red") is None
    assert counts()[FAILED] == before[FAILED] + 1
    slow.failure = None
    assert await encoder.of_query("red") is not None


async def test_more_queries_than_can_be_encoded_in_time_do_not_queue(
    slow: SlowModel, make: Callable[[float], Encoder]
) -> None:
    encoder, before = make(20), counts()
    waiting = [asyncio.create_task(encoder.of_query(f"word{number}")) for number in range(encoding.MOST_WAITING)]
    await until(lambda: len(encoder._running) == encoding.MOST_WAITING)
    assert await encoder.of_query("red") is None
    assert counts()[LATE] == before[LATE] + 1
    slow.go.set()
    assert None not in await asyncio.gather(*waiting)


async def test_texts_of_packages_leave_a_thread_for_queries(slow: SlowModel, make: Callable[[float], Encoder]) -> None:
    encoder = make(20)
    texts = [asyncio.create_task(encoder.of_texts([f"text {number}"])) for number in range(3)]
    query = asyncio.create_task(encoder.of_query("red"))
    await until(lambda: len(slow.asked) == 2)
    assert sorted(slow.asked) == ["red", "text 0"]
    slow.go.set()
    assert await query is not None
    assert [len(await each) for each in texts] == [1, 1, 1]
