"""Writes the lexemes of packages when they change, so that PostgreSQL finds them while Elasticsearch is unavailable."""

import asyncio
from collections.abc import Iterable, Sequence

from registry.db.engine import Connection, Database, Row
from registry.events import consumer as event_consumer
from registry.events import log as event_log
from registry.events.announcements import Announcements
from registry.events.consumer import Handler
from registry.events.log import Event
from registry.search.documents import MAX_DESCRIPTION, MAX_FIELD, MAX_KEYWORD, MAX_KEYWORDS
from registry.search.fallback.lexemes import ANALYSIS, Texts, vector
from registry.search.fallback.writing import store

CONSUMER = "words"
# While it waits, changes gather for the next batch.
GATHER_SECONDS = 0.5
PAGE = 500


def handler(db: Database) -> Handler:
    """The handler of a batch of events. When it returns, PostgreSQL finds the changes."""

    async def handle(events: Sequence[Event]) -> None:
        seqs = {event.package_id: event.seq for event in events if event.is_about_package and event.package_id}
        async with db.read(snapshot=True) as conn:
            seq = await event_log.last_seq(conn)
            rows = await store.texts_of(conn, await store.changed(conn, seqs, ANALYSIS))
        await _write(db, rows, seq)

    return handle


async def follow(db: Database, announcements: Announcements) -> None:
    """Writes the lexemes of changed packages for ever. Ends only by cancellation.

    In a registry of an earlier release it begins with the first event, and so writes those of all packages.
    """
    await event_consumer.follow(db, announcements, CONSUMER, handler(db), pause=GATHER_SECONDS)


async def rewrite_outdated(db: Database) -> int:
    """Writes the lexemes that are of an older analysis again. Returns their number."""
    written = 0
    while True:
        async with db.read(snapshot=True) as conn:
            seq = await event_log.last_seq(conn)
            rows = await store.texts_of(conn, await store.outdated(conn, ANALYSIS, PAGE))
        if not rows:
            return written
        await _write(db, rows, seq)
        written += len(rows)


async def rewrite(db: Database, ids: Sequence[int]) -> None:
    """Writes the lexemes of these packages again."""
    async with db.read(snapshot=True) as conn:
        seq = await event_log.last_seq(conn)
        rows = await store.texts_of(conn, ids)
    await _write(db, rows, seq)


async def different(conn: Connection, rows: Sequence[Row]) -> list[int]:
    """The ids of those `rows` (of store.texts_of) that have other lexemes than they should."""
    return await store.different(conn, await asyncio.to_thread(_vectors, rows)) if rows else []


async def _write(db: Database, rows: Sequence[Row], seq: int) -> None:
    if rows:
        # In a thread, because a batch takes a second.
        vectors = await asyncio.to_thread(_vectors, rows)
        async with db.transaction() as conn:
            await store.write(conn, vectors, seq=seq, analysis=ANALYSIS)


def _vectors(rows: Iterable[Row]) -> dict[int, str]:
    """The text of the tsvector by the id of the package. A hidden package has no lexemes."""
    return {row.id: vector(_texts(row)) if row.is_shown else "" for row in rows}


def _texts(row: Row) -> Texts:
    return Texts(
        name=row.name,
        description=row.description[:MAX_DESCRIPTION],
        keywords=[keyword[:MAX_KEYWORD] for keyword in dict.fromkeys(row.keywords)][:MAX_KEYWORDS],
        author=row.author[:MAX_FIELD],
        license=row.license[:MAX_FIELD],
        readme=row.readme,
    )
