"""Search and name completion. They use the index, or PostgreSQL while Elasticsearch is unavailable."""

import logging
import time

# pydantic can't describe the TypedDict of `typing` before Python 3.12.
from typing_extensions import TypedDict

from registry.db.engine import Database, Row
from registry.errors import SearchUnavailable
from registry.events import log as event_log
from registry.events.announcements import Announcements
from registry.events.consumer import wait_until_handled
from registry.packages.read import deprecation_of
from registry.search import query
from registry.search.documents import PACKAGES, VERSIONS, Document, timestamp
from registry.search.fallback import store as fallback
from registry.search.index import SearchIndex
from registry.search.indexing import CONSUMER
from registry.search.page import Result, SearchPage, may_be_misspelt, page_of, paged, plain_highlight, suggestion
from registry.search.request import SearchRequest
from registry.search.terms import compact_form

log = logging.getLogger(__name__)


class Suggestions(TypedDict):
    """Names that begin with `query`, the most popular first."""

    suggestions: list[str]
    query: str


WAIT_SECONDS = 5.0
SUGGESTIONS = 10


async def search(
    db: Database,
    index: SearchIndex,
    announcements: Announcements,
    request: SearchRequest,
    *,
    wait_seconds: float = WAIT_SECONDS,
) -> SearchPage:
    """The page of results for `request`. It is `degraded` when it comes from PostgreSQL.

    Raises DatabaseUnavailable when PostgreSQL is needed and unavailable too.
    """
    started = time.monotonic()
    if request.min_seq and not index.is_away:
        await _wait_for(db, announcements, request.min_seq, wait_seconds)
    try:
        page = await _from_index(index, request)
    except SearchUnavailable:
        page = await _from_database(db, request)
    page["took_ms"] = round((time.monotonic() - started) * 1000)
    return page


async def suggest(
    db: Database, index: SearchIndex, q: str, limit: int = SUGGESTIONS, within: frozenset[str] | None = None
) -> Suggestions:
    """Up to `limit` names that begin with `q`, the most popular first; only names in `within` unless it is None."""
    try:
        answer = await index.search(PACKAGES, query.build_suggest(q, limit, await index.max_popularity(), within))
        names = [hit["_source"]["name"] for hit in answer["hits"]["hits"]]
    except SearchUnavailable:
        async with db.read() as conn:
            names = await fallback.suggest(conn, compact_form(q), limit, within)
    return {"suggestions": names, "query": q}


async def _from_index(index: SearchIndex, request: SearchRequest) -> SearchPage:
    kind = VERSIONS if request.every_version else PACKAGES
    max_popularity = await index.max_popularity()
    answer = first = await index.search(kind, query.build_with_spelling(request, max_popularity))
    if request.terms.text and not answer["hits"]["total"]["value"]:
        answer = await index.search(kind, query.build_relaxed(request, max_popularity))
    latest: dict[str, Document] = {}
    if request.every_version:
        names = sorted({hit["_source"]["name"] for hit in answer["hits"]["hits"]})
        latest = await index.documents(PACKAGES, names, ["version", "downloads", "deprecation"])
    page = page_of(request, answer, latest)
    if may_be_misspelt(request, answer) and (likelier := suggestion(request, first)):
        page["suggestion"] = likelier
    return page


async def _from_database(db: Database, request: SearchRequest) -> SearchPage:
    async with db.read(snapshot=True) as conn:
        found, total = await fallback.search(conn, request)
    results = [_result(row) for row, _ in found]
    page = paged(request, results, total, [position for _, position in found])
    page["degraded"] = True
    if request.facets:
        page["facets"] = {"author": [], "license": [], "keyword": []}
    return page


def _result(row: Row) -> Result:
    return {
        "name": row.name,
        "version": row.version,
        "description": row.description,
        "downloads": row.downloads,
        "author": row.author,
        "score": round(row.score, 6),
        "latest_version": row.latest_version,
        "total_downloads": row.total_downloads,
        "license": row.license,
        "keywords": row.keywords,
        "updated_at": timestamp(row.updated_at),
        "published_at": timestamp(row.published_at),
        "yanked": row.yanked,
        "yank_reason": row.yank_reason,
        "deprecated": row.deprecated or "",
        "deprecation": deprecation_of(row),
        "highlight": plain_highlight(row.name, row.description),
    }


async def _wait_for(db: Database, announcements: Announcements, seq: int, seconds: float) -> None:
    """Returns when the index has the change `seq`, when there is no such change yet, or after `seconds`."""
    async with db.read() as conn:
        if seq > await event_log.last_seq(conn):
            return
    if not await wait_until_handled(db, announcements, CONSUMER, seq, seconds):
        log.warning("search index is behind", extra={"seq": seq})
