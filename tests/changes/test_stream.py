"""GET /changes/stream: every change reaches every listener once, and slow or forgotten listeners cost little."""

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack

import pytest

from registry.changes import feed as feeds
from registry.changes import handlers
from registry.changes.feed import Feed
from registry.changes.log import ChangeLog, Head, Page
from registry.db.engine import Database, open_database
from registry.events.announcements import Announcements
from registry.keys import DB
from registry.settings import Settings
from registry.tasks import running
from registry.web.context import IN_FLIGHT
from tests.changes.events import append
from tests.changes.reading import Stream, check_chain, read_all, streaming
from tests.client import API, Registry
from tests.conftest import MakeRegistry
from tests.until import until
from tests.web.raw import connected, request
from tests.web.shape import check_error


async def seqs(stream: Stream, count: int) -> list[int]:
    return [(await stream.event())[0] for _ in range(count)]


async def test_a_stream_starts_now_and_has_what_the_pages_have(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo", "1.0.0")
    async with streaming(registry) as stream:
        published = await ada.publish("demo", "1.0.1")
        await ada.call("PATCH", "/packages/demo/1.0.1", json={"yanked": True, "reason": "line\nbreak"})
        events = [await stream.event() for _ in range(2)]
    changes = (await registry.get(f"/changes?since={published['seq'] - 1}")).json["changes"]
    assert [change for _, _, change in events] == changes
    assert [(id_, type_) for id_, type_, _ in events] == [(change["seq"], change["type"]) for change in changes]


async def test_its_headers_keep_proxies_from_holding_it_back(registry: Registry):
    async with streaming(registry, {"Accept-Encoding": "gzip, deflate, br"}) as stream:
        headers = stream.response.headers
        assert headers["Content-Type"] == "text/event-stream"
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["Cache-Control"] == "no-store"
        assert "Content-Encoding" not in headers
        assert "Content-Length" not in headers
        assert headers["X-Request-ID"]


async def test_it_resumes_after_the_last_event_id(registry: Registry):
    db = registry.app[DB]
    await append(db, 3 * feeds.BATCH)
    async with streaming(registry, {"Last-Event-ID": "0"}) as stream:
        everything = [await stream.event() for _ in range(3 * feeds.BATCH)]
        assert [id_ for id_, _, _ in everything] == list(range(1, 3 * feeds.BATCH + 1))
        check_chain(change for _, _, change in everything)
        await append(db)
        assert await seqs(stream, 1) == [3 * feeds.BATCH + 1]
    async with streaming(registry, {"Last-Event-ID": str(3 * feeds.BATCH - 1)}) as stream:
        assert await seqs(stream, 2) == [3 * feeds.BATCH, 3 * feeds.BATCH + 1]


@pytest.mark.parametrize("given", ["", "x", "-1", "1.5", "0x10", "1 2", str(10**18)])
async def test_a_malformed_last_event_id_is_400(registry: Registry, given: str):
    answer = await registry.get("/changes/stream", headers={"Last-Event-ID": given})
    check_error(answer, 400)
    assert answer.json["errors"][0]["field"] == "Last-Event-ID"


async def test_head_has_no_stream(registry: Registry):
    answer = await registry.call("HEAD", "/changes/stream")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
    assert not registry.app[handlers.FEED]._listeners


async def test_an_idle_stream_sends_comments(registry: Registry):
    registry.app[handlers.FEED].comment_seconds = 0.05
    async with streaming(registry) as stream:
        for _ in range(3):
            assert [line[0] for line in await stream.block()] == [":"]


async def test_streams_of_two_processes_have_the_same_changes(make_registry: MakeRegistry):
    here, there = await make_registry(), await make_registry()
    ada = await here.user()
    async with streaming(here) as first, streaming(there) as second:
        for number in range(20):
            await ada.publish(f"demo-{number}")
        changes = await read_all(here)
        for stream in (first, second):
            assert [(await stream.event())[2] for _ in changes] == changes


async def test_a_stream_ends_when_the_process_stops(registry: Registry):
    async with streaming(registry) as stream:
        registry.app[IN_FLIGHT].close()
        assert await stream.ended()


async def test_a_client_that_left_is_forgotten(registry: Registry):
    feed = registry.app[handlers.FEED]
    feed.comment_seconds = 0.05
    async with streaming(registry):
        assert len(feed._listeners) == 1
    await until(lambda: not feed._listeners)


async def test_a_client_that_does_not_read_is_cut_off_and_resumes(registry: Registry):
    """It is sent more than the buffers of both sockets hold. A client that reads is not affected."""
    feed, db = registry.app[handlers.FEED], registry.app[DB]
    before = feeds.CUT_OFF._value.get()
    count, reason = 12 * feeds.KEPT, "x" * 2000
    async with streaming(registry) as reader, connected(registry) as silent:
        await silent.send(request(f"GET {API}/changes/stream HTTP/1.1"))
        await until(lambda: len(feed._listeners) == 2)
        for _ in range(12):
            await append(db, feeds.KEPT, reason=reason)
        assert await seqs(reader, count) == list(range(1, count + 1))
        # Being behind is not enough: the client must also have been silent for a while.
        assert len(feed._listeners) == 2
        feed.clock = lambda: time.monotonic() + feeds.STALLED_SECONDS + 1
        await append(db, feeds.BATCH)
        assert len(await seqs(reader, feeds.BATCH)) == feeds.BATCH
        assert feeds.CUT_OFF._value.get() == before + 1
        assert len(feed._listeners) == 1
        received = b""
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(30):
                while data := await silent.reader.read(1 << 20):
                    received += data
    last = int(received[: received.rindex(b"\n\n")].rsplit(b"\nid: ", 1)[1].split(b"\n")[0])
    assert last < count
    async with streaming(registry, {"Last-Event-ID": str(last)}) as resumed:
        assert (await seqs(resumed, 1))[0] == last + 1


async def test_too_many_listeners_are_refused(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feeds, "MOST_LISTENERS", 1)
    async with streaming(registry):
        for path in ("/changes/stream", "/changes?wait=60"):
            answer = await registry.get(path)
            check_error(answer, 503)
            assert answer.headers["Retry-After"]


class CountingLog(ChangeLog):
    """Counts what is asked of the database."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self.asked = 0

    async def read(self, after: int, count: int, packages: frozenset[str] | None = None) -> Page:
        self.asked += 1
        return await super().read(after, count, packages)

    async def head(self) -> Head:
        self.asked += 1
        return await super().head()


async def test_a_thousand_listeners_cost_one_read_for_each_announcement(
    db: Database, database_url: str, announcements: Announcements
):
    log = CountingLog(db)
    feed = Feed(log, announcements)
    async with AsyncExitStack() as stack:
        other_process = await stack.enter_async_context(
            open_database(Settings.read({"REGISTRY_DB_URL": database_url}).database)
        )
        await stack.enter_async_context(running({"changes": feed.run}))
        listeners = [stack.enter_context(feed.listening(0)) for _ in range(1000)]
        await until(lambda: log.asked == 2)  # the head, and what came after it
        waiting = [asyncio.create_task(each.next(60)) for each in listeners]
        log.asked = 0
        await append(other_process, 3)
        for found in await asyncio.gather(*waiting):
            assert [entry.change["seq"] for entry in found] == [1, 2, 3]
        assert log.asked == 1
        # While nothing happens, not even a listener whose time is up reads anything.
        assert await asyncio.gather(*(each.next(0.5) for each in listeners)) == [[]] * 1000
        assert log.asked == 1


async def test_a_feed_without_listeners_reads_nothing(db: Database, announcements: Announcements):
    log = CountingLog(db)
    feed = Feed(log, announcements)
    async with running({"changes": feed.run}):
        with feed.listening(0) as listener:
            await append(db)
            assert len(await listener.next(60)) == 1
        await append(db)
        await until(lambda: feed._kept_from is None)
        log.asked = 0
        await append(db)
        await until(lambda: not feed._wakeup.is_set())
        assert log.asked == 0
        with feed.listening(1) as listener:
            assert [entry.change["seq"] for entry in await listener.next(60)] == [2, 3]


async def test_a_listener_misses_nothing_that_happens_while_it_joins(db: Database, announcements: Announcements):
    feed = Feed(ChangeLog(db), announcements)
    async with running({"changes": feed.run}):

        async def take(count: int) -> list[int]:
            found: list[int] = []
            with feed.listening(0) as listener:
                while len(found) < count:
                    found += [entry.change["seq"] for entry in await listener.next(60)]
            return found

        async with asyncio.timeout(60):
            taking = []
            for _ in range(40):
                taking.append(asyncio.create_task(take(40)))
                await append(db)
            for found in await asyncio.gather(*taking):
                assert found == list(range(1, 41))
