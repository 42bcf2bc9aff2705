"""Keeps results of slow reads in memory, longer the longer the read took."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

Value = TypeVar("Value")

MIN_SECONDS = 1.0
MAX_SECONDS = 300.0
LIFE_PER_COST = 200
MAX_ENTRIES = 256


class Kept(Generic[Value]):
    """Results of reads, by key.

    A result is kept for LIFE_PER_COST times as long as its read took, but at least MIN_SECONDS and at most MAX_SECONDS.
    So a small registry shows figures of this second, and a large one spends at most 1/LIFE_PER_COST of its time on
    them. Requests for the same key wait for one read. `clock` gives seconds and never goes backwards.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._values: LRUCache[Hashable, tuple[Value, float]] = LRUCache(MAX_ENTRIES)
        self._locks: dict[Hashable, asyncio.Lock] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Value]]) -> Value:
        """The value that is kept for `key`, or else the result of `read`. Raises what `read` raises."""
        found = self._values.get(key)
        if found is not None and self._clock() < found[1]:
            return found[0]
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                found = self._values.get(key)
                if found is not None and self._clock() < found[1]:
                    return found[0]
                began = self._clock()
                value = await read()
                cost = self._clock() - began
                life = min(max(cost * LIFE_PER_COST, MIN_SECONDS), MAX_SECONDS)
                self._values[key] = (value, began + cost + life)
                return value
        finally:
            if not lock.locked():
                self._locks.pop(key, None)
