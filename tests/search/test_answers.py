"""Cached answers: they are never older than the index."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from registry.db.engine import Database
from registry.errors import SearchUnavailable
from registry.events.announcements import Announcements
from registry.search.answers import ENTRY_OVERHEAD, PROBE_SECONDS, SECONDS, Answer, AnswerCache
from registry.search.visible import CHANNEL, announce_change
from registry.worker import CHANNELS
from tests.conftest import listening
from tests.until import until


class Engine:
    """Gives a new answer to each request. While `open` is unset, requests wait."""

    def __init__(self) -> None:
        self.asked = 0
        self.failure: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def ask(self) -> Answer:
        self.asked += 1
        answer = (b"answer %d" % self.asked,)
        await self.open.wait()
        if self.failure:
            raise self.failure
        return answer


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def cache(announcements: Announcements, clock: Clock) -> AsyncIterator[AnswerCache]:
    answers = AnswerCache(announcements, clock=clock)
    yield answers
    await answers.aclose()


async def test_a_repeated_request_is_answered_from_memory(cache: AnswerCache, engine: Engine) -> None:
    assert await cache.get("q", engine.ask) == (b"answer 1",)
    assert await cache.get("q", engine.ask) == (b"answer 1",)
    assert await cache.get("other", engine.ask) == (b"answer 2",)


async def test_identical_requests_at_once_ask_once(cache: AnswerCache, engine: Engine) -> None:
    engine.open.clear()
    requests = [asyncio.create_task(cache.get("q", engine.ask)) for _ in range(20)]
    await until(lambda: engine.asked == 1)
    engine.open.set()
    assert {await each for each in requests} == {(b"answer 1",)}


async def test_a_cancelled_request_does_not_cancel_those_that_share_its_answer(
    cache: AnswerCache, engine: Engine
) -> None:
    engine.open.clear()
    first, second = (asyncio.create_task(cache.get("q", engine.ask)) for _ in range(2))
    await until(lambda: engine.asked == 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    engine.open.set()
    assert await second == (b"answer 1",)
    assert first.cancelled()


async def test_an_error_reaches_all_who_wait_and_is_not_cached(cache: AnswerCache, engine: Engine) -> None:
    engine.failure = SearchUnavailable("away")
    engine.open.clear()
    requests = [asyncio.create_task(cache.get("q", engine.ask)) for _ in range(3)]
    await until(lambda: engine.asked == 1)
    engine.open.set()
    for each in requests:
        with pytest.raises(SearchUnavailable):
            await each
    engine.failure = None
    assert await cache.get("q", engine.ask) == (b"answer 2",)


async def test_a_change_in_another_process_empties_the_cache(db: Database, cache: AnswerCache, engine: Engine) -> None:
    async with listening(db) as other:
        there = AnswerCache(other)
        await there.get("q", engine.ask)
        await cache.get("q", engine.ask)
        await announce_change(db)
        assert await cache.get("q", engine.ask) == (b"answer 3",)

        async def is_dropped() -> bool:
            return await there.get("q", engine.ask) != (b"answer 1",)

        await until(is_dropped)


async def test_an_answer_that_was_requested_before_a_change_is_not_stored_after_it(
    db: Database, cache: AnswerCache, engine: Engine
) -> None:
    engine.open.clear()
    early = asyncio.create_task(cache.get("q", engine.ask))
    await until(lambda: engine.asked == 1)
    await announce_change(db)
    late = asyncio.create_task(cache.get("q", engine.ask))
    await until(lambda: engine.asked == 2)
    engine.open.set()
    assert await early == (b"answer 1",)
    assert await late == (b"answer 2",)
    assert await cache.get("q", engine.ask) != (b"answer 1",)


async def test_without_announcements_nothing_is_cached(db: Database, engine: Engine) -> None:
    deaf = AnswerCache(Announcements(db, CHANNELS))
    assert await deaf.get("q", engine.ask) == (b"answer 1",)
    assert await deaf.get("q", engine.ask) == (b"answer 2",)


async def test_listening_again_empties_the_cache(
    cache: AnswerCache, announcements: Announcements, engine: Engine
) -> None:
    await cache.get("q", engine.ask)
    for subscription in announcements._subscriptions[CHANNEL]:
        subscription.resumed()
    assert await cache.get("q", engine.ask) == (b"answer 2",)


async def test_an_answer_expires(cache: AnswerCache, engine: Engine, clock: Clock) -> None:
    await cache.get("q", engine.ask)
    end = clock.now + SECONDS
    while clock.now < end:
        assert await cache.get("q", engine.ask) == (b"answer 1",)
        clock.now += PROBE_SECONDS / 2
        await cache.get(("another", clock.now), Engine().ask)
    assert await cache.get("q", engine.ask) == (b"answer 2",)


async def test_no_answer_is_reused_after_elasticsearch_failed(cache: AnswerCache, engine: Engine, clock: Clock) -> None:
    await cache.get("q", engine.ask)
    broken = Engine()
    broken.failure = SearchUnavailable("away")
    clock.now += PROBE_SECONDS
    broken.open.clear()
    probe = asyncio.create_task(cache.get("q", broken.ask))
    await until(lambda: broken.asked == 1)
    assert await cache.get("q2", engine.ask) == (b"answer 2",)
    broken.open.set()
    for each in (probe, cache.get("q", broken.ask), cache.get("q2", broken.ask)):
        with pytest.raises(SearchUnavailable):
            await each
    assert await cache.get("q", engine.ask) == (b"answer 3",)
    assert await cache.get("q2", broken.ask) == (b"answer 2",)


async def test_the_cache_is_bounded_by_bytes(announcements: Announcements) -> None:
    cache = AnswerCache(announcements, max_bytes=10 * ENTRY_OVERHEAD)
    asked: list[int] = []

    async def answer(number: int) -> bytes:
        async def ask() -> Answer:
            asked.append(number)
            return (b"x" * ENTRY_OVERHEAD,)

        return b"".join(await cache.get(number, ask))

    for number in range(6):
        await answer(number)
    await answer(5)
    await answer(0)
    assert asked == [0, 1, 2, 3, 4, 5, 0], "the oldest answer had to go"


async def test_an_answer_larger_than_the_cache_is_not_cached(announcements: Announcements, engine: Engine) -> None:
    cache = AnswerCache(announcements, max_bytes=ENTRY_OVERHEAD)
    assert await cache.get("q", engine.ask) == (b"answer 1",)
    assert await cache.get("q", engine.ask) == (b"answer 2",)
