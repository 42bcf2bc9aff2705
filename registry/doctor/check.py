"""What a check is: it finds what isn't as it should be, and may know how to mend it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from registry.analytics.index import AnalyticsIndex
from registry.db.engine import Connection, Database, Row
from registry.search.index import SearchIndex
from registry.settings import Settings
from registry.storage.base import Storage

EXAMPLES = 5
# What differs only because something is under way is equal after this.
SETTLE_SECONDS = 3.0

Progress = Callable[[str], None]
"""Hears what is looked at, and how far that is."""


@dataclass(frozen=True)
class Registry:
    """What there is to look at; `dashboards` is None and `index` not configured without Elasticsearch."""

    settings: Settings
    db: Database
    storage: Storage
    index: SearchIndex
    dashboards: AnalyticsIndex | None
    progress: Progress


@dataclass
class Found:
    """How many things are wrong, and up to EXAMPLES of them in words."""

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
    """`law` is what should be true, `remedy` what repair does or, without one, what a person has to do.

    `find` reports nothing that is only under way. Without what a `vital` check asks for no other one can be made.
    """

    name: str
    law: str
    remedy: str
    find: Callable[[Registry], Awaitable[Found]]
    repair: Callable[[Registry], Awaitable[object]] | None = None
    vital: bool = False


def reading(read: Callable[[Connection], Awaitable[Found]]) -> Callable[[Registry], Awaitable[Found]]:
    """`find` of a check that asks PostgreSQL alone."""

    async def find(registry: Registry) -> Found:
        async with registry.db.read() as conn:
            return await read(conn)

    return find


def writing(write: Callable[[Connection], Awaitable[None]]) -> Callable[[Registry], Awaitable[None]]:
    """`repair` of a check, in one transaction."""

    async def repair(registry: Registry) -> None:
        async with registry.db.transaction() as conn:
            await write(conn)

    return repair


async def pages(
    registry: Registry, read: Callable[[Connection, Any, int], Awaitable[list[Row]]], key: str, first: object, size: int
) -> AsyncIterator[list[Row]]:
    """Everything that `read` gives up to `size` rows of, by `key` after the last one's, from after `first` on."""
    after = first
    while True:
        async with registry.db.read() as conn:
            rows = await read(conn, after, size)
        if not rows:
            return
        yield rows
        after = getattr(rows[-1], key)
