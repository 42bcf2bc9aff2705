"""The consumer of the event log that makes a delivery for each change and each webhook that wants it."""

from collections.abc import Iterator, Sequence

from registry.changes.chain import TYPES
from registry.changes.log import ChangeLog
from registry.db.engine import Connection, Database
from registry.events import consumer
from registry.events import log as event_log
from registry.events.announcements import Announcements
from registry.events.log import Event
from registry.jobs import queue
from registry.webhooks import store as webhooks
from registry.webhooks.deliveries import store

CONSUMER = "webhooks"
# The shortest pause between two batches. See consumer.lead() for the longest one, of a busy registry.
GATHER_SECONDS = 0.1
# Changes that one statement turns into deliveries. Each may have one delivery per webhook.
BATCH = 50
FAST, SLOW = "deliver webhooks", "retry webhooks"
"""The kinds of jobs. Webhooks whose last attempt failed or took long have a kind of their own."""

_ROLES = (event_log.PACKAGE_OWNERS_CHANGED, event_log.PACKAGE_TRANSFERRED)


async def follow(db: Database, announcements: Announcements, log: ChangeLog) -> None:
    """Makes deliveries for ever. Ends only by cancellation."""

    async def handle(events: Sequence[Event]) -> None:
        await fan_out(db, log, events)

    await consumer.follow(db, announcements, CONSUMER, handle, pause=GATHER_SECONDS)


async def fan_out(db: Database, log: ChangeLog, events: Sequence[Event]) -> None:
    """Makes the deliveries of a batch of events. May be repeated."""
    changes = [event for event in events if event.type in TYPES]
    if not changes:
        return
    async with db.read() as conn:
        # Most registries have none. Then a publish should not cost two more transactions.
        if not await webhooks.are_any(conn):
            return
    # A delivery contains the hash of its change.
    await log.extend()
    for batch in _batches(changes):
        async with db.transaction() as conn:
            added = await store.add(conn, batch[0].seq, batch[-1].seq, TYPES)
            for row in added:
                await wake(conn, row.host, is_slow=row.is_slow)
            if batch[-1].type in _ROLES and batch[-1].package_id is not None:
                await webhooks.update_roles(conn, [batch[-1].package_id])


def _batches(changes: Sequence[Event]) -> Iterator[list[Event]]:
    """Batches that end after each change of roles, so that the roles are updated before the next change."""
    batch: list[Event] = []
    for event in changes:
        batch.append(event)
        if len(batch) == BATCH or event.type in _ROLES:
            yield batch
            batch = []
    if batch:
        yield batch


async def wake(conn: Connection, host: str, *, is_slow: bool) -> None:
    """Adds the job that delivers to a host, unless it is in the queue or runs."""
    await queue.enqueue(conn, SLOW if is_slow else FAST, {"host": host}, key=host)


async def wake_due(db: Database) -> None:
    """Adds jobs for all due deliveries: for retries, and for what a job that was about to end did not see."""
    async with db.read() as conn:
        hosts = await store.due_hosts(conn)
    if hosts:
        async with db.transaction() as conn:
            for row in hosts:
                await wake(conn, row.host, is_slow=row.is_slow)
