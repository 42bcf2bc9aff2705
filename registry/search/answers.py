"""Caches the answers to searches in each process. Identical requests at once ask Elasticsearch once.

An answer is reused until the index changes. Whoever changes what searches find announces it afterwards (visible.py),
and the announcement empties the cache. An answer that was requested before an announcement and arrives after it is
returned to those who wait for it, but not stored. While the process receives no announcements, the cache is off.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

from cachetools import LRUCache
from prometheus_client import Counter, Gauge

from registry.events.announcements import Announcements
from registry.events.consumer import PROGRESS
from registry.search.indexing import CONSUMER
from registry.search.visible import CHANNEL

ANSWERS = Counter("registry_search_answers_total", "Answers to searches, by where they came from", ["source"])
EVICTIONS = Counter("registry_search_answers_evicted_total", "Answers that left the cache because it was full")
BYTES = Gauge("registry_search_answers_bytes", "Approximate memory of the cached answers to searches")
SOURCES = CACHED, SHARED, ASKED = "cache", "shared", "engine"
_FROM_CACHE, _SHARED, _ASKED = (ANSWERS.labels(source) for source in SOURCES)

MAX_BYTES = 32 << 20
# Some changes are not announced: freshness changes at midnight, and a process may die before its announcement.
SECONDS = 10.0
# At least one request in this time is sent to Elasticsearch, although its answer is cached. After a failure, cached
# answers are not used until Elasticsearch answers again.
PROBE_SECONDS = 0.1
ENTRY_OVERHEAD = 1_000

Answer = tuple[bytes, ...]
"""Parts of a JSON text."""


@dataclass(frozen=True, slots=True)
class _Entry:
    answer: Answer
    size: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Flight:
    """A request to Elasticsearch that has no answer yet. `generation` is that of the cache when it was sent."""

    task: "asyncio.Task[Answer]"
    generation: int


class _Entries(LRUCache[Hashable, _Entry]):
    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, getsizeof=lambda entry: entry.size)

    def popitem(self) -> tuple[Hashable, _Entry]:
        EVICTIONS.inc()
        return super().popitem()


class AnswerCache:
    """The answers of one process. `clock` gives seconds and never goes backwards."""

    def __init__(
        self,
        announcements: Announcements,
        *,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._announcements = announcements
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries = _Entries(max_bytes)
        self._flights: dict[Hashable, _Flight] = {}
        self._tasks: set[asyncio.Task[Answer]] = set()
        self._generation = 0
        self._indexed_seq = 0
        self._is_answering = False  # whether Elasticsearch answered the last request
        self._probe_at = 0.0
        announcements.subscribe(CHANNEL, announced=self._changed, resumed=self._resumed)
        announcements.subscribe(PROGRESS, announced=self._progressed)
        BYTES.set_function(lambda: self._entries.currsize)

    @property
    def indexed_seq(self) -> int:
        """A seq up to which every answer includes all changes; 0 if the process does not know one."""
        return self._indexed_seq if self._announcements.is_listening else 0

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Returns the cached answer for `key`, or else the result of `ask`, which is then cached.

        Concurrent calls with one key share one call of `ask`, which goes on when some of the callers are cancelled.
        Raises what `ask` raises; errors are not cached.
        """
        if not self._announcements.is_listening:
            _ASKED.inc()
            return await ask()
        found, now = self._entries.get(key), self._clock()
        if found is not None and now < found.expires_at and self._is_answering and now < self._probe_at:
            _FROM_CACHE.inc()
            return found.answer
        flight = self._flights.get(key)
        if flight is None or flight.generation != self._generation:
            _ASKED.inc()
            flight = self._start(key, ask)
        else:
            _SHARED.inc()
        return await asyncio.shield(flight.task)

    async def aclose(self) -> None:
        """Cancels the requests that are still running."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, key: Hashable, ask: Callable[[], Awaitable[Answer]]) -> _Flight:
        self._probe_at = self._clock() + PROBE_SECONDS
        flight = _Flight(asyncio.ensure_future(self._asked(key, ask, self._generation)), self._generation)
        self._flights[key] = flight
        self._tasks.add(flight.task)

        def done(task: "asyncio.Task[Answer]") -> None:
            self._tasks.discard(task)
            if self._flights.get(key) is flight:
                del self._flights[key]
            if not task.cancelled():
                task.exception()  # marks it as retrieved: all callers may have been cancelled

        flight.task.add_done_callback(done)
        return flight

    async def _asked(self, key: Hashable, ask: Callable[[], Awaitable[Answer]], generation: int) -> Answer:
        asked_at = self._clock()
        try:
            answer = await ask()
        except BaseException:
            self._is_answering = False
            raise
        self._is_answering = True
        size = ENTRY_OVERHEAD + len(repr(key)) + sum(map(len, answer))
        if generation == self._generation and self._announcements.is_listening and size <= self._max_bytes:
            self._entries[key] = _Entry(answer, size, asked_at + SECONDS)
        return answer

    def _changed(self, *_: str) -> None:
        self._generation += 1
        self._entries = _Entries(self._max_bytes)

    def _progressed(self, _: str, payload: str) -> None:
        consumer, _, seq = payload.rpartition(" ")
        if consumer == CONSUMER:
            self._indexed_seq = int(seq)

    def _resumed(self) -> None:
        """Forgets everything: announcements before this moment may have been missed."""
        self._indexed_seq = 0
        self._changed()
