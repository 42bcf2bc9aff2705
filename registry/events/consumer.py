"""Follows the event log: one active consumer of a name in the whole fleet, a cursor in PostgreSQL, at-least-once.

A handler gets batches in order, re-reads the truth by itself, and must be idempotent: a batch whose cursor was not
saved comes again.
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
from registry.db.tables import consumers
from registry.errors import Unavailable
from registry.events import log as event_log
from registry.events.log import CHANNEL, Event

log = logging.getLogger(__name__)

ERRORS = Counter("registry_consumer_errors_total", "Batches a consumer failed to handle", ["consumer"])

Handler = Callable[[Sequence[Event]], Awaitable[None]]
# Up to so many after a seq, in order; each has a `seq`. Another log than the events' must keep its promise on commits.
Reader = Callable[[Connection, int, int], Awaitable[Sequence[Any]]]

BATCH = 500
POLL_SECONDS = 1.0
LEADER_RETRY_SECONDS = 1.0
REST = 3
LONGEST_REST_SECONDS = 1.0
BACK_OFF_SECONDS = (0.5, 1.0, 2.0, 5.0)

_TRY_LOCK = statement(
    sa.select(sa.func.pg_try_advisory_lock(p("class_", type_=sa.Integer), p("key", type_=sa.Integer)))
)
LOCK_CLASS = 4202
_START = statement(insert(consumers).values(name=p("name"), seq=0).on_conflict_do_nothing())
_SAVE = statement(
    sa.update(consumers)
    .where(consumers.c.name == p("consumer"), consumers.c.seq == p("from_seq"))
    .values(seq=p("to_seq"), updated_at=sa.func.now())
)
_RESET = statement(sa.update(consumers).where(consumers.c.name == p("consumer")).values(seq=0))


async def follow(
    db: Database,
    name: str,
    handle: Callable[[Sequence[Any]], Awaitable[None]],
    *,
    read: Reader = event_log.read_after,
    pause: float = 0.0,
) -> None:
    """Handles the log for ever, from where `name` stopped last; ends only by cancellation.

    The log is the events', unless `read` reads another. What comes within `pause` seconds of a batch is the next one,
    of one that took long within REST times as long: the busier the log, the larger the batches.
    A failing batch is logged, counted and tried again after a pause; the cursor stays where it is.
    """
    failures = 0
    ERRORS.labels(name)  # known from the start, so that the first failure is an increase
    while True:
        try:
            async with db.session() as (conn, notifies):
                await _lead(conn, name)
                await conn.command(f"LISTEN {CHANNEL}")
                await conn.run(_START, name=name)
                while True:
                    began = time.monotonic()
                    caught_up = await _step(db, name, handle, read)
                    failures = 0
                    if caught_up:
                        rest = min(REST * (time.monotonic() - began), LONGEST_REST_SECONDS)
                        await asyncio.sleep(max(pause, rest))
                        await _woken(notifies)
        except Unavailable as error:
            log.warning("consumer waits", extra={"consumer": name, "reason": error.detail})
        except Exception:  # whatever a handler raises must not end the loop: the log waits, the error is counted
            log.exception("consumer failed", extra={"consumer": name})
        ERRORS.labels(name).inc()
        await asyncio.sleep(BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)])
        failures += 1


async def replay(conn: Connection, name: str) -> None:
    """Sets the cursor of `name` back to the beginning of the log."""
    await conn.run(_RESET, consumer=name)


async def _lead(conn: Connection, name: str) -> None:
    """Waits until no other process leads; the lock ends with the session, so the next try follows a dead leader."""
    key = zlib.crc32(name.encode()) - (1 << 31)
    while not await try_lock(conn, LOCK_CLASS, key):
        await asyncio.sleep(LEADER_RETRY_SECONDS)
    log.info("consumer leads", extra={"consumer": name})


async def try_lock(conn: Connection, class_: int, key: int) -> bool:
    """Whether the session got the advisory lock, which it then holds to its end."""
    return bool(await conn.value(_TRY_LOCK, class_=class_, key=key))


async def _step(db: Database, name: str, handle: Callable[[Sequence[Any]], Awaitable[None]], read: Reader) -> bool:
    """One batch; True when it was the last for now."""
    async with db.read() as conn:
        cursor = await event_log.position(conn, name)
        batch = await read(conn, cursor, BATCH)
    if not batch:
        return True
    await handle(batch)
    async with db.transaction() as conn:
        # Refused when another leader moved it meanwhile; the next step reads where it is now.
        await conn.run(_SAVE, consumer=name, from_seq=cursor, to_seq=batch[-1].seq)
    return len(batch) < BATCH


async def _woken(notifies: "asyncio.Queue[object]") -> None:
    """Returns when an event was announced, or after the polling interval."""
    try:
        async with asyncio.timeout(POLL_SECONDS):
            await notifies.get()
    except TimeoutError:
        return
    while not notifies.empty():
        notifies.get_nowait()
