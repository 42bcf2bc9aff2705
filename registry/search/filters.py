"""Builds the filters of a search and the smallest parts of a query. Pure functions."""

from collections.abc import Iterable
from typing import Any

from registry.search.request import SearchRequest
from registry.search.terms import AUTHOR, KEYWORD, LICENSE, NAME, Terms, consists_of_stop_words, has_stop_words

Body = dict[str, Any]

PHRASE_FIELDS = ("name.text", "keywords", "description", "author.text")
TYPED_FIELDS = ("keywords.typed", "description.typed", "author.typed")


def required_filters(request: SearchRequest) -> dict[str, Body]:
    """The filters that every result must match, by the part of the request they come from."""
    filters: dict[str, Body] = {"not yanked": {"term": {"yanked": False}}, **_field_clauses(request.terms.fields)}
    for field, values in ((AUTHOR, request.authors), (LICENSE, request.licenses)):
        if values:
            either = any_of(_field_clause(field, value) for value in values)
            filters[f"{field}={' or '.join(values)}"] = either
    filters |= {f"{KEYWORD}={value}": _field_clause(KEYWORD, value) for value in request.keywords}
    if not request.prerelease:
        filters["prerelease=false"] = {"term": {"prerelease": False}}
    return filters | {f'"{phrase}"': _phrase(phrase) for phrase in request.terms.phrases}


def excluding_filters(terms: Terms) -> dict[str, Body]:
    """The filters that no result may match, by the part of the request they come from."""
    phrases = {f'-"{phrase}"': _phrase(phrase) for phrase in terms.excluded}
    return phrases | {f"-{asked}": clause for asked, clause in _field_clauses(terms.excluded_fields).items()}


def named(names: frozenset[str] | None) -> list[Body]:
    """A filter for packages with these names; none if `names` is None."""
    return [] if names is None else [{"terms": {"name.raw": sorted(names)}}]


def _field_clauses(fields: Iterable[tuple[str, str]]) -> dict[str, Body]:
    return {f"{field}:{value}": _field_clause(field, value) for field, value in fields}


def _field_clause(field: str, value: str) -> Body:
    """Matches keywords and licences as a whole, ignoring case, and authors and names by words."""
    author = "author.typed" if consists_of_stop_words(value) else "author.text"
    clauses: dict[str, Body] = {
        AUTHOR: {"match_phrase": {author: value}},
        KEYWORD: {"term": {"keywords.raw": value}},
        LICENSE: {"term": {"license.lower": value}},
        NAME: {"match": {"name.words": {"query": value, "operator": "and"}}},
    }
    return clauses[field]


def _phrase(text: str) -> Body:
    if has_stop_words(text):
        return any_of([as_typed(text), {"term": {"name": text}}])
    return {"multi_match": {"query": text, "type": "phrase", "fields": list(PHRASE_FIELDS)}}


def as_typed(text: str) -> Body:
    """Matches texts that contain `text` word by word. Unlike the other fields, these have stop words."""
    return {"multi_match": {"query": text, "type": "phrase", "fields": list(TYPED_FIELDS)}}


def any_of(clauses: Iterable[Body]) -> Body:
    """Matches what matches at least one of `clauses`; the scores of all that match are added up."""
    return {"bool": {"should": list(clauses), "minimum_should_match": 1}}


def constant(clause: Body, boost: float, name: str | None = None) -> Body:
    """Gives each match of `clause` the score `boost`. `name` then appears in the hit's matched_queries."""
    label = {} if name is None else {"_name": name}
    return {"constant_score": {"filter": clause, "boost": boost, **label}}
