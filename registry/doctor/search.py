"""Checks that both search indices agree with PostgreSQL."""

from registry.doctor.check import Check, Found, Registry, refused_documents
from registry.search import store
from registry.search.indexing import retry_failures
from registry.search.meaning.gaps import add_missing, without_vectors
from registry.search.rebuild import heal, rebuild
from registry.search.reconcile import UNREPAIRED, differences, reconcile


async def _find_missing(registry: Registry) -> Found:
    found = Found()
    if not await registry.index.is_current():
        await registry.settle()
        if not await registry.index.is_current():
            found.add("an index is missing, or has the layout of another release or the vectors of another model")
    return found


async def _heal(registry: Registry) -> None:
    await heal(registry.db, registry.index)


async def _find_differences(registry: Registry) -> Found:
    found = Found()
    if not await registry.index.is_current():
        return found  # the check "search indices" reports it
    async for what, document in differences(registry.db, registry.index, registry.settle):
        found.add(f"{document} is {what}")
    return found


async def _reconcile(registry: Registry) -> None:
    found = await reconcile(registry.db, registry.index, registry.settle)
    if found[UNREPAIRED]:
        # After a restore of PostgreSQL from a backup, the index refuses documents with an older seq. Rebuild it.
        await rebuild(registry.db, registry.index)


async def _retry(registry: Registry) -> None:
    await retry_failures(registry.db, registry.index)


async def _find_gaps(registry: Registry) -> Found:
    found = Found()
    # The check "search indices" reports an outdated index.
    if registry.index.encoder is None or not await registry.index.is_current():
        return found
    async for names in without_vectors(registry.index):
        for name in names:
            found.add(f"{name} has no vector")
    return found


async def _fill_gaps(registry: Registry) -> None:
    await add_missing(registry.db, registry.index)


CHECKS = (
    Check(
        "search indices",
        "both search indices exist, with this release's layout and vectors of the sentence model in use",
        "rebuild them from PostgreSQL",
        _find_missing,
        _heal,
    ),
    Check(
        "refused documents",
        "Elasticsearch has refused no search document",
        "write each again; the next run shows the reason if it is refused again",
        refused_documents(store.failures),
        _retry,
    ),
    Check(
        "search documents",
        "both search indices agree with PostgreSQL; numbers of downloads may be a little behind",
        "write the documents that differ; rebuild the indices if that does not help",
        _find_differences,
        _reconcile,
    ),
    Check(
        "search vectors",
        "with a sentence model, the search document of every package has its vector",
        "encode the texts and write the documents again",
        _find_gaps,
        _fill_gaps,
    ),
)
