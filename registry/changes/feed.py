"""Passes new changes to everybody in this process who waits for them: to streams and to requests with `wait`.

One task per process reads the new changes, once for each announcement, and keeps the newest ones in memory. Listeners
take them from there, so a thousand listeners cost one query. While nothing is announced, nothing is read.

A listener that is behind the changes in memory reads from the database. If it is behind because its client does not
read, it is cut off. The client can continue later from the last seq that it received.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from registry.changes.chain import Change
from registry.changes.log import ChangeLog
from registry.errors import DatabaseUnavailable, Unavailable
from registry.events.announcements import Announcements, wait
from registry.events.log import CHANNEL
from registry.web.responses import dump

log = logging.getLogger(__name__)

LISTENERS = Gauge("registry_changes_listeners", "Clients of this process that wait for changes")
CUT_OFF = Counter("registry_changes_cut_off_total", "Streams that were cut off because the client read too slowly")

# The number of newest changes that are kept in memory.
KEPT = 1000
# A client that is behind these changes and has read nothing for this long is cut off.
STALLED_SECONDS = 10.0
BATCH = 200
# Listeners of one process. Each costs tens of kilobytes.
MOST_LISTENERS = 5000
COMMENT_SECONDS = 15.0
POLL_SECONDS = 1.0
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A change, and the server-sent event that contains it."""

    change: Change
    frame: bytes


def frame_of(change: Change) -> bytes:
    """A change as a server-sent event (HTML, 9.2). JSON has no line breaks, so the data is one line."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (change["seq"], change["type"].encode(), dump(change))


class Listener:
    """Waits for changes after `position`. Only one task may use it.

    `packages` names the packages whose changes it gets; None means all. `position` is the seq up to which it has taken
    the changes, and `taken_at` the time at which it did so.
    """

    __slots__ = ("_feed", "cut_off", "packages", "position", "taken_at")

    def __init__(
        self, feed: "Feed", position: int, packages: frozenset[str] | None, cut_off: Callable[[], None]
    ) -> None:
        self._feed = feed
        self.position = position
        self.packages = packages
        self.cut_off = cut_off
        self.taken_at = feed.clock()

    async def next(self, seconds: float) -> list[Entry]:
        """The next changes. Empty if there is none within `seconds`, or if the feed closes. Raises Unavailable."""
        deadline = self._feed.clock() + seconds
        while True:
            # Taken before looking, so that a change that arrives while looking is not missed.
            news = self._feed.news
            found = await self._take()
            left = deadline - self._feed.clock()
            if found or left <= 0 or self._feed.is_closed:
                return found
            await wait(news, left)

    async def _take(self) -> list[Entry]:
        self.taken_at = self._feed.clock()
        found = self._feed.after(self.position)
        if found is None:
            return await self._read()
        self.position = max(self.position, self._feed.position)
        if self.packages is None:
            return found
        return [_without_hash(entry) for entry in found if entry.change["package"] in self.packages]

    async def _read(self) -> list[Entry]:
        """Reads changes that are not in memory."""
        page = await self._feed.log.read(self.position, BATCH, self.packages)
        self.position = page.end
        return [Entry(change, frame_of(change)) for change in page.changes]


def _without_hash(entry: Entry) -> Entry:
    change = entry.change.copy()
    del change["hash"]
    return Entry(change, frame_of(change))


class Feed:
    """The feed of a process. `run()` reads new changes until it is cancelled.

    `news` is set when there are new changes; a new event then takes its place. `position` is the seq up to which the
    feed has read. A stream sends something at least each `comment_seconds`. `clock` gives seconds and never goes
    backwards.
    """

    def __init__(
        self, log_: ChangeLog, announcements: Announcements, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.log = log_
        self.clock = clock
        self.news = asyncio.Event()
        self.position = 0
        self.is_closed = False
        self.comment_seconds = COMMENT_SECONDS
        self._announcements = announcements
        self._listeners: dict[Listener, None] = {}
        self._kept: deque[Entry] = deque()
        # All changes after this seq, up to `position`, are kept. None while nobody listens.
        self._kept_from: int | None = None
        self._wakeup = asyncio.Event()
        LISTENERS.set_function(lambda: len(self._listeners))

    @contextlib.contextmanager
    def listening(
        self, position: int, packages: frozenset[str] | None = None, cut_off: Callable[[], None] = lambda: None
    ) -> Iterator[Listener]:
        """A listener for the changes after `position`. `cut_off` is called if it does not take them.

        Raises Unavailable if this process has too many listeners.
        """
        if len(self._listeners) >= MOST_LISTENERS:
            raise Unavailable("Too many clients wait for changes. Try again in a few seconds.")
        listener = Listener(self, position, packages, cut_off)
        self._listeners[listener] = None
        if self._kept_from is None:
            self._wakeup.set()
        try:
            yield listener
        finally:
            self._listeners.pop(listener, None)

    def after(self, position: int) -> list[Entry] | None:
        """The changes after `position`; None if they are not all in memory."""
        if self._kept_from is None or position < self._kept_from:
            return None
        newest = itertools.takewhile(lambda entry: entry.change["seq"] > position, reversed(self._kept))
        return list(newest)[::-1]

    def close(self) -> None:
        """Ends all waiting, because the process stops."""
        self.is_closed = True
        self._tell()

    async def run(self) -> None:
        """Reads new changes at each announcement, for ever, while anybody listens."""
        with self._announcements.wakeups(CHANNEL) as self._wakeup:
            while True:
                self._wakeup.clear()
                try:
                    await self._read_new()
                except DatabaseUnavailable:
                    log.info("new changes can't be read because the database is unavailable")
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    await self._rest()

    async def _rest(self) -> None:
        """Returns at the next announcement, or soon if announcements don't reach this process."""
        while not self._wakeup.is_set():
            await wait(self._wakeup, POLL_SECONDS)
            if self._listeners and not self._announcements.is_listening:
                return

    async def _read_new(self) -> None:
        if not self._listeners:
            self._kept_from = None
            self._kept.clear()
            return
        if self._kept_from is None:
            await self.log.extend()
            self._kept_from = self.position = (await self.log.head()).seq
        while True:
            page = await self.log.read(self.position, BATCH)
            if page.changes:
                self._keep(page.changes)
            self.position = page.end
            self._tell()
            if len(page.changes) < BATCH:
                return

    def _keep(self, changes: list[Change]) -> None:
        self._kept.extend(Entry(change, frame_of(change)) for change in changes)
        while len(self._kept) > KEPT:
            self._kept_from = self._kept.popleft().change["seq"]
        stalled_at = self.clock() - STALLED_SECONDS
        for listener in list(self._listeners):
            if listener.position < (self._kept_from or 0) and listener.taken_at < stalled_at:
                del self._listeners[listener]
                CUT_OFF.inc()
                listener.cut_off()

    def _tell(self) -> None:
        self.news.set()
        self.news = asyncio.Event()
