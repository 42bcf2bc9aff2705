"""The consumer of the event log that chains new changes."""

from collections.abc import Sequence

from registry.changes.log import ChangeLog
from registry.db.engine import Database, Row
from registry.events import consumer
from registry.events import log as event_log
from registry.events.announcements import Announcements

CONSUMER = "changes"
# Readers chain what they find, so nobody waits for this consumer. A pause lets it chain many changes at once.
GATHER_SECONDS = 1.0


async def follow(db: Database, announcements: Announcements, log: ChangeLog) -> None:
    """Chains new changes for ever. Ends only by cancellation."""

    async def handle(_: Sequence[Row]) -> None:
        await log.extend()

    await consumer.follow(db, announcements, CONSUMER, handle, read=event_log.seqs_after, pause=GATHER_SECONDS)
