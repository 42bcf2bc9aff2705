"""The pages of the search: results, and why a package is where it is among them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from registry.accounts.requests import visible_packages
from registry.downloads.keys import FIGURES
from registry.errors import DatabaseUnavailable
from registry.keys import DB
from registry.pages import charts, frame
from registry.search import explain as explaining
from registry.search.keys import SEARCH, SEARCHER
from registry.search.page import SearchPage
from registry.search.request import (
    EXPLAIN_PARAMETERS,
    PARAMETERS,
    SEARCHES,
    SORTS,
    SUGGEST_PARAMETERS,
    SearchRequest,
    parse_explain,
    parse_search,
    parse_suggest,
)
from registry.web.parsing import DEFAULT_LIMIT, MAX_WINDOW
from registry.web.responses import encoded_response

SORT_LABELS = dict(zip(SORTS, ("Best match", "Most downloaded", "Recently updated", "Newest", "Name"), strict=True))
FACETS = {"license": "Licence", "keyword": "Keyword", "author": "Author"}
MOST_VALUES = 6
NO_STORE = {"Cache-Control": "no-store"}


class Filter(NamedTuple):
    """A value of a facet. `href` is the search with it, or without it if it `is_on`."""

    value: str
    number: int | None
    href: str
    is_on: bool


async def search_page(request: web.Request) -> web.StreamResponse:
    """The results of a search, or without a query an explanation of the search."""
    q = request.query.get("q", "").strip()
    if not q:
        return frame.render(request, "search/start.html", title="Search", description="How to search for packages")
    params = [(name, value) for name, value in request.query.items() if name != "facets"]
    wanted = parse_search([*params, ("facets", "true")], visible_packages(request))
    app = request.app
    found = await app[SEARCHER].page(wanted)
    return frame.render(
        request,
        "search/results.html",
        title=f"{wanted.q} – search",
        keep=not found["degraded"],
        query=wanted.q,
        wanted=wanted,
        found=found,
        weeks=await _weeks(app, {each["name"] for each in found["results"]}),
        filters=_filters(wanted, found),
        chosen=_chosen(wanted),
        sorts=SORT_LABELS,
        hidden=[(name, value) for name, value in _parameters(wanted) if name != "sort"],
        suggestion=_suggestion(wanted, found),
        previous=_address(wanted, offset=max(wanted.offset - wanted.limit, 0)) if wanted.offset else "",
        next=_next(wanted, found),
        explain=lambda name: f"/search/explain?{urlencode([*_filter_parameters(wanted), ('name', name)])}",
        with_keyword=lambda word: _address(replace(wanted, keywords=(*wanted.keywords, word))),
    )


async def explain_page(request: web.Request) -> web.StreamResponse:
    """Why a package is where it is among the results, or why it isn't among them."""
    wanted, name = parse_explain(list(request.query.items()))
    wanted = replace(wanted, within=visible_packages(request))
    found = await explaining.explain(request.app[DB], request.app[SEARCH], wanted, name)
    return frame.render(
        request,
        "search/explain.html",
        title=f"Why {found['name']}?",
        query=wanted.q,
        found=found,
        back=_address(wanted),
        parts_of=PARTS,
    )


async def suggest_names(request: web.Request) -> web.StreamResponse:
    """Names that begin with what was typed, for the search box."""
    q = parse_suggest(list(request.query.items()))
    found = await request.app[SEARCHER].suggest(q, within=visible_packages(request))
    return encoded_response(found, headers=NO_STORE if request.app[SEARCH].is_away else {"Vary": "Cookie"})


PARTS: Mapping[str, str] = {"popularity": "Popularity", "quality": "Quality", "freshness": "Freshness"}


async def _weeks(app: web.Application, names: Collection[str]) -> Mapping[str, tuple[str, int]]:
    """(chart of a year, downloads of the last week) of each package; empty while PostgreSQL is unavailable."""
    try:
        weeks = await app[FIGURES].weekly(names)
    except DatabaseUnavailable:
        return {}  # the index has the results; only the charts are missing
    return {
        name: (charts.bars(counts, label=f"Downloads of {name} a week, over a year"), counts[-1])
        for name, counts in weeks.items()
    }


def _filters(wanted: SearchRequest, found: SearchPage) -> list[tuple[str, list[Filter]]]:
    """(label, values) of each facet with values. Chosen values stay, even if they are not among the most frequent."""
    groups = []
    for name, label in FACETS.items():
        chosen = _values(wanted, name)
        values = [
            _filter(wanted, name, each["value"], each["count"])
            for each in found.get("facets", {}).get(name, ())
            if each["value"] and each["value"] not in chosen
        ]
        counts = {each["value"]: each["count"] for each in found.get("facets", {}).get(name, ())}
        on = [_filter(wanted, name, value, counts.get(value)) for value in chosen]
        if on or values:
            groups.append((label, [*on, *values[: max(MOST_VALUES - len(on), 0)]]))
    return groups


def _chosen(wanted: SearchRequest) -> list[Filter]:
    return [_filter(wanted, name, value, None) for name in FACETS for value in _values(wanted, name)]


def _filter(wanted: SearchRequest, name: str, value: str, count: int | None) -> Filter:
    field = _FIELDS[name]
    chosen: Sequence[str] = getattr(wanted, field)
    is_on = value in chosen
    values = tuple(each for each in chosen if each != value) if is_on else (*chosen, value)
    changes: dict[str, Any] = {field: values, "offset": 0}
    return Filter(value, count, _address(replace(wanted, **changes)), is_on)


_FIELDS = {"license": "licenses", "keyword": "keywords", "author": "authors"}


def _values(wanted: SearchRequest, name: str) -> Sequence[str]:
    values: Sequence[str] = getattr(wanted, _FIELDS[name])
    return values


def _suggestion(wanted: SearchRequest, found: SearchPage) -> tuple[str, str] | None:
    """(the likelier query, its address)."""
    likelier = found.get("suggestion")
    return (likelier, _address(replace(wanted, q=likelier))) if likelier else None


def _next(wanted: SearchRequest, found: SearchPage) -> str:
    after = wanted.offset + wanted.limit
    return _address(wanted, offset=after) if found["total"] > after and after + wanted.limit <= MAX_WINDOW else ""


def _filter_parameters(wanted: SearchRequest) -> list[tuple[str, str]]:
    filters = [(name, value) for name in FACETS for value in _values(wanted, name)]
    return [("q", wanted.q), *filters, *([] if wanted.prerelease else [("prerelease", "false")])]


def _parameters(wanted: SearchRequest) -> list[tuple[str, str]]:
    """The parameters of the search, without its position."""
    sort = [] if wanted.sort == SORTS[0] else [("sort", wanted.sort)]
    limit = [] if wanted.limit == DEFAULT_LIMIT else [("limit", str(wanted.limit))]
    versions = [("versions", "all")] if wanted.every_version else []
    return [*_filter_parameters(wanted), *versions, *sort, *limit]


def _address(wanted: SearchRequest, offset: int = 0) -> str:
    position = [("offset", str(offset))] if offset else []
    return f"/search?{urlencode([*_parameters(wanted), *position])}"


ROUTES = (
    frame.page("GET", "/search", search_page, "Search results", limit=SEARCHES, parameters=PARAMETERS),
    frame.page("GET", "/search/explain", explain_page, "Why a package is where it is", limit=SEARCHES,
               parameters=EXPLAIN_PARAMETERS),
    frame.page("GET", "/search/suggest", suggest_names, "Names for the search box", limit=SEARCHES,
               parameters=SUGGEST_PARAMETERS),
)  # fmt: skip
