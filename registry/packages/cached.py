"""Caches data of packages. An entry is valid until its package changes, for SECONDS at most.

Each change of a package announces the package's id with its commit. This process gets the announcement before the code
that committed continues; other processes get it through PostgreSQL within milliseconds. While the process receives no
announcements, the cache neither returns nor stores entries.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from cachetools import LRUCache, TTLCache

from registry.events.announcements import Announcements
from registry.events.log import CHANNEL

DOWNLOADED = "registry_downloads"
"""Announces the ids of packages whose download counts changed, separated by blanks."""

MAX_BYTES = 64 << 20
# The download counts of the last 7 and 30 days change at midnight without an announcement.
SECONDS = 5.0
ENTRY_OVERHEAD = 1_000
MAX_STAMPS = 100_000


class OfPackage(Protocol):
    """A value that can be cached. It belongs to one package."""

    @property
    def package_id(self) -> int: ...


Value = TypeVar("Value", bound=OfPackage)


@dataclass(slots=True)
class _Entry:
    """`valid_at` is a time at which the value was current."""

    value: OfPackage
    channels: tuple[str, ...]
    valid_at: int
    expires_at: float


def _size(entry: _Entry) -> int:
    """The approximate size in bytes. Large values have either a `body`, such as a rendered page, or a `weight`."""
    weight: int = getattr(entry.value, "weight", 0)
    return ENTRY_OVERHEAD + weight + len(getattr(entry.value, "body", b""))


class PackageCache:
    """The cache of one process.

    Time is counted in announcements (`now`). An entry is valid unless its package changed after its read began.
    `clock` gives seconds and never goes backwards.
    """

    def __init__(self, announcements: Announcements, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries: LRUCache[tuple[str, ...], _Entry] = LRUCache(MAX_BYTES, getsizeof=_size)
        # When each package last changed, by (channel, package id). Needed for as long as an older entry may be valid.
        self._changed: TTLCache[tuple[str, int], int] = TTLCache(float("inf"), 2 * SECONDS, timer=clock)
        self._stamps: LRUCache[int, object] = LRUCache(MAX_STAMPS)
        self._now = 0
        self._listening_since = 0
        self._announcements = announcements
        self._clock = clock
        announcements.subscribe(CHANNEL, DOWNLOADED, announced=self._announced, resumed=self._resumed)

    async def get(self, key: tuple[str, ...], read: Callable[[], Awaitable[Value]], *, counts: bool = False) -> Value:
        """Returns the cached value of `key`, or else the result of `read`, which is then cached.

        With `counts`, the value shows download counts, so that downloads invalidate it, too. Raises what `read` raises.
        """
        found = self._entries.get(key)
        if found is not None and self._is_valid(found):
            return found.value  # type: ignore[return-value]  # one key always has values of one type
        read_at, expires_at = self._now, self._clock() + SECONDS
        value = await read()
        entry = _Entry(value, (CHANNEL, DOWNLOADED) if counts else (CHANNEL,), read_at, expires_at)
        if self._announcements.is_listening and _size(entry) <= MAX_BYTES:
            self._entries[key] = entry
        return value

    def _is_valid(self, entry: _Entry) -> bool:
        if not self._announcements.is_listening:
            return False
        if entry.valid_at < self._listening_since or entry.expires_at < self._clock():
            return False
        if entry.valid_at == self._now:
            return True
        package = entry.value.package_id
        if any(self._changed.get((channel, package), -1) > entry.valid_at for channel in entry.channels):
            return False
        entry.valid_at = self._now  # so that the next request has nothing to look up
        return True

    @property
    def now(self) -> int:
        """The number of announcements received so far."""
        return self._now

    def has_changed(self, package_id: int, since: int) -> bool:
        """Whether the package changed after `since`, a recent value of `now`. Downloads are not changes."""
        return self._changed.get((CHANNEL, package_id), -1) > since

    def stamp(self, package_id: int) -> object:
        """The package's stamp: an object that is replaced when the package changes. Downloads are not changes.

        What was stored with a stamp is current while this function returns the same object.
        """
        found: object = self._stamps.setdefault(package_id, object())
        return found

    def _announced(self, channel: str, payload: str) -> None:
        self._now += 1
        for package_id in payload.split():
            self._changed[channel, int(package_id)] = self._now
            if channel == CHANNEL:
                self._stamps.pop(int(package_id), None)

    def _resumed(self) -> None:
        """Invalidates everything: changes before this moment may have been missed."""
        self._now += 1
        self._listening_since = self._now
        self._stamps.clear()
