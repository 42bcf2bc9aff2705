"""Search and name completion. They use the index, or PostgreSQL while Elasticsearch is unavailable."""

import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

# pydantic can't describe the TypedDict of `typing` before Python 3.12.
from typing_extensions import TypedDict

from registry.db.engine import Database, Row
from registry.errors import SearchUnavailable
from registry.events import log as event_log
from registry.events.announcements import Announcements
from registry.events.consumer import wait_until_handled
from registry.package_format.texts import normal_form
from registry.packages.read import deprecation_of
from registry.search import query
from registry.search.answers import Answer, AnswerCache
from registry.search.documents import PACKAGES, VERSIONS, Document, timestamp
from registry.search.fallback import consumer as words
from registry.search.fallback import store as fallback
from registry.search.index import SearchIndex
from registry.search.indexing import CONSUMER
from registry.search.meaning.encoder import Vector, vector_of
from registry.search.order import search_in_order
from registry.search.page import (
    Result,
    SearchPage,
    encoded,
    joined,
    may_be_misspelt,
    page_of,
    paged,
    plain_highlight,
    suggestion,
)
from registry.search.request import SearchRequest
from registry.web.responses import dump

log = logging.getLogger(__name__)


class Suggestions(TypedDict):
    """Names that begin with `query`, the most popular first."""

    suggestions: list[str]
    query: str


WAIT_SECONDS = 5.0
SUGGESTIONS = 10


class Searcher:
    """The searches of one process. They share the cache `answers`."""

    def __init__(self, db: Database, index: SearchIndex, announcements: Announcements, answers: AnswerCache) -> None:
        self._db = db
        self._index = index
        self._announcements = announcements
        self._answers = answers

    async def page(self, request: SearchRequest, *, wait_seconds: float = WAIT_SECONDS) -> SearchPage:
        """The page of results for `request`. It is `degraded` when it comes from PostgreSQL.

        Raises DatabaseUnavailable when PostgreSQL is needed and unavailable too.
        """
        page: SearchPage = orjson.loads(await self.body(request, wait_seconds=wait_seconds))
        return page

    async def body(self, request: SearchRequest, *, wait_seconds: float = WAIT_SECONDS) -> bytes:
        """As `page()`, but as JSON."""
        started = time.monotonic()
        try:
            answer = await self._found(request, wait_seconds)
        except SearchUnavailable:
            if request.min_seq:
                await _wait_for(self._db, self._announcements, words.CONSUMER, request.min_seq, wait_seconds)
            answer = encoded(await _from_database(self._db, request))
        return joined(answer, took_ms=round((time.monotonic() - started) * 1000))

    async def suggest(self, q: str, limit: int = SUGGESTIONS, within: frozenset[str] | None = None) -> bytes:
        """Up to `limit` names that begin with `q`, the most popular first, as the JSON of `Suggestions`.

        Only names in `within` unless it is None.
        """
        try:
            max_popularity = await self._index.max_popularity()
            ask = partial(_suggested, self._index, q, limit, max_popularity, within)
            [body] = await self._answer((q, limit, max_popularity, within), ask)
        except SearchUnavailable:
            async with self._db.read() as conn:
                body = dump(_suggestions(q, await fallback.suggest(conn, normal_form(q), limit, within)))
        return body

    async def _found(self, request: SearchRequest, wait_seconds: float) -> Answer:
        """The encoded page from the index, after the wait for `min_seq`. Raises SearchUnavailable."""
        min_seq = request.min_seq
        if min_seq:
            request = replace(request, min_seq=0)
        may_be_behind = min_seq > self._answers.indexed_seq
        if may_be_behind and not self._index.is_away:
            await _wait_for(self._db, self._announcements, CONSUMER, min_seq, wait_seconds)
        max_popularity = await self._index.max_popularity()
        vector = None if self._index.is_away else await vector_of(self._index.encoder, request)
        ask = partial(_from_index, self._index, request, max_popularity, vector)
        if may_be_behind:
            # The announcement of the change may be on its way, so that a cached answer could be older.
            return await ask()
        # If the vector is late, the answer is not cached as that of the search with the vector.
        return await self._answer((request, max_popularity, vector is not None), ask)

    async def _answer(self, key: Hashable, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer from the cache or from `ask`. While Elasticsearch is away, the cache is not used."""
        return await (ask() if self._index.is_away else self._answers.get(key, ask))


async def _suggested(
    index: SearchIndex, q: str, limit: int, max_popularity: float, within: frozenset[str] | None
) -> Answer:
    body = query.build_suggest(normal_form(q), limit, max_popularity, within)
    answer = await search_in_order(index, PACKAGES, body)
    return (dump(_suggestions(q, [hit["_source"]["name"] for hit in answer["hits"]["hits"]])),)


def _suggestions(q: str, names: list[str]) -> Suggestions:
    return {"suggestions": names, "query": q}


async def _from_index(
    index: SearchIndex, request: SearchRequest, max_popularity: float, vector: Vector | None
) -> Answer:
    """The encoded page. Raises SearchUnavailable."""
    kind = VERSIONS if request.every_version else PACKAGES
    answer = await search_in_order(index, kind, query.build(request, max_popularity, vector))
    if request.terms.text and not await _matches_text(index, request, answer, vector):
        answer = await search_in_order(index, kind, query.build_relaxed(request, max_popularity, vector))
    latest: dict[str, Document] = {}
    if request.every_version:
        names = sorted({hit["_source"]["name"] for hit in answer["hits"]["hits"]})
        latest = await index.documents(PACKAGES, names, ["version", "downloads", "deprecation"])
    page = page_of(request, answer, latest)
    if may_be_misspelt(request, answer):
        spelling = answer if "suggest" in answer else await index.search(kind, query.build_spelling(request))
        if likelier := suggestion(request, spelling):
            page["suggestion"] = likelier
    return encoded(page)


async def _matches_text(
    index: SearchIndex, request: SearchRequest, answer: Mapping[str, Any], vector: Vector | None
) -> bool:
    """Whether a package matches by words or name. `answer` is that to query.build() with `vector`."""
    total, hits = answer["hits"]["total"]["value"], answer["hits"]["hits"]
    if vector is None or not total or total > query.MOST_BY_MEANING:
        return bool(total)
    if len(hits) == total:
        return any(query.BY_TEXT in hit["matched_queries"] for hit in hits)
    counted = await index.search(PACKAGES, query.build_count(request))
    return bool(counted["hits"]["total"]["value"])


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


async def _wait_for(db: Database, announcements: Announcements, consumer: str, seq: int, seconds: float) -> None:
    """Returns when `consumer` has handled the change `seq`, when there is no such change yet, or after `seconds`."""
    async with db.read() as conn:
        if seq > await event_log.last_seq(conn):
            return
    if not await wait_until_handled(db, announcements, consumer, seq, seconds):
        log.warning("search is behind", extra={"consumer": consumer, "seq": seq})
