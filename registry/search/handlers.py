"""HTTP of the search: parse, call the use case, answer."""

from aiohttp import web

from registry.keys import DB
from registry.search import search as use_case
from registry.search.index import SearchIndex
from registry.search.page import Page
from registry.search.request import PARAMETERS, SUGGEST_PARAMETERS, SearchRequest, parse_suggest
from registry.web.responses import json_response
from registry.web.route import Route

SEARCH = web.AppKey("search", SearchIndex)


async def search(request: web.Request) -> web.StreamResponse:
    wanted = SearchRequest.parse(list(request.query.items()))
    return json_response(await use_case.search(request.app[DB], request.app[SEARCH], wanted))


async def suggest(request: web.Request) -> web.StreamResponse:
    q = parse_suggest(list(request.query.items()))
    return json_response(await use_case.suggest(request.app[DB], request.app[SEARCH], q))


ROUTES = (
    Route("GET", "/api/v1/search", search, "Search packages", limit="search", parameters=PARAMETERS,
          answers={200: Page}),
    Route("GET", "/api/v1/search/suggest", suggest, "Complete a name as it is typed", limit="search",
          parameters=SUGGEST_PARAMETERS, answers={200: use_case.Suggestions}),
)  # fmt: skip
