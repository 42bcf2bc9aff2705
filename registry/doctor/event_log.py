"""Is the log of events whole, does it say what the rows say, and is every consumer within it?"""

from collections.abc import Awaitable, Callable

from registry.db.engine import Connection
from registry.doctor import store
from registry.doctor.check import Check, Found, Registry
from registry.events import consumer


def _find(read: Callable[[Connection], Awaitable[Found]]) -> Callable[[Registry], Awaitable[Found]]:
    async def find(registry: Registry) -> Found:
        async with registry.db.read() as conn:
            return await read(conn)

    return find


def _mend(write: Callable[[Connection], Awaitable[None]]) -> Callable[[Registry], Awaitable[None]]:
    async def mend(registry: Registry) -> None:
        async with registry.db.transaction() as conn:
            await write(conn)

    return mend


async def _cursors(conn: Connection) -> Found:
    found = Found()
    for row in await store.cursors_beyond(conn):
        found.add(f"{row.name} is at {row.seq}, the log ends at {row.last}")
    return found


async def _replay(conn: Connection) -> None:
    for row in await store.cursors_beyond(conn):
        await consumer.replay(conn, row.name)


CHECKS = (
    Check(
        "event numbers",
        "the log's numbers have no gap",
        "put an event there that says only that one was lost; what it told, the other checks bring back",
        _find(store.gaps),
        _mend(store.fill_gaps),
    ),
    Check(
        "events",
        "the log tells what versions and packages are: published, deleted, yanked, deprecated",
        "append the events that are missing; consumers follow them",
        _find(store.untold),
        _mend(store.tell),
    ),
    Check(
        "published rows",
        "every version that the log tells of has its row",
        "restore the row from a backup of PostgreSQL",
        _find(store.lost_rows),
    ),
    Check(
        "cursors",
        "no consumer has handled more than its log has",
        "set it back to the beginning; what it writes again stays what it is",
        _find(_cursors),
        _mend(_replay),
    ),
)
