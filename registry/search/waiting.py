"""Waits until searches find a version."""

from registry.db.engine import Database
from registry.errors import NotReached
from registry.events import log as event_log
from registry.events.announcements import Announcements
from registry.events.consumer import wait_until_handled
from registry.packages import read
from registry.search.fallback import consumer as words
from registry.search.index import SearchIndex
from registry.search.indexing import CONSUMER


async def wait_until_indexed(
    db: Database, index: SearchIndex, announcements: Announcements, name: str, version: str, seconds: float
) -> str:
    """Returns the version's number once searches find its package as it is now.

    Raises NotFound, OtherSpelling, and NotReached when it takes longer than `seconds`.
    """
    row = await read.blob(db, name, version)
    # Without Elasticsearch, PostgreSQL answers searches.
    consumer = CONSUMER if index.is_configured else words.CONSUMER
    async with db.read() as conn:
        seq = await event_log.last_seq_of_package(conn, row.package_id)
    if not await wait_until_handled(db, announcements, consumer, seq, seconds):
        raise NotReached(f"{name} {row.version} was not indexed within {seconds:g} seconds. Ask again.")
    return str(row.version)
