"""Follows the event log in batches, with a cursor in PostgreSQL. Delivery is at least once.

One process at a time runs each consumer; the others wait to take over. A handler gets batches in order. It must read
the current rows itself and must be idempotent: a batch is handled again when the process dies before it saved the
cursor.
"""

import asyncio
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import sqlalchemy as sa
from prometheus_client import Counter
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Database, statement
from registry.db.lock_numbers import CONSUMER_CLASS
from registry.db.tables import consumers
from registry.errors import DatabaseUnavailable, Unavailable
from registry.events import locks
from registry.events import log as event_log
from registry.events.announcements import Announcements, wait
from registry.events.log import CHANNEL, Event

log = logging.getLogger(__name__)

ERRORS = Counter("registry_consumer_errors_total", "Batches a consumer failed to handle", ["consumer"])

CLIENTS = "clients"
"""The consumer that counts the clients of downloads."""

PROGRESS = "registry_consumers"
"""Announces "NAME SEQ" when a consumer has saved its cursor."""

Handler = Callable[[Sequence[Event]], Awaitable[None]]
# Reads up to `count` entries after a seq, in order: (conn, after, count). Each entry has a `seq`. As in the event log,
# the order must be that of the commits, or a consumer misses entries.
Reader = Callable[[Connection, int, int], Awaitable[Sequence[Any]]]

BATCH = 500
POLL_SECONDS = 1.0
REST_FACTOR = 3
# The rest for each entry of a batch. With more than 200 entries a second, each rest gathers a larger batch than the one
# before, until the rests have their longest duration. A batch costs a few round trips, however large it is.
REST_FOR_EACH_SECONDS = 0.005
LONGEST_REST_SECONDS = 0.75
BACK_OFF_SECONDS = (0.5, 1.0, 2.0, 5.0)

_START = statement(insert(consumers).values(name=p("name"), seq=p("seq")).on_conflict_do_nothing())
_SAVE = statement(
    sa.update(consumers)
    .where(consumers.c.name == p("consumer"), consumers.c.seq == p("from_seq"))
    .values(seq=p("to_seq"), updated_at=sa.func.now(), failure=None, failed_at=None)
)
_FAIL = statement(
    sa.update(consumers)
    .where(consumers.c.name == p("consumer"))
    .values(failure=p("reason"), failed_at=sa.func.clock_timestamp())
)
_FAILURES = statement(
    sa.select(consumers.c.name, consumers.c.failure)
    .where(consumers.c.failed_at > consumers.c.updated_at)
    .order_by(consumers.c.name)
)
_RESET = statement(sa.update(consumers).where(consumers.c.name == p("consumer")).values(seq=0))


async def follow(
    db: Database,
    announcements: Announcements,
    name: str,
    handle: Callable[[Sequence[Any]], Awaitable[None]],
    *,
    read: Reader = event_log.read_after,
    pause: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Handles the log for ever, starting at the saved cursor of `name`. Ends only by cancellation.

    The log is the event log, unless `read` reads another one. A failed batch is logged, counted and retried after a
    pause. The cursor moves when a batch has succeeded. See `lead()` for `pause`, `clock` and `sleep`.
    """

    async def step() -> int:
        return await _step(db, name, handle, read)

    await lead(db, announcements, name, step, pause=pause, clock=clock, sleep=sleep)


async def lead(
    db: Database,
    announcements: Announcements,
    name: str,
    step: Callable[[], Awaitable[int]],
    *,
    batch: int = BATCH,
    start: Callable[[Connection], Awaitable[int]] | None = None,
    pause: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Runs `step` again and again, in one process at a time. Ends only by cancellation.

    A step handles up to `batch` entries, saves the cursor of `name`, and returns the number of entries. The first
    cursor is the one that `start` returns, or 0. A step with fewer than `batch` entries has caught up. Then the
    consumer rests, so that it handles a busy log in larger batches: for `pause` seconds, or longer after a long or
    large batch: for REST_FACTOR times its duration, or REST_FOR_EACH_SECONDS for each entry, up to
    LONGEST_REST_SECONDS. A failed step is logged, counted and repeated after a pause. `clock` measures the duration of
    a batch, and `sleep` waits during the rest.
    """
    failed_in_a_row = 0
    ERRORS.labels(name)  # creates the series at 0, so that alerts see the first failure as an increase
    while True:
        try:
            async with locks.held(db, CONSUMER_CLASS, zlib.crc32(name.encode()) - (1 << 31)):
                log.info("consumer started as leader", extra={"consumer": name})
                async with db.transaction() as conn:
                    await conn.run(_START, name=name, seq=0 if start is None else await start(conn))
                with announcements.wakeups(CHANNEL) as wakeup:
                    while True:
                        began = clock()
                        handled = await step()
                        failed_in_a_row = 0
                        if handled < batch:
                            rest = max(REST_FACTOR * (clock() - began), REST_FOR_EACH_SECONDS * handled)
                            await sleep(max(pause, min(rest, LONGEST_REST_SECONDS)))
                            await wait(wakeup, POLL_SECONDS)
                            wakeup.clear()
        except Unavailable as error:
            log.warning(
                "consumer stopped because a server is unavailable", extra={"consumer": name, "reason": error.detail}
            )
            if not isinstance(error, DatabaseUnavailable):
                await _save_failure(db, name, error.detail)
        except Exception:  # a bug in a handler must not end the loop: the batch is retried
            log.exception("consumer failed", extra={"consumer": name})
        ERRORS.labels(name).inc()
        await asyncio.sleep(BACK_OFF_SECONDS[min(failed_in_a_row, len(BACK_OFF_SECONDS) - 1)])
        failed_in_a_row += 1


async def wait_until_handled(db: Database, announcements: Announcements, name: str, seq: int, seconds: float) -> bool:
    """Waits up to `seconds` until consumer `name` has handled `seq`. Returns whether it has.

    Reads the cursor once, and again when the consumer announces that it passed `seq`. A process that receives no
    announcements reads the cursor every POLL_SECONDS.
    """
    deadline = time.monotonic() + seconds
    wakeup = asyncio.Event()

    def announced(_: str, payload: str) -> None:
        consumer, _, position = payload.rpartition(" ")
        if consumer == name and int(position) >= seq:
            wakeup.set()

    unsubscribe = announcements.subscribe(PROGRESS, announced=announced, resumed=wakeup.set)
    try:
        while True:
            wakeup.clear()
            async with db.read() as conn:
                if await event_log.position(conn, name) >= seq:
                    return True
            while not wakeup.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                await wait(wakeup, min(left, POLL_SECONDS))
                if not announcements.is_listening:
                    break
    finally:
        unsubscribe()


async def _save_failure(db: Database, name: str, reason: str) -> None:
    """Stores why `name` waits, so that /health of every process can show it. The next successful batch clears it."""
    try:
        async with db.transaction() as conn:
            await conn.run(_FAIL, consumer=name, reason=reason)
    except DatabaseUnavailable:
        log.info("the failure of a consumer could not be stored", extra={"consumer": name})


async def failures(conn: Connection) -> list[tuple[str, str]]:
    """(consumer, reason) of each consumer whose last batch failed."""
    return [(row.name, row.failure) for row in await conn.all(_FAILURES)]


async def replay(conn: Connection, name: str) -> None:
    """Resets the cursor of `name`, so that the consumer handles the whole log again."""
    await conn.run(_RESET, consumer=name)


async def _step(db: Database, name: str, handle: Callable[[Sequence[Any]], Awaitable[None]], read: Reader) -> int:
    """Handles one batch of up to BATCH entries. Returns their number."""
    async with db.read() as conn:
        cursor = await event_log.position(conn, name)
        batch = await read(conn, cursor, BATCH)
    if not batch:
        return 0
    await handle(batch)
    # If this is lost, the batch is handled again.
    async with db.transaction(durable=False) as conn:
        await save(conn, name, cursor, batch[-1].seq)
    return len(batch)


async def save(conn: Connection, name: str, from_seq: int, to_seq: int) -> None:
    """Moves the cursor of `name` and announces it.

    Changes nothing when another leader has moved the cursor; the next step reads the new position.
    """
    await conn.run(_SAVE, consumer=name, from_seq=from_seq, to_seq=to_seq)
    conn.announce(PROGRESS, f"{name} {to_seq}")
