"""Receives PostgreSQL notifications for the whole process, on one connection, and passes them to subscribers.

`Connection.announce()` sends an announcement with a commit. Subscribers in the same process get it before
the block of `Database.transaction()` ends. Other processes get it through LISTEN a few milliseconds later. The sending
process also gets it a second time through LISTEN.

A lost connection is not always visible: a firewall may drop its packets, or the process may have been frozen. So the
listener pings PostgreSQL a few times a second. The answer to a ping comes after all notifications sent before it.
Without a recent answer `is_listening` is False, and caches must not serve their entries.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from registry.db.engine import Connection, Database, Statement
from registry.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

PING_SECONDS = 0.3
# While `is_listening` is True, subscribers have received everything that was announced more than this long ago.
MAX_LAG_SECONDS = 3.0
RETRY_SECONDS = 1.0

_PING = Statement("SELECT 1", {})

Announced = Callable[[str, str], None]
"""Called with (channel, payload). Must not block."""


@dataclass(frozen=True, slots=True, eq=False)
class _Subscription:
    announced: Announced
    resumed: Callable[[], None]


class Announcements:
    """The announcement hub. Create one per process and keep `listen()` running.

    `channels` are all channels that anybody may subscribe to. `clock` gives seconds and never goes backwards.
    """

    def __init__(self, db: Database, channels: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._db = db
        self._channels = tuple(channels)
        self._clock = clock
        self._subscriptions: dict[str, dict[_Subscription, None]] = {channel: {} for channel in self._channels}
        self._complete_until: float | None = None
        db.on_announced(self._tell)

    @property
    def is_listening(self) -> bool:
        """Whether subscribers have received everything that was announced until MAX_LAG_SECONDS ago."""
        return self.lags_at_most(MAX_LAG_SECONDS)

    def lags_at_most(self, seconds: float) -> bool:
        """Whether subscribers have received everything that was announced until `seconds` ago."""
        return self._complete_until is not None and self._clock() - self._complete_until <= seconds

    def subscribe(
        self, *channels: str, announced: Announced, resumed: Callable[[], None] = lambda: None
    ) -> Callable[[], None]:
        """Calls `announced` for each announcement on `channels`. Returns a function that unsubscribes.

        `resumed` is called each time listening starts; announcements before that may have been missed.
        """
        unknown = set(channels) - set(self._channels)
        if unknown:
            raise ValueError(f"The hub does not listen on {', '.join(sorted(unknown))}")
        subscription = _Subscription(announced, resumed)
        for channel in channels:
            self._subscriptions[channel][subscription] = None
        if self.is_listening:
            resumed()

        def unsubscribe() -> None:
            for channel in channels:
                self._subscriptions[channel].pop(subscription, None)

        return unsubscribe

    @contextlib.contextmanager
    def wakeups(self, channel: str) -> Iterator[asyncio.Event]:
        """Within the block, the event is set at each announcement on `channel`, and when listening starts again."""
        wakeup = asyncio.Event()
        unsubscribe = self.subscribe(channel, announced=lambda *_: wakeup.set(), resumed=wakeup.set)
        try:
            yield wakeup
        finally:
            unsubscribe()

    async def listen(self) -> None:
        """Receives announcements for ever and reconnects after errors. Ends only by cancellation."""
        while True:
            try:
                async with self._session() as (conn, notifies):
                    await self._receive(conn, notifies)
            except DatabaseUnavailable:
                log.info("listening stopped because the database is unavailable")
            except Exception:  # the loop must survive any error, because caches are off while it does not run
                log.exception("listening failed")
            await asyncio.sleep(RETRY_SECONDS)

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[tuple[Connection, Any]]:
        try:
            async with self._db.session(on_notify=self._tell) as (conn, notifies):
                async with asyncio.timeout(MAX_LAG_SECONDS):
                    await conn.command("; ".join(f"LISTEN {channel}" for channel in self._channels))
                yield conn, notifies
        finally:
            self._complete_until = None

    async def _receive(self, conn: Connection, notifies: Any) -> None:
        for subscription in {each: None for by_channel in self._subscriptions.values() for each in by_channel}:
            _call(subscription.resumed)
        while True:
            sent_at = self._clock()
            async with asyncio.timeout(MAX_LAG_SECONDS):
                await conn.value(_PING)
            self._complete_until = sent_at
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_SECONDS):
                    await notifies.get()  # waits until the connection breaks; `_tell` handles the notifications

    def _tell(self, channel: str, payload: str) -> None:
        for subscription in tuple(self._subscriptions.get(channel, ())):
            _call(subscription.announced, channel, payload)


async def wait(wakeup: asyncio.Event, seconds: float) -> None:
    """Returns when `wakeup` is set, or after `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wakeup.wait()


def _call(function: Callable[..., None], *arguments: str) -> None:
    try:
        function(*arguments)
    except Exception:  # one subscriber's bug must not keep an announcement from the others
        log.exception("a subscriber failed")
