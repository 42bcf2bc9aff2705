"""Indexes the packages and versions of events from their current rows, also in an index that a rebuild is filling."""

from collections.abc import Iterable, Sequence

from prometheus_client import Counter

from registry.db.engine import Connection, Database, Row
from registry.elastic import IndexMissing
from registry.events import log as event_log
from registry.events.log import Event
from registry.search import store
from registry.search.documents import PACKAGES, VERSIONS, document, package_id, version_id
from registry.search.index import SearchIndex
from registry.search.meaning.vectors import add_vectors
from registry.search.visible import make_searchable
from registry.search.writes import Write, reference

FAILED = Counter("registry_index_documents_failed_total", "Documents that the search engine refused")
CONSUMER = "search"
# When a rebuild ends during a bulk write, an alias disappears. The next try uses the aliases that exist then.
TRIES = 3
PAGE = 500
_OF_ALL_VERSIONS = (event_log.PACKAGE_QUARANTINED, event_log.PACKAGE_RELEASED)


async def index_events(
    db: Database, index: SearchIndex, events: Sequence[Event], *, building_only: bool = False
) -> None:
    """Updates the documents of the packages and versions that `events` name: at most two for each event.

    When a package is put in quarantine or released, also the documents of all its versions.

    Raises SearchUnavailable; IndexMissing when there is no index to write to.
    """
    changes = [event for event in events if event.is_about_package]
    async with db.read(snapshot=True) as conn:
        writes = await writes_of(
            conn, {event.package for event in changes}, {(e.package, e.version) for e in changes if e.version}
        )
    await write(db, index, writes, building_only=building_only)
    for package in {e.package_id for e in changes if e.type in _OF_ALL_VERSIONS and e.package_id is not None}:
        await _index_versions(db, index, package, building_only=building_only)


async def _index_versions(db: Database, index: SearchIndex, package: int, *, building_only: bool) -> None:
    """Updates the documents of all versions of a package, in pages."""
    after = 0
    while True:
        async with db.read(snapshot=True) as conn:
            rows = await store.versions_of(conn, package, after, PAGE)
            if not rows:
                return
            writes = await writes_of(conn, set(), {(row.name, row.version) for row in rows})
        await write(db, index, writes, building_only=building_only)
        after = rows[-1].id


async def write(db: Database, index: SearchIndex, writes: Sequence[Write], *, building_only: bool = False) -> int:
    """Writes documents, and records in PostgreSQL which ones Elasticsearch refuses. Returns how many it refuses.

    With a sentence model, documents of packages get their vectors first.
    """
    if index.encoder is not None:
        writes = await add_vectors(db, index.encoder, writes)
    for last_try in (False,) * (TRIES - 1) + (True,):
        try:
            outcome = await index.bulk(writes, building_only=building_only)
            break
        except IndexMissing:
            if last_try or building_only:
                raise
    by_reference = {reference(each): each for each in writes}
    failed: list[dict[str, object]] = [
        {"document": key, "package": by_reference[key].package, "seq": by_reference[key].seq, "reason": reason}
        for key, reason in outcome.failed.items()
    ]
    FAILED.inc(len(failed))
    async with db.transaction() as conn:
        await store.save_outcome(conn, succeeded=[k for k in by_reference if k not in outcome.failed], failed=failed)
    return len(failed)


async def retry_failures(db: Database, index: SearchIndex) -> None:
    """Retries the documents that Elasticsearch refused, with their current rows. Raises SearchUnavailable."""
    after = ""
    while True:
        async with db.read(snapshot=True) as conn:
            failed = await store.failures(conn, after, PAGE)
            if not failed:
                return
            stem = f"{VERSIONS}:"
            versions = {
                (row.package, row.document.removeprefix(f"{stem}{row.package}@"))
                for row in failed
                if row.document.startswith(stem)
            }
            writes = await writes_of(conn, {row.package for row in failed}, versions)
        await write(db, index, writes)
        await make_searchable(db, index)
        after = failed[-1].document


def package_writes(rows: Iterable[Row], seq: int) -> list[Write]:
    return [Write(PACKAGES, package_id(row), row.name, seq, document(row)) for row in rows]


def version_writes(rows: Iterable[Row], seq: int) -> list[Write]:
    return [Write(VERSIONS, version_id(row.name, row.version), row.name, seq, document(row)) for row in rows]


async def writes_of(conn: Connection, names: set[str], versions: set[tuple[str, str]]) -> list[Write]:
    """Writes for these packages and versions from the snapshot of `conn`: deletions for those that no longer exist."""
    seq = await event_log.last_seq(conn)
    puts = package_writes(await store.packages_named(conn, names), seq)
    if versions:
        puts += version_writes(await store.versions_named(conn, versions), seq)
    wanted = {(PACKAGES, name): name for name in names}
    wanted |= {(VERSIONS, version_id(name, version)): name for name, version in versions}
    for put in puts:
        del wanted[put.kind, put.id]
    return [*puts, *(Write(kind, id_, package, seq, None) for (kind, id_), package in wanted.items())]
