"""Caches the users, sessions and API tokens by which each process authenticates requests.

Each change of a user's credentials announces the user's id with its commit: `announce_change` in the statements of this
release, a trigger in the database for all other writers (migration 0034). This process gets the announcement before the
code that committed continues, other processes within milliseconds. While this process can't be sure that it received
everything that was announced more than MAX_LAG_SECONDS ago, the cache is off.
"""

import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from cachetools import LRUCache
from prometheus_client import Counter

from registry.accounts.identity import User
from registry.db.engine import Connection
from registry.errors import Unauthorized
from registry.events.announcements import Announcements

CHANNEL = "registry_credentials"
"""Announces the id of a user whose account, sessions or API tokens changed."""

LOOKUPS = Counter("registry_credential_lookups_total", "Lookups of credentials, by where they were found", ["source"])
_FROM_CACHE, _FROM_DATABASE = LOOKUPS.labels("cache"), LOOKUPS.labels("database")

MOST = 10_000
SECONDS = 60.0
# A credential that ended in another process is accepted at most this much longer, even when the network fails.
MAX_LAG_SECONDS = 0.9


@dataclass(slots=True)
class Found:
    """A user with the row of the session or API token that was used. `may_be_kept` is false for what isn't announced.

    `last_used_at` is the last use that is stored, or about to be stored.
    """

    user: User
    row: Any
    last_used_at: datetime | None
    may_be_kept: bool = True


@dataclass(frozen=True, slots=True)
class _Entry:
    found: Found
    stamp: object
    expires_at: float


Result = TypeVar("Result")


def announce_change(conn: Connection, user_id: int) -> None:
    """Makes all processes forget the credentials of a user when the transaction of `conn` commits."""
    conn.announce(CHANNEL, str(user_id))


class CredentialCache:
    """The cache of one process. `clock` gives seconds and never goes backwards."""

    def __init__(self, announcements: Announcements, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries: LRUCache[Hashable, _Entry] = LRUCache(MOST)
        # An entry is valid while the stamp of its user is the one that the entry was stored with.
        self._stamps: LRUCache[int, object] = LRUCache(MOST)
        self._generation = 0
        self._announcements = announcements
        self._clock = clock
        announcements.subscribe(CHANNEL, announced=self._changed, resumed=self._clear)

    async def judge(
        self, key: Hashable, read: Callable[[], Awaitable[Found | None]], check: Callable[[Found | None], Result]
    ) -> Result:
        """The result of `check` on what `read` finds for `key`, or on what it found lately.

        `check` raises Unauthorized for credentials that are not valid. A cached entry never decides this: they are read
        again. Credentials that are not valid are not cached. `key` must not contain the credentials themselves.
        """
        kept = self._kept(key)
        if kept is not None:
            try:
                result = check(kept)
            except Unauthorized:
                del self._entries[key]
            else:
                _FROM_CACHE.inc()
                return result
        _FROM_DATABASE.inc()
        generation, expires_at = self._generation, self._clock() + SECONDS
        found = await read()
        result = check(found)
        if found is not None and found.may_be_kept and generation == self._generation and self._is_on:
            stamp = self._stamps.setdefault(found.user.id, object())
            self._entries[key] = _Entry(found, stamp, expires_at)
        return result

    @property
    def _is_on(self) -> bool:
        return self._announcements.lags_at_most(MAX_LAG_SECONDS)

    def _kept(self, key: Hashable) -> Found | None:
        entry = self._entries.get(key)
        if entry is None or not self._is_on or entry.expires_at < self._clock():
            return None
        return entry.found if self._stamps.get(entry.found.user.id) is entry.stamp else None

    def _changed(self, _: str, user_id: str) -> None:
        # A read that is running may have begun before the change.
        self._generation += 1
        self._stamps.pop(int(user_id), None)

    def _clear(self) -> None:
        self._generation += 1
        self._stamps.clear()
