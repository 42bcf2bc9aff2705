"""Updates download counts in the index, only for documents whose count changed enough to affect the score."""

from registry.db.engine import Database
from registry.events import log as event_log
from registry.search import store
from registry.search.documents import PACKAGES, VERSIONS, download_step, version_id
from registry.search.index import SearchIndex
from registry.search.indexing import package_writes, version_writes, write
from registry.search.visible import make_searchable
from registry.search.writes import Write

PAGE = 500


async def refresh_downloads(db: Database, index: SearchIndex, *, days: int = 1) -> int:
    """Re-indexes the versions that were downloaded in the last `days` days, and their packages.

    Skips documents whose `download_step` is still the same. Returns the number of re-indexed documents. If it runs at
    least every `days` days, all counts stay within one step. Raises SearchUnavailable.
    """
    written = 0
    after = ("", "")
    while True:
        async with db.read(snapshot=True) as conn:
            seq = await event_log.last_seq(conn)
            versions = await store.downloaded_versions(conn, days=days, after=after, count=PAGE)
            if not versions:
                break
            writes = package_writes(await store.packages_named(conn, {name for name, _ in versions}), seq)
            writes += version_writes(await store.versions_named(conn, versions), seq)
        changed = await _changed(index, writes, versions)
        await write(db, index, changed)
        written += len(changed)
        after = versions[-1]
    if written:
        await make_searchable(db, index)
    return written


async def _changed(index: SearchIndex, writes: list[Write], versions: list[tuple[str, str]]) -> list[Write]:
    fields = ["downloads"]
    indexed = {
        PACKAGES: await index.documents(PACKAGES, sorted({name for name, _ in versions}), fields),
        VERSIONS: await index.documents(VERSIONS, [version_id(*pair) for pair in versions], fields),
    }
    # The consumer will write documents that are not indexed yet.
    return [
        each
        for each in writes
        if each.document is not None
        and each.id in indexed[each.kind]
        and download_step(indexed[each.kind][each.id]["downloads"]) != download_step(each.document["downloads"])
    ]
