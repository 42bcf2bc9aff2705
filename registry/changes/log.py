"""The log of changes: extends the hash chain over the event log, and reads the changes that are chained.

An event is chained after its commit: by a consumer, or by the first reader that finds it. So publishing costs nothing
more, and a client that has published finds its change in the log at once.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime

from registry.changes import store
from registry.changes.chain import FIRST, Change, link, timestamp
from registry.db.engine import Database, Row

log = logging.getLogger(__name__)

# Events that one transaction chains. Hashing this many keeps the event loop busy for a few milliseconds.
BATCH = 200
# A reader chains at most this many batches. The consumer chains a long log from before the chain existed.
BATCHES_OF_READER = 10


@dataclass(frozen=True, slots=True)
class Page:
    """Changes in ascending order, of all packages or of those that the reader sees.

    `last_seq` is the seq of the last change in the log that the reader sees, 0 without any. A reader has seen
    everything up to `end`, which is beyond the last change of the page if no other change followed.
    """

    changes: list[Change]
    last_seq: int
    end: int


@dataclass(frozen=True, slots=True)
class Head:
    """The last change of the chain; seq 0 and 32 zero bytes while there is none. `now` is the database's time."""

    seq: int
    hash: bytes
    now: datetime


class ChangeLog:
    """The log of changes of a process. One task at a time extends the chain, so waiting takes one connection."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._extending = asyncio.Lock()

    async def extend(self, batches: int | None = None) -> None:
        """Chains all events that are not chained yet, or as many as fit in `batches`. Any process may do it."""
        async with self._extending:
            while batches is None or batches > 0:
                if await self._extend_once() < BATCH:
                    return
                batches = None if batches is None else batches - 1

    async def _extend_once(self) -> int:
        async with self._db.transaction() as conn:
            seq, hash_ = await store.lock_last(conn)
            rows = await store.unchained(conn, seq, BATCH)
            links = []
            for row in rows:
                hash_ = link(hash_, content_of(row))
                links.append((row.seq, hash_))
            if links:
                await store.add(conn, links)
        return len(rows)

    async def read(self, after: int, count: int, packages: frozenset[str] | None = None) -> Page:
        """Up to `count` changes above the seq `after`, of all packages or of those named in `packages`.

        For only some packages, the changes have no hashes: nobody can check a hash without all changes before it.
        """
        rows = await self._read(after, count, packages)
        if rows[0].behind:
            await self.extend(BATCHES_OF_READER)
            rows = await self._read(after, count, packages)
        found = [change_of(row, with_hash=packages is None) for row in rows if row.seq is not None]
        end = found[-1]["seq"] if len(found) == count else max(after, rows[0].head)
        return Page(found, rows[0].last_seq, end)

    async def _read(self, after: int, count: int, packages: frozenset[str] | None) -> list[Row]:
        async with self._db.read() as conn:
            return await store.read(conn, after, count, packages)

    async def head(self) -> Head:
        """The end of the chain, after all committed events are chained."""
        row = await self._head()
        if row.behind:
            await self.extend(BATCHES_OF_READER)
            row = await self._head()
        return Head(row.seq, FIRST if row.hash is None else bytes(row.hash), row.now)

    async def _head(self) -> Row:
        async with self._db.read() as conn:
            return await store.head(conn)


def content_of(row: Row) -> Change:
    """The change that a row of the event log describes, without its hash."""
    return {
        "seq": row.seq,
        "at": timestamp(row.created_at),
        "type": row.type,
        "package": row.package,
        "version": row.version,
        "details": row.data,
    }


def change_of(row: Row, *, with_hash: bool) -> Change:
    """The change in a row that also has its hash."""
    change = content_of(row)
    if with_hash:
        change["hash"] = bytes(row.hash).hex()
    return change
