"""Makes changes of the index visible to searches, and tells all processes about it.

The indices have no refresh interval: Elasticsearch shows written documents to searches only after a refresh that we
request. Each refresh is followed by an announcement, so that a process knows when its cached answers are outdated.
"""

from registry.db.engine import Database
from registry.search.index import SearchIndex

CHANNEL = "registry_index"
"""Announces that searches may find something else than before. The payload is empty."""


async def make_searchable(db: Database, index: SearchIndex) -> None:
    """Makes everything written so far searchable, and announces it. Call it once after the writes.

    Raises SearchUnavailable, DatabaseUnavailable.
    """
    await index.refresh()
    await announce_change(db)


async def announce_change(db: Database) -> None:
    """Makes all processes drop their cached answers. Call it after the change. Raises DatabaseUnavailable."""
    async with db.transaction(durable=False) as conn:
        conn.announce(CHANNEL, "")
