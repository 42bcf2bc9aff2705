"""HTTP handlers of the search. Each parses the request, calls a use case and renders its result."""

from dataclasses import replace

from aiohttp import web

from registry.accounts.requests import visible_packages
from registry.keys import ANNOUNCEMENTS, DB
from registry.search import explain as explaining
from registry.search import search as use_case
from registry.search.keys import SEARCH
from registry.search.page import Page
from registry.search.request import (
    EXPLAIN_PARAMETERS,
    PARAMETERS,
    SUGGEST_PARAMETERS,
    SearchRequest,
    parse_explain,
    parse_suggest,
)
from registry.web.responses import json_response
from registry.web.route import Limit, Route


async def search(request: web.Request) -> web.StreamResponse:
    wanted = replace(SearchRequest.parse(list(request.query.items())), within=visible_packages(request))
    app = request.app
    return json_response(await use_case.search(app[DB], app[SEARCH], app[ANNOUNCEMENTS], wanted))


async def suggest(request: web.Request) -> web.StreamResponse:
    q = parse_suggest(list(request.query.items()))
    return json_response(
        await use_case.suggest(request.app[DB], request.app[SEARCH], q, within=visible_packages(request))
    )


async def explain(request: web.Request) -> web.StreamResponse:
    wanted, name = parse_explain(list(request.query.items()))
    wanted = replace(wanted, within=visible_packages(request))
    return json_response(await explaining.explain(request.app[DB], request.app[SEARCH], wanted, name))


SEARCHES = Limit("search", "1000/minute")

ROUTES = (
    Route("GET", "/api/v1/search", search, "Search packages", limit=SEARCHES, parameters=PARAMETERS,
          answers={200: Page}),
    Route("GET", "/api/v1/search/suggest", suggest, "Complete a name as it is typed", limit=SEARCHES,
          parameters=SUGGEST_PARAMETERS, answers={200: use_case.Suggestions}),
    Route("GET", "/api/v1/search/explain", explain, "Why a package ranks where it does, or isn't found", limit=SEARCHES,
          parameters=EXPLAIN_PARAMETERS, answers={200: explaining.Explanation}),
)  # fmt: skip
