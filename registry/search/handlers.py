"""HTTP handlers of the search. Each parses the request, calls a use case and renders its result."""

from dataclasses import replace

from aiohttp import web
from typing_extensions import TypedDict

from registry.accounts.requests import visible_packages
from registry.errors import FieldError, InvalidInput
from registry.keys import ANNOUNCEMENTS, DB
from registry.packages.requests import VERSION, name_of, redirect_look_alikes, version_of
from registry.search import explain as explaining
from registry.search import search as use_case
from registry.search import waiting
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
from registry.web.parsing import parse_number
from registry.web.responses import json_response
from registry.web.route import READS, Limit, Route, query


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


class Reached(TypedDict):
    """The version, and the state that it has reached."""

    name: str
    version: str
    state: str


@redirect_look_alikes
async def wait_for_version(request: web.Request) -> web.StreamResponse:
    name, app, errors = name_of(request), request.app, list[FieldError]()
    seconds = parse_number(request.query, "timeout", errors, DEFAULT_WAIT)
    if seconds > MAX_WAIT:
        errors.append({"field": "timeout", "message": f"must be at most {MAX_WAIT} seconds"})
    state = request.query.get("state", INDEXED)
    if state != INDEXED:
        errors.append({"field": "state", "message": f"must be {INDEXED}"})
    if errors:
        raise InvalidInput.of(errors)
    version = await waiting.wait_until_indexed(
        app[DB], app[SEARCH], app[ANNOUNCEMENTS], name, version_of(request), seconds
    )
    reached: Reached = {"name": name, "version": version, "state": state}
    return json_response(reached, headers={"Cache-Control": "no-store"})


INDEXED = "indexed"
DEFAULT_WAIT, MAX_WAIT = 30, 60
SEARCHES = Limit("search", "1000/minute")

ROUTES = (
    Route("GET", "/api/v1/search", search, "Search packages", limit=SEARCHES, parameters=PARAMETERS,
          answers={200: Page}),
    Route("GET", "/api/v1/search/suggest", suggest, "Complete a name as it is typed", limit=SEARCHES,
          parameters=SUGGEST_PARAMETERS, answers={200: use_case.Suggestions}),
    Route("GET", "/api/v1/search/explain", explain, "Why a package ranks where it does, or isn't found", limit=SEARCHES,
          parameters=EXPLAIN_PARAMETERS, answers={200: explaining.Explanation}),
    Route("GET", f"{VERSION}/wait", wait_for_version, "Wait until searches find a version", limit=READS,
          parameters=(
              query("state", {"type": "string", "enum": [INDEXED], "default": INDEXED}, "The state to wait for"),
              query("timeout", {"type": "integer", "minimum": 0, "maximum": MAX_WAIT, "default": DEFAULT_WAIT},
                    "Seconds until the answer is 504"),
          ), answers={200: Reached, 301: None}, errors=(504,)),
)  # fmt: skip
