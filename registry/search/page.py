"""Turns the answer of Elasticsearch into the page that a client gets. Pure functions."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Annotated, Any, NotRequired

# pydantic can't describe the TypedDict and NotRequired of `typing` before Python 3.12.
from pydantic import Field
from typing_extensions import TypedDict

from registry.package_format.texts import normal_form
from registry.packages.read import Deprecation
from registry.search.documents import Document
from registry.search.highlight import as_published
from registry.search.request import RELEVANCE, SearchRequest
from registry.web.cursor import Position, encode
from registry.web.responses import dump


class Highlight(TypedDict):
    """Escaped HTML, with the matched words in <em>."""

    name: str
    description: str


class Result(TypedDict):
    """A package at its latest version, or a single version with `versions=all`. `score` is between 0 and 1."""

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
    updated_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    published_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    yanked: bool
    yank_reason: str
    deprecated: str
    deprecation: Deprecation | None
    highlight: Highlight


class FacetValue(TypedDict):
    value: str
    count: int


class SearchPage(TypedDict):
    """`packages` equals `results`. `degraded` means that PostgreSQL answered, without facets and suggestions."""

    results: list[Result]
    packages: list[Result]
    total: int
    limit: int
    offset: int
    next_cursor: str | None
    took_ms: int
    degraded: bool
    suggestion: NotRequired[str]
    facets: NotRequired[dict[str, list[FacetValue]]]


# For each tier: the range of its scores, and the raw score that is mapped to the middle of this range.
EXACT_FROM, EXACT_TO, EXACT_MIDDLE = 0.95, 0.99, 10_000_000.0
COMPACT_FROM, COMPACT_TO, COMPACT_MIDDLE = 0.90, 0.95, 100_000.0
TEXT_TO, TEXT_MIDDLE = 0.90, 250.0
# Names of clauses that match what the user typed so well that no other spelling is suggested.
NEAR = frozenset({"exact", "compact", "prefix", "words"})


def page_of(request: SearchRequest, answer: Mapping[str, Any], latest: Mapping[str, Document]) -> SearchPage:
    """The page of results.

    With `versions=all`, `latest` maps package names to the package's {version, downloads, deprecation}.
    """
    hits = answer["hits"]["hits"]
    results = [_result(request, hit, latest) for hit in hits]
    page = paged(
        request, results, answer["hits"]["total"]["value"], [tuple(hit["sort"]) for hit in hits if "sort" in hit]
    )
    if request.facets:
        page["facets"] = {
            name: [{"value": bucket["key"], "count": bucket["doc_count"]} for bucket in found["buckets"]]
            for name, found in answer["aggregations"].items()
        }
    return page


def paged(request: SearchRequest, results: list[Result], total: int, positions: Sequence[Position]) -> SearchPage:
    """A page with the members that every page has. `positions` are the sort values of the results."""
    follows = request.sort != RELEVANCE and len(results) == request.limit
    return {
        "results": results,
        "packages": results,
        "total": total,
        "limit": request.limit,
        "offset": request.offset,
        "next_cursor": encode(request.sort, positions[-1]) if follows else None,
        "took_ms": 0,
        "degraded": False,
    }


_BEFORE_TIME, _AFTER_TIME = ("total", "limit", "offset", "next_cursor"), ("degraded", "suggestion", "facets")


def encoded(page: SearchPage) -> tuple[bytes, bytes, bytes]:
    """The page as JSON in three parts: the results, the members before `took_ms`, and the members after it."""
    members: Mapping[str, Any] = page
    before = dump({name: members[name] for name in _BEFORE_TIME})
    after = dump({name: members[name] for name in _AFTER_TIME if name in members})
    return dump(page["results"]), before[1:-1], after[1:]


def joined(parts: Sequence[bytes], *, took_ms: int) -> bytes:
    """The whole page as JSON. `parts` are those of `encoded()`."""
    results, before, after = parts
    return b'{"results":%b,"packages":%b,%b,"took_ms":%d,%b' % (results, results, before, took_ms, after)


def may_be_misspelt(request: SearchRequest, answer: Mapping[str, Any]) -> bool:
    """Whether no result matches the query well: neither by name nor with all required words in its text."""
    hits = answer["hits"]["hits"]
    found = any(NEAR.intersection(hit.get("matched_queries", ())) for hit in hits)
    return request.wants_spelling and not found


def suggestion(request: SearchRequest, answer: Mapping[str, Any]) -> str | None:
    """The query with unknown words replaced by the likeliest spelling in `answer`; None without such words."""
    suggested = asked = normal_form(request.q)
    text = request.terms.text.encode("utf-16-le")  # Elasticsearch counts units of 16 bits
    for entry in answer["suggest"]["spelling"]:
        if entry["options"]:
            start, end = entry["offset"], entry["offset"] + entry["length"]
            typed = text[2 * start : 2 * end].decode("utf-16-le")
            word = rf"(?<!\w){re.escape(typed)}(?!\w)"
            likelier = entry["options"][0]["text"].replace("\\", r"\\")
            suggested = re.sub(word, likelier, suggested, count=1)
    return suggested if suggested != asked else None


def score(typed: str, name: str, raw_score: float, matched: Sequence[str]) -> float:
    """Maps the raw score of query.py to a score from 0 to 1.

    The score is 1.0 for a name exactly as typed. Names equal except for separators come next, then all other matches.
    """
    if "exact" in matched:
        if typed.lower() == name:
            return 1.0
        return _between(EXACT_FROM, EXACT_TO, raw_score, EXACT_MIDDLE)
    if "compact" in matched:
        return _between(COMPACT_FROM, COMPACT_TO, raw_score, COMPACT_MIDDLE)
    return _between(0.0, TEXT_TO, raw_score, TEXT_MIDDLE)


def plain_highlight(name: str, description: str) -> Highlight:
    """Name and description as HTML, without marked words."""
    return {"name": escape(name), "description": escape(description)}


def _between(low: float, high: float, raw_score: float, middle: float) -> float:
    return round(low + (high - low) * raw_score / (raw_score + middle), 6)


def _result(request: SearchRequest, hit: Mapping[str, Any], latest: Mapping[str, Document]) -> Result:
    # Documents that an earlier release wrote have no `published`.
    source = hit["_source"] | hit["_source"].get("published", {})
    package = latest.get(source["name"], source)
    deprecation = package.get("deprecation")
    marked = hit.get("highlight", {})
    plain = plain_highlight(source["name"], source["description"])
    return {
        "name": source["name"],
        "version": source["version"],
        "description": source["description"],
        "downloads": source["downloads"],
        "author": source["author"],
        "score": score(request.terms.text, source["name"], hit["_score"], hit.get("matched_queries", ())),
        "latest_version": package["version"],
        "total_downloads": package["downloads"],
        "license": source["license"],
        "keywords": source["keywords"],
        "updated_at": source["updated_at"],
        "published_at": source["published_at"],
        "yanked": source["yanked"],
        # Documents that an earlier release wrote have neither a reason nor a deprecation.
        "yank_reason": source.get("yank_reason", ""),
        "deprecated": deprecation["message"] if deprecation else "",
        "deprecation": deprecation,
        "highlight": {
            "name": marked.get("name.text", [plain["name"]])[0],
            "description": as_published(marked["description"][0], source["description"])
            if "description" in marked
            else plain["description"],
        },
    }
