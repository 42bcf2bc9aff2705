"""The parts that every check uses. A check finds faults, and may be able to repair them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from registry.analytics.index import AnalyticsIndex
from registry.db.engine import Connection, Database, Row
from registry.packages import sweep
from registry.search.index import SearchIndex
from registry.settings import Settings
from registry.storage.base import Storage

EXAMPLES = 5
PAGE = 1_000
# A difference that comes from work in progress has gone after this time.
SETTLE_SECONDS = 3.0

Progress = Callable[[str], None]
"""Called with a text that says what is being checked and how far the check is."""
ReadPage = Callable[[Connection, Any, int], Awaitable[list[Row]]]
"""Gets (conn, after, size) and returns up to `size` rows that come after `after`."""


@dataclass(frozen=True)
class Registry:
    """The resources to check. Without Elasticsearch `dashboards` is None and `index` is not configured.

    A check waits for `settle_seconds` before it reports a difference that work in progress may explain. The repair of
    orphans waits for `sweep_settle`, as a sweep does.
    """

    settings: Settings
    db: Database
    storage: Storage
    index: SearchIndex
    dashboards: AnalyticsIndex | None
    progress: Progress
    settle_seconds: float = SETTLE_SECONDS
    sweep_settle: timedelta = sweep.SETTLE

    async def settle(self) -> None:
        await asyncio.sleep(self.settle_seconds)


@dataclass
class Found:
    """The number of faults, and descriptions of up to EXAMPLES of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)

    def note(self, remark: str) -> None:
        """Shows `remark` in the report. It does not count as wrong."""
        self.examples.append(remark)


@dataclass(frozen=True)
class Check:
    """`law` says what must be true. `remedy` says what `repair` does or, without `repair`, what a person has to do.

    `find` must not report differences that come from work in progress. If a `vital` check finds a fault, no later
    check runs.
    """

    name: str
    law: str
    remedy: str
    find: Callable[[Registry], Awaitable[Found]]
    repair: Callable[[Registry], Awaitable[object]] | None = None
    vital: bool = False


def reading(read: Callable[[Connection], Awaitable[Found]]) -> Callable[[Registry], Awaitable[Found]]:
    """Makes the `find` of a check that only needs a connection to PostgreSQL."""

    async def find(registry: Registry) -> Found:
        async with registry.db.read() as conn:
            return await read(conn)

    return find


def writing(write: Callable[[Connection], Awaitable[None]]) -> Callable[[Registry], Awaitable[None]]:
    """Makes a `repair` that runs in one transaction."""

    async def repair(registry: Registry) -> None:
        async with registry.db.transaction() as conn:
            await write(conn)

    return repair


def refused_documents(read: ReadPage) -> Callable[[Registry], Awaitable[Found]]:
    """Makes the `find` of a check for documents that Elasticsearch refused. `read` reads them."""

    async def find(registry: Registry) -> Found:
        found = Found()
        async for rows in pages(registry, read, "document", "", PAGE):
            for row in rows:
                found.add(f"{row.document}: {row.reason}")
        return found

    return find


async def pages(registry: Registry, read: ReadPage, key: str, first: object, size: int) -> AsyncIterator[list[Row]]:
    """Reads all rows in pages, ordered by the column `key`. The first page starts after `first`."""
    after = first
    while True:
        async with registry.db.read() as conn:
            rows = await read(conn, after, size)
        if not rows:
            return
        yield rows
        after = getattr(rows[-1], key)
