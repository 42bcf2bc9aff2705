"""Is the log of events whole, does it say what the rows say, and is every consumer within it?"""

from registry.db.engine import Connection
from registry.doctor import store
from registry.doctor.check import Check, Found, reading, writing
from registry.events import consumer


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
        reading(store.gaps),
        writing(store.fill_gaps),
    ),
    Check(
        "events",
        "the log tells what versions and packages are: published, deleted, yanked, deprecated",
        "append the events that are missing; consumers follow them",
        reading(store.untold),
        writing(store.tell),
    ),
    Check(
        "published rows",
        "every version that the log tells of has its row",
        "restore the row from a backup of PostgreSQL",
        reading(store.lost_rows),
    ),
    Check(
        "cursors",
        "no consumer has handled more than its log has",
        "set it back to the beginning; what it writes again stays what it is",
        reading(_cursors),
        writing(_replay),
    ),
)
