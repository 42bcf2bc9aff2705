"""Keeps the index up to date with the event log, and rebuilds a lost index."""

import asyncio
import logging
from collections.abc import Sequence

from registry.db.engine import Database
from registry.elastic import IndexMissing
from registry.errors import Unavailable
from registry.events import consumer as event_consumer
from registry.events.announcements import Announcements
from registry.events.consumer import Handler
from registry.events.log import Event
from registry.search.index import SearchIndex
from registry.search.indexing import CONSUMER, index_events
from registry.search.rebuild import heal
from registry.search.visible import make_searchable

log = logging.getLogger(__name__)

HEAL_SECONDS = 10.0
# The shortest pause between two batches. Under load, one batch and one refresh then cover everything that was published
# meanwhile.
GATHER_SECONDS = 0.2


def handler(db: Database, index: SearchIndex) -> Handler:
    """The handler of a batch of events. When it returns, searches find the changes."""

    async def handle(events: Sequence[Event]) -> None:
        try:
            await index_events(db, index, events)
        except IndexMissing:
            await heal(db, index)
            await index_events(db, index, events)
        await make_searchable(db, index)

    return handle


async def follow(
    db: Database, announcements: Announcements, index: SearchIndex, *, heal_seconds: float = HEAL_SECONDS
) -> None:
    """Indexes until it is cancelled. Returns at once when no Elasticsearch is configured.

    It checks the index every `heal_seconds` and rebuilds it when it is lost.
    """
    if not index.is_configured:
        log.warning("no search engine is configured; PostgreSQL answers searches")
        return
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_keep_healed(db, index, heal_seconds))
        tasks.create_task(event_consumer.follow(db, announcements, CONSUMER, handler(db, index), pause=GATHER_SECONDS))


async def _keep_healed(db: Database, index: SearchIndex, seconds: float) -> None:
    """Checks the index every `seconds`, so that a lost index is rebuilt even when nothing is published."""
    while True:
        try:
            await heal(db, index)
        except Unavailable as error:
            log.warning("search index can't be checked", extra={"reason": error.detail})
        except Exception:  # an unexpected error must not end the loop and with it the consumer
            log.exception("checking the search index failed")
        await asyncio.sleep(seconds)
