"""The event log and its consumers: order, gaps, leaders, retries, subjects."""

import asyncio
from collections.abc import Sequence

import pytest

from registry.db.engine import Database, Statement
from registry.errors import DatabaseUnavailable, SearchUnavailable
from registry.events import consumer
from registry.events import log as event_log
from registry.events.announcements import Announcements
from registry.events.log import Event
from tests.background import in_background
from tests.until import until


async def append(db: Database, package: str, *, pause: float = 0.0, fail: bool = False) -> int:
    async with db.transaction() as conn:
        await asyncio.sleep(pause)
        seq = await event_log.append(
            conn, event_log.VERSION_PUBLISHED, package_id=None, package=package, version="1.0.0", actor_id=None
        )
        if fail:
            raise KeyError
        return seq


async def read(db: Database) -> list[Event]:
    async with db.read() as conn:
        return await event_log.read_after(conn, 0, 10_000)


async def until_handled(db: Database, name: str, seq: int) -> None:
    async def is_handled() -> bool:
        async with db.read() as conn:
            return await event_log.position(conn, name) >= seq

    await until(is_handled)


async def test_numbers_have_no_gaps_when_transactions_fail(db: Database):
    for index in range(20):
        if index % 3 == 0:
            with pytest.raises(KeyError):
                await append(db, f"p{index}", fail=True)
        else:
            await append(db, f"p{index}")
    assert [event.seq for event in await read(db)] == list(range(1, 14))


async def test_an_event_may_be_about_a_user(db: Database):
    async with db.transaction() as conn:
        await event_log.append(conn, "user.left", subject_type="user", subject_id=7, actor_id=None)
    await append(db, "demo")
    about_user, about_package = await read(db)
    assert (about_user.subject_type, about_user.subject_id, about_user.package_id) == ("user", 7, None)
    assert [each.is_about_package for each in (about_user, about_package)] == [False, True]


async def test_an_event_appended_by_the_former_release_is_about_a_package(db: Database):
    columns = "seq, type, package_id, package, version, actor_id, data"
    async with db.transaction() as conn:
        insert = f"INSERT INTO events ({columns}) VALUES (1, 'version.published', NULL, 'demo', '1.0.0', NULL, '{{}}')"
        await conn.run(Statement(insert, {}))
    [event] = await read(db)
    assert (event.subject_type, event.package, event.is_about_package) == ("package", "demo", True)


async def test_a_reader_sees_events_in_the_order_of_their_numbers(db: Database):
    """Fifty transactions append at once. A reader must never miss a number that appears later."""
    seen: list[int] = []

    async def follow() -> None:
        while len(seen) < 50:
            async with db.read() as conn:
                seen.extend(e.seq for e in await event_log.read_after(conn, seen[-1] if seen else 0, 100))
            await asyncio.sleep(0)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(follow())
        for index in range(50):
            group.create_task(append(db, f"p{index}", pause=(index % 7) / 100))
    assert seen == list(range(1, 51))


async def test_a_consumer_handles_every_event_once_and_in_order(db: Database, announcements: Announcements):
    handled: list[int] = []

    async def handle(events: Sequence[Event]) -> None:
        handled.extend(event.seq for event in events)

    await append(db, "before")
    async with in_background(consumer.follow(db, announcements, "test", handle)):
        for index in range(10):
            await append(db, f"p{index}")
        await until_handled(db, "test", 11)
    assert handled == list(range(1, 12))


async def test_events_that_arrive_while_a_consumer_rests_are_one_batch(db: Database, announcements: Announcements):
    batches: list[list[int]] = []
    rests: list[float] = []
    rested = asyncio.Event()
    now = 100.0

    async def handle(events: Sequence[Event]) -> None:
        nonlocal now
        batches.append([event.seq for event in events])
        now += 0.25

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        await rested.wait()

    await append(db, "long")
    async with in_background(consumer.follow(db, announcements, "test", handle, clock=lambda: now, sleep=rest)):
        await until(lambda: bool(rests))
        for index in range(3):
            await append(db, f"p{index}")
        rested.set()
        await until_handled(db, "test", 4)
    assert rests[0] == consumer.REST_FACTOR * 0.25
    assert batches == [[1], [2, 3, 4]]


async def test_a_consumer_rests_longer_after_a_large_batch(db: Database, announcements: Announcements):
    rests: dict[int, float] = {}
    handled = 0

    async def handle(events: Sequence[Event]) -> None:
        nonlocal handled
        handled = len(events)

    async def rest(seconds: float) -> None:
        rests.setdefault(handled, seconds)

    follow = consumer.follow(db, announcements, "test", handle, pause=0.1, clock=lambda: 100.0, sleep=rest)
    async with in_background(follow):
        for count in (1, 60, 499):
            async with db.transaction() as conn:
                for _ in range(count):
                    await event_log.append(conn, "test", actor_id=None, package="busy")
            await until(lambda count=count: count in rests)
    rests.pop(0, None)
    assert rests == {1: 0.1, 60: 60 * consumer.REST_FOR_EACH_SECONDS, 499: consumer.LONGEST_REST_SECONDS}


async def test_a_failed_batch_is_retried_and_no_event_is_skipped(db: Database, announcements: Announcements):
    handled: list[int] = []
    failures = iter([SearchUnavailable("away"), ValueError("a bug")])

    async def handle(events: Sequence[Event]) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure
        handled.extend(event.seq for event in events)

    await append(db, "one")
    await append(db, "two")
    async with in_background(consumer.follow(db, announcements, "test", handle)):
        await until_handled(db, "test", 2)
    assert handled == [1, 2]


async def test_one_consumer_is_the_leader_and_a_second_one_takes_over(db: Database, announcements: Announcements):
    handled: dict[str, list[int]] = {"a": [], "b": []}

    def handler(who: str) -> consumer.Handler:
        async def handle(events: Sequence[Event]) -> None:
            handled[who].extend(event.seq for event in events)

        return handle

    async with (
        in_background(consumer.follow(db, announcements, "test", handler("a"))) as a,
        in_background(consumer.follow(db, announcements, "test", handler("b"))) as b,
    ):
        tasks = {"a": a, "b": b}
        await append(db, "one")
        await until_handled(db, "test", 1)
        leader = next(who for who, seqs in handled.items() if seqs)
        other = next(who for who in handled if who != leader)
        tasks[leader].cancel()
        await asyncio.wait([tasks[leader]])
        await append(db, "two")
        await until_handled(db, "test", 2)
    assert handled == {leader: [1], other: [2]}


async def test_a_consumer_continues_after_its_session_was_terminated(db: Database, announcements: Announcements):
    handled: list[int] = []

    async def handle(events: Sequence[Event]) -> None:
        handled.extend(event.seq for event in events)

    async def is_appended() -> bool:
        try:
            await append(db, "two")
        except DatabaseUnavailable:  # the pool has connections that PostgreSQL is about to close
            return False
        return True

    async with in_background(consumer.follow(db, announcements, "test", handle)):
        await append(db, "one")
        await until_handled(db, "test", 1)
        async with db.read() as conn:
            await conn.all(
                Statement(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()",
                    {},
                )
            )
        await until(is_appended)
        await until_handled(db, "test", 2)
    assert handled == [1, 2]


async def test_a_replayed_consumer_handles_everything_again(db: Database, announcements: Announcements):
    handled: list[int] = []

    async def handle(events: Sequence[Event]) -> None:
        handled.extend(event.seq for event in events)

    await append(db, "one")
    async with in_background(consumer.follow(db, announcements, "test", handle)):
        await until_handled(db, "test", 1)
        async with db.transaction() as conn:
            await consumer.replay(conn, "test")
        await until_handled(db, "test", 1)
    assert handled == [1, 1]


async def test_the_lag_counts_unhandled_events_and_gives_the_age_of_the_oldest(
    db: Database, announcements: Announcements
):
    async def handle(_: Sequence[Event]) -> None:
        return

    async with in_background(consumer.follow(db, announcements, "test", handle)):
        await append(db, "one")
        await until_handled(db, "test", 1)
    await append(db, "two")
    await append(db, "three")
    async with db.read() as conn:
        [(name, behind, seconds)] = await event_log.lags(conn)
    assert (name, behind) == ("test", 2)
    assert seconds > 0
