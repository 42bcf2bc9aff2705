"""Which packages depend on a package, by their latest versions."""

import asyncio
from collections.abc import Collection

from typing_extensions import TypedDict

from registry.db.engine import Database, Row
from registry.package_format.range_sets import Range, parse
from registry.packages.dependencies import store
from registry.packages.read import found, no_package

# A page for a range reads this many dependents at once, and this many at most.
BATCH = 1_000
MAX_READ = 5_000


class Dependent(TypedDict):
    """A package that depends on another one, its latest version, and the range that this version asks for."""

    name: str
    version: str
    range: str
    description: str


async def dependents_page(
    db: Database, name: str, wanted: Range | None, limit: int, after: str, visible: Collection[str] | None = None
) -> tuple[list[Dependent], str | None]:
    """A page of dependents in the order of their names, and the name after which the next page begins, if there is one.

    With `wanted`, only those whose range and `wanted` allow a common version. A page then shows what was found among
    MAX_READ dependents, so it may have less than `limit` entries. `visible` restricts them to packages with these
    names. Raises NotFound, OtherSpelling, Quarantined.
    """
    async with db.read(snapshot=True) as conn:
        await found(conn, await store.named(conn, name), name, no_package(name))
        if wanted is None:
            rows = await store.dependents(conn, name, after, limit + 1, visible)
            return _page(rows, limit)
        chosen: list[Row] = []
        for _ in range(0, MAX_READ, BATCH):
            rows = await store.dependents(conn, name, after, BATCH, visible)
            chosen += await asyncio.to_thread(_meeting, wanted, rows)
            if len(rows) < BATCH or len(chosen) > limit:
                return _page(chosen, limit)
            after = rows[-1].name
        return [_dependent(row) for row in chosen], after


async def count_dependents(db: Database, name: str, visible: Collection[str] | None = None) -> int:
    """How many packages depend on `name`, of all or of those in `visible`."""
    async with db.read() as conn:
        return await store.count_dependents(conn, name, visible)


def _meeting(wanted: Range, rows: list[Row]) -> list[Row]:
    return [row for row in rows if _meets(wanted, row.range)]


def _meets(wanted: Range, text: str) -> bool:
    try:
        return wanted.meets(parse(text))
    except ValueError:  # published before this kind of range was refused
        return False


def _page(rows: list[Row], limit: int) -> tuple[list[Dependent], str | None]:
    shown = rows[:limit]
    return [_dependent(row) for row in shown], shown[-1].name if len(rows) > limit else None


def _dependent(row: Row) -> Dependent:
    return {"name": row.name, "version": row.version, "range": row.range, "description": row.description}
