"""Do both search indices hold what PostgreSQL has?"""

import asyncio

from registry.doctor.check import SETTLE_SECONDS, Check, Found, Registry, pages
from registry.search import store
from registry.search.indexing import retry_failures
from registry.search.rebuild import heal, rebuild
from registry.search.reconcile import UNREPAIRED, differences, reconcile

PAGE = 1_000


async def _find_missing(registry: Registry) -> Found:
    found = Found()
    if not await registry.index.is_current():
        await asyncio.sleep(SETTLE_SECONDS)
        if not await registry.index.is_current():
            found.add("there is no index, or one of another layout than this release has")
    return found


async def _heal(registry: Registry) -> None:
    await heal(registry.db, registry.index)


async def _find_differences(registry: Registry) -> Found:
    found = Found()
    if not await registry.index.is_current():
        return found  # "search indices" tells of it
    async for what, document in differences(registry.db, registry.index):
        found.add(f"{document} is {what}")
    return found


async def _reconcile(registry: Registry) -> None:
    mended = await reconcile(registry.db, registry.index)
    if mended[UNREPAIRED]:
        # Documents of an index that is ahead of this database yield to no other.
        await rebuild(registry.db, registry.index)


async def _find_refused(registry: Registry) -> Found:
    found = Found()
    async for rows in pages(registry, store.failures, "document", "", PAGE):
        for row in rows:
            found.add(f"{row.document}: {row.reason}")
    return found


async def _retry(registry: Registry) -> None:
    await retry_failures(registry.db, registry.index)


CHECKS = (
    Check(
        "search indices",
        "both search indices are there, in this release's layout",
        "build them anew from PostgreSQL",
        _find_missing,
        _heal,
    ),
    Check(
        "refused documents",
        "the search engine has refused no document",
        "try each once more; what is refused again says why",
        _find_refused,
        _retry,
    ),
    Check(
        "search documents",
        "both search indices hold what PostgreSQL has, downloads within a step, and nothing else",
        "write what differs, or build the indices anew if that doesn't help",
        _find_differences,
        _reconcile,
    ),
)
