"""HTTP of search: parse, search, answer."""

from datetime import datetime
from typing import TypedDict

from aiohttp import web

from registry.keys import DB
from registry.search import search as use_case
from registry.search.index import SearchIndex
from registry.search.request import PARAMETERS, SUGGEST_PARAMETERS, SearchRequest, parse_suggest
from registry.web.responses import json_response
from registry.web.route import Route

SEARCH = web.AppKey("search", SearchIndex)


class Highlight(TypedDict):
    """HTML: text escaped, what matched between `<em>` and `</em>`."""

    name: str
    description: str


class Result(TypedDict):
    """`score` is from 0 to 1 and falls with the order; it can't be compared between queries."""

    name: str
    version: str
    description: str
    downloads: int
    author: str
    score: float
    latest_version: str
    total_downloads: int
    license: str
    keywords: list[str]
    updated_at: datetime
    highlight: Highlight


class FacetValue(TypedDict):
    value: str
    count: int


class _SearchPageRequired(TypedDict):
    results: list[Result]
    packages: list[Result]
    total: int
    limit: int
    offset: int
    took_ms: int
    degraded: bool
    next_cursor: str | None


class SearchPage(_SearchPageRequired, total=False):
    """`packages` is `results` once more; `degraded` says that PostgreSQL answered in Elasticsearch's place."""

    suggestion: str
    facets: dict[str, list[FacetValue]]


class Suggestions(TypedDict):
    query: str
    suggestions: list[str]


async def search(request: web.Request) -> web.StreamResponse:
    wanted = SearchRequest.parse(list(request.query.items()))
    return json_response(await use_case.search(request.app[DB], request.app[SEARCH], wanted))


async def suggest(request: web.Request) -> web.StreamResponse:
    q = parse_suggest(list(request.query.items()))
    return json_response(await use_case.suggest(request.app[DB], request.app[SEARCH], q))


ROUTES = (
    Route("GET", "/api/v1/search", search, "Search packages", limit="search", parameters=PARAMETERS,
          answers={200: SearchPage}),
    Route("GET", "/api/v1/search/suggest", suggest, "Complete a name", limit="search",
          parameters=SUGGEST_PARAMETERS, answers={200: Suggestions}),
)  # fmt: skip
