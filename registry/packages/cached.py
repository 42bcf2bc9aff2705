"""What was read of packages lately, kept until anything of the package changes.

Whatever changes a package announces its id with the commit: this process hears of it before the commit's caller does,
others through PostgreSQL within milliseconds. A process that can't hear keeps nothing.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from cachetools import LRUCache, TTLCache

from registry.db.engine import Database
from registry.errors import DatabaseUnavailable
from registry.events.log import CHANNEL

log = logging.getLogger(__name__)

DOWNLOADED = "registry_downloads"
"""Announces ids of packages whose downloads were counted."""

MAX_BYTES = 64 << 20
# What no announcement tells of shows after so long: a new day in the windows of downloads, a connection that died
# without a word.
SECONDS = 5.0
RETRY_SECONDS = 1.0
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

    def __init__(self) -> None:
        self._entries: LRUCache[tuple[str, ...], _Entry] = LRUCache(MAX_BYTES, getsizeof=_weight)
        self._changed: TTLCache[tuple[str, int], int] = TTLCache(float("inf"), 2 * SECONDS)
        self._stamps: LRUCache[int, object] = LRUCache(STAMPS)
        self._now = 0
        self._listening_since: int | None = None

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
        if self._listening_since is not None and _weight(entry) <= MAX_BYTES:
            self._entries[key] = entry
        return value

    def _holds(self, entry: _Entry) -> bool:
        since = self._listening_since
        if since is None or entry.read_at < since or entry.until < time.monotonic():
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

    def hear(self, channel: str, payload: str) -> None:
        """Takes an announcement: ids of packages, separated by blanks."""
        self._now += 1
        for package_id in payload.split():
            self._changed[channel, int(package_id)] = self._now
            if channel == CHANNEL:
                self._stamps.pop(int(package_id), None)

    async def listen(self, db: Database) -> None:
        """Hears what other processes announce, for ever; ends only by cancellation."""
        db.on_announced(self.hear)
        while True:
            try:
                async with db.session() as (conn, notifies):
                    for channel in (CHANNEL, DOWNLOADED):
                        await conn.command(f"LISTEN {channel}")
                    self._now += 1
                    self._listening_since = self._now
                    self._stamps.clear()
                    while True:
                        heard = await notifies.get()
                        self.hear(heard.channel, heard.payload)
            except DatabaseUnavailable:
                log.info("nothing is kept of packages until the database is back")
            except Exception:  # whatever it is must not end the loop: until it hears again, nothing is kept
                log.exception("changes of packages can't be heard of")
            finally:
                self._listening_since = None
            await asyncio.sleep(RETRY_SECONDS)
