"""What was read of packages lately, kept until anything of the package changes.

Each change of a package announces the package's id with its commit. This process gets the announcement before the code
that committed goes on, other processes get it through PostgreSQL within milliseconds. While the process does not
receive announcements, nothing is served from the cache.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from cachetools import LRUCache, TTLCache

from registry.events.announcements import Announcements
from registry.events.log import CHANNEL

DOWNLOADED = "registry_downloads"
"""Announces ids of packages whose downloads were counted."""

MAX_BYTES = 64 << 20
# No announcement says that a new day began, which moves the windows of download counts.
SECONDS = 5.0
OVERHEAD = 1_000
STAMPS = 100_000


class OfPackage(Protocol):
    """What can be kept: something read of one package."""

    @property
    def package_id(self) -> int: ...


Kept = TypeVar("Kept", bound=OfPackage)


@dataclass(frozen=True, slots=True)
class _Entry:
    value: OfPackage
    channels: tuple[str, ...]
    read_at: int
    until: float


def _weight(entry: _Entry) -> int:
    """Bytes, about: of a page its body, of a row what one takes."""
    return OVERHEAD + len(getattr(entry.value, "body", b""))


class PackageCache:
    """Moments are counted in changes heard of: an entry holds unless its package changed since its reading began."""

    def __init__(self, announcements: Announcements) -> None:
        self._entries: LRUCache[tuple[str, ...], _Entry] = LRUCache(MAX_BYTES, getsizeof=_weight)
        self._changed: TTLCache[tuple[str, int], int] = TTLCache(float("inf"), 2 * SECONDS)
        self._stamps: LRUCache[int, object] = LRUCache(STAMPS)
        self._now = 0
        self._listening_since = 0
        self._announcements = announcements
        announcements.subscribe(CHANNEL, DOWNLOADED, announced=self._hear, resumed=self._resume)

    async def get(self, key: tuple[str, ...], read: Callable[[], Awaitable[Kept]], *, counts: bool = False) -> Kept:
        """What is kept under `key`, else what `read` gives; with `counts`, that tells of downloads.

        Raises what `read` raises.
        """
        found = self._entries.get(key)
        if found is not None and self._holds(found):
            return found.value  # type: ignore[return-value]  # one key is always read in one way
        read_at, until = self._now, time.monotonic() + SECONDS
        value = await read()
        entry = _Entry(value, (CHANNEL, DOWNLOADED) if counts else (CHANNEL,), read_at, until)
        if self._announcements.is_listening and _weight(entry) <= MAX_BYTES:
            self._entries[key] = entry
        return value

    def _holds(self, entry: _Entry) -> bool:
        if not self._announcements.is_listening:
            return False
        if entry.read_at < self._listening_since or entry.until < time.monotonic():
            return False
        if entry.read_at == self._now:
            return True
        of = entry.value.package_id
        return all(self._changed.get((channel, of), -1) <= entry.read_at for channel in entry.channels)

    @property
    def now(self) -> int:
        """How much was heard so far."""
        return self._now

    def has_changed(self, package_id: int, since: int) -> bool:
        """Whether the package changed after `since` (of `now`, lately); downloads are no change."""
        return self._changed.get((CHANNEL, package_id), -1) > since

    def stamp(self, package_id: int) -> object:
        """The same one until a change of the package is heard of, or may have been missed; downloads are none."""
        found: object = self._stamps.setdefault(package_id, object())
        return found

    def _hear(self, channel: str, payload: str) -> None:
        """Takes an announcement: ids of packages, separated by blanks."""
        self._now += 1
        for package_id in payload.split():
            self._changed[channel, int(package_id)] = self._now
            if channel == CHANNEL:
                self._stamps.pop(int(package_id), None)

    def _resume(self) -> None:
        """Listening starts: changes before this may have been missed."""
        self._now += 1
        self._listening_since = self._now
        self._stamps.clear()
