"""Finds documents of packages that lack a vector, and adds it.

A process without the model writes such documents: one of the former release during an upgrade, or one whose
REGISTRY_SEARCH_MODEL is not set.
"""

from collections.abc import AsyncIterator
from typing import Any

from registry.db.engine import Database
from registry.search.documents import PACKAGES
from registry.search.index import SearchIndex
from registry.search.indexing import write, writes_of
from registry.search.visible import make_searchable

PAGE = 500


async def without_vectors(index: SearchIndex) -> AsyncIterator[list[str]]:
    """Yields pages of the names of packages whose documents have no vector; none without a model.

    Raises SearchUnavailable.
    """
    after: list[Any] = []
    while index.encoder is not None:
        body = {
            "query": {"bool": {"must_not": {"exists": {"field": index.encoder.field}}}},
            "size": PAGE,
            "sort": [{"name.raw": "asc"}],
            "_source": ["name"],
            "track_total_hits": False,
        }
        hits = (await index.search(PACKAGES, {**body, "search_after": after} if after else body))["hits"]["hits"]
        if not hits:
            return
        after = hits[-1]["sort"]
        yield [hit["_source"]["name"] for hit in hits]


async def add_missing(db: Database, index: SearchIndex) -> int:
    """Writes the documents that lack a vector again. Returns their number.

    Does nothing while the index is of another model: a worker rebuilds it. Raises SearchUnavailable.
    """
    written = 0
    if index.encoder is None or not await index.is_current():
        return written
    async for names in without_vectors(index):
        async with db.read(snapshot=True) as conn:
            writes = await writes_of(conn, set(names), set())
        await write(db, index, writes)
        written += len(names)
    if written:
        await make_searchable(db, index)
    return written
