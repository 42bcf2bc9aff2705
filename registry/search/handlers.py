"""HTTP handlers of the search. Each parses the request, calls a use case and renders its result."""

from dataclasses import replace

from aiohttp import web
from typing_extensions import TypedDict

from registry.accounts.requests import visible_packages
from registry.errors import FieldError, InvalidInput, NotReached, Quarantined
from registry.keys import ANNOUNCEMENTS, DB
from registry.packages.requests import VERSION, name_of, redirect_look_alikes, version_of
from registry.search import explain as explaining
from registry.search import waiting
from registry.search.keys import SEARCH, SEARCHER
from registry.search.page import SearchPage
from registry.search.request import (
    EXPLAIN_PARAMETERS,
    PARAMETERS,
    SEARCHES,
    SUGGEST_PARAMETERS,
    parse_explain,
    parse_search,
    parse_suggest,
)
from registry.search.search import Suggestions
from registry.web.parsing import parse_number
from registry.web.responses import encoded_response, json_response
from registry.web.route import READS, Route, group, query


async def search_packages(request: web.Request) -> web.StreamResponse:
    """Finds packages by words in their names, descriptions, keywords and authors. The best results come first. A
    result is a package with its latest version.
    """
    wanted = parse_search(list(request.query.items()), visible_packages(request))
    return encoded_response(await request.app[SEARCHER].body(wanted))


async def suggest_names(request: web.Request) -> web.StreamResponse:
    """Completes the beginning of a name: up to ten names, the most popular first."""
    q = parse_suggest(list(request.query.items()))
    return encoded_response(await request.app[SEARCHER].suggest(q, within=visible_packages(request)))


async def explain_search(request: web.Request) -> web.StreamResponse:
    """Shows what the score of a package consists of for a query, or why the query doesn't find the package."""
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
    """Answers as soon as searches find a version that was just published, or 504 when the time is up."""
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

ROUTES = group(
    "Search",
    Route("GET", "/api/v1/search", search_packages, "Search packages", limit=SEARCHES, parameters=PARAMETERS,
          answers={200: SearchPage}),
    Route("GET", "/api/v1/search/suggest", suggest_names, "Complete a name as it is typed", limit=SEARCHES,
          parameters=SUGGEST_PARAMETERS, answers={200: Suggestions}),
    Route("GET", "/api/v1/search/explain", explain_search, "Why a package ranks where it does, or isn't found",
          limit=SEARCHES, parameters=EXPLAIN_PARAMETERS, answers={200: explaining.Explanation}),
    Route("GET", f"{VERSION}/wait", wait_for_version, "Wait until searches find a version", limit=READS,
          parameters=(
              query("state", {"type": "string", "enum": [INDEXED], "default": INDEXED}, "The state to wait for"),
              query("timeout", {"type": "integer", "minimum": 0, "maximum": MAX_WAIT, "default": DEFAULT_WAIT},
                    "Seconds until the answer is 504"),
          ), answers={200: Reached, 301: None}, errors=(NotReached, Quarantined)),
)  # fmt: skip
