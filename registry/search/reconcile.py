"""Compares PostgreSQL with both indices, page by page, and repairs differences.

The consumer of the event log keeps the indices complete. Differences have other causes: an index that was restored or
edited by hand, or a bug. Download counts are compared by `download_step`, because counts/ updates large ones by steps.
After a restore of PostgreSQL from an older backup, the seqs of documents are too high for a repair. Rebuild then.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from prometheus_client import Counter, Gauge

from registry.db.engine import Database
from registry.events import log as event_log
from registry.search import store
from registry.search.documents import PACKAGES, VERSIONS, Document, download_step, version_id
from registry.search.index import KINDS, SearchIndex
from registry.search.indexing import CONSUMER, package_writes, version_writes, write
from registry.search.meaning.encoder import FIELDS
from registry.search.visible import make_searchable
from registry.search.writes import Write, reference

log = logging.getLogger(__name__)

DIFFERENCES = Counter(
    "registry_index_differences_total",
    "Documents that differed from PostgreSQL and were repaired",
    ["index", "difference"],
)
LAST_RUN = Gauge("registry_index_reconciled_timestamp_seconds", "When the search index was last compared completely")

PAGE = 500
# The consumer indexes a change within about this time. Only a difference that lasts longer counts.
SETTLE_SECONDS = 3.0
# How often suspects are compared again at most, while the consumer catches up with their events.
LOOKS = 10
DIFFERENT = MISSING, OUTDATED, SURPLUS, DRIFTED = "missing", "outdated", "surplus", "drifted"
UNREPAIRED = "unrepaired"
# Added to the seq of a write, one value for each try. An edit by hand increments a document's version, so that
# Elasticsearch refuses a write with the same seq. A write with seq + 1 replaces the document, and the write of the next
# event, whose seq is at least as high, is still accepted.
SEQ_INCREMENTS = (0, 1, 1)
# Downloads are compared by step. Elasticsearch indexes the README and the slips, but does not return them.
_NOT_COMPARED = frozenset(("downloads", "popularity", "readme", "slips"))

Identity = tuple[str, str]
"""(name, version). For packages only the name identifies the document."""
Difference = tuple[Identity, str, Write]
"""The document, the kind of difference, and the write that repairs it."""
Settle = Callable[[], Awaitable[object]]
"""Waits until the consumer has probably indexed the latest changes."""


async def wait_for_consumer() -> None:
    await asyncio.sleep(SETTLE_SECONDS)


async def reconcile(db: Database, index: SearchIndex, settle: Settle = wait_for_consumer) -> dict[str, int]:
    """Repairs both indices. Returns {"packages missing": count, ..., "versions drifted": count, "unrepaired": count}.

    A difference counts if it is still there after `settle`. Raises SearchUnavailable, DatabaseUnavailable; repairs made
    until then stay.
    """
    found = {f"{kind} {difference}": 0 for kind in KINDS for difference in DIFFERENT}
    found[UNREPAIRED] = 0
    async for kind, suspects in _suspects(db, index):
        await _repair(db, index, kind, suspects, found, settle)
    LAST_RUN.set_to_current_time()
    level = logging.WARNING if any(found.values()) else logging.INFO
    log.log(level, "search index reconciled", extra={"found": found})
    return found


async def differences(
    db: Database, index: SearchIndex, settle: Settle = wait_for_consumer
) -> AsyncIterator[tuple[str, str]]:
    """Yields (missing, outdated, surplus or drifted; document) for what reconcile() would repair, and changes nothing.

    Leaves out drifted counts of packages downloaded since yesterday: counts/ will update them. Raises
    SearchUnavailable, DatabaseUnavailable.
    """
    async for kind, suspects in _suspects(db, index):
        differing = await _settled(db, index, kind, suspects, settle)
        async with db.read() as conn:
            lately = await store.downloaded_lately(conn, [name for (name, _), what, _ in differing if what == DRIFTED])
        for (name, _), what, each in differing:
            if what != DRIFTED or name not in lately:
                yield what, reference(each)


async def _suspects(db: Database, index: SearchIndex) -> AsyncIterator[tuple[str, list[Identity]]]:
    """Yields (kind, documents of a page that differ). The consumer may not have handled their latest events yet."""
    await index.refresh()
    for kind in KINDS:
        async for page in _pages_of_database(db, kind):
            if differing := await _differences(db, index, kind, page):
                yield kind, [identity for identity, _, _ in differing]
        async for page in _pages_of_index(index, kind):
            if surplus := await _surplus(db, kind, page):
                yield kind, surplus


async def _pages_of_database(db: Database, kind: str) -> AsyncIterator[list[Identity]]:
    read = {PACKAGES: store.package_identities_after, VERSIONS: store.version_identities_after}[kind]
    after = 0
    while True:
        async with db.read() as conn:
            rows = await read(conn, after, PAGE)
        if not rows:
            return
        after = rows[-1].id
        yield [(row.name, row.version) for row in rows]


async def _pages_of_index(index: SearchIndex, kind: str) -> AsyncIterator[list[Identity]]:
    after: list[Any] = []
    while True:
        body = {
            "query": {"match_all": {}},
            "size": PAGE,
            "sort": [{"name.raw": "asc"}, {"sort_key": "asc"}, {"version": "asc"}],
            "_source": ["name", "version"],
            "track_total_hits": False,
        }
        answer = await index.search(kind, {**body, "search_after": after} if after else body)
        hits = answer["hits"]["hits"]
        if not hits:
            return
        after = hits[-1]["sort"]
        yield [(hit["_source"]["name"], hit["_source"]["version"]) for hit in hits]


async def _surplus(db: Database, kind: str, identities: Sequence[Identity]) -> list[Identity]:
    """Those of `identities` that must not have a document in the index."""
    async with db.read() as conn:
        if kind == PACKAGES:
            names = await store.shown_names(conn, [name for name, _ in identities])
            return [identity for identity in identities if identity[0] not in names]
        versions = await store.live_versions(conn, identities)
        return [identity for identity in identities if identity not in versions]


async def _repair(
    db: Database, index: SearchIndex, kind: str, suspects: Sequence[Identity], found: dict[str, int], settle: Settle
) -> None:
    settled = differing = await _settled(db, index, kind, suspects, settle)
    for _, difference, _ in settled:
        found[f"{kind} {difference}"] += 1
        DIFFERENCES.labels(kind, difference).inc()
    for raised in SEQ_INCREMENTS:
        if differing:
            await write(db, index, [replace(each, seq=each.seq + raised) for _, _, each in differing])
            differing = await _differences(db, index, kind, suspects)
    if settled:
        await make_searchable(db, index)
    found[UNREPAIRED] += len(differing)


async def _settled(
    db: Database, index: SearchIndex, kind: str, suspects: Sequence[Identity], settle: Settle
) -> list[Difference]:
    """Those of `suspects` that still differ after the consumer has handled all events of their packages.

    Leaves out packages with events that the consumer has not handled yet.
    """
    settled: list[Difference] = []
    position = -1
    for _ in range(LOOKS):
        await settle()
        before = position
        async with db.read() as conn:
            position = await event_log.position(conn, CONSUMER)
        differing = await _differences(db, index, kind, suspects)
        async with db.read() as conn:
            changing = await store.changed_since(conn, [name for (name, _), _, _ in differing], position)
        settled += [each for each in differing if each[0][0] not in changing]
        suspects = [identity for identity, _, _ in differing if identity[0] in changing]
        if not suspects or position == before:
            break
    return settled


async def _differences(db: Database, index: SearchIndex, kind: str, identities: Sequence[Identity]) -> list[Difference]:
    """Compares these documents with the index."""
    truth = await _truth(db, kind, identities)
    indexed = await index.documents(kind, list(truth), ["*"], unrefreshed=True)
    differing = []
    for identity, each in truth.values():
        document = indexed.get(each.id)
        if each.document is None:
            difference = SURPLUS if document is not None else None
        elif document is None:
            difference = MISSING
        else:
            difference = _difference(document, each.document)
        if difference is not None:
            differing.append((identity, difference, each))
    return differing


async def _truth(db: Database, kind: str, identities: Sequence[Identity]) -> dict[str, tuple[Identity, Write]]:
    """The documents that the index should hold, by id. The write has no document if PostgreSQL has no row."""
    async with db.read(snapshot=True) as conn:
        seq = await event_log.last_seq(conn)
        if kind == PACKAGES:
            puts = package_writes(await store.packages_named(conn, {name for name, _ in identities}), seq)
        else:
            puts = version_writes(await store.versions_named(conn, identities), seq)
    rows = {each.id: each for each in puts}
    truth = {}
    for identity in identities:
        id_ = identity[0] if kind == PACKAGES else version_id(*identity)
        truth[id_] = (identity, rows.get(id_) or Write(kind, id_, identity[0], seq, None))
    return truth


def _difference(indexed: Document, truth: Document) -> str | None:
    if _compared(indexed) != _compared(truth):
        return OUTDATED
    return DRIFTED if download_step(indexed.get("downloads", 0)) != download_step(truth["downloads"]) else None


def _compared(document: Document) -> Document:
    return {
        name: value for name, value in document.items() if name not in _NOT_COMPARED and not name.startswith(FIELDS)
    }
