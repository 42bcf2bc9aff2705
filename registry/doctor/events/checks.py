"""Checks that the event log is complete, that it agrees with the rows, and that no consumer is ahead of it."""

from registry.db.engine import Connection
from registry.doctor.check import Check, Found, reading, writing
from registry.doctor.events import store
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
        "fill each gap with a `log.lost` event; other checks append the lost events again",
        reading(store.gaps),
        writing(store.fill_gaps),
    ),
    Check(
        "events",
        "every new package, publish, deletion, yank, deprecation and quarantine that the rows show has its event",
        "append the missing events; consumers then handle them",
        reading(store.missing_events),
        writing(store.append_missing_events),
    ),
    Check(
        "published rows",
        "every version that was published according to the log has its row",
        "restore the row from a backup of PostgreSQL",
        reading(store.lost_rows),
    ),
    Check(
        "cursors",
        "no consumer's cursor is beyond the end of its log",
        "reset the cursor to the beginning; handling an event again changes nothing",
        reading(_cursors),
        writing(_replay),
    ),
)
