"""Builds the bodies of the requests to Elasticsearch. Pure functions.

raw score = evidence × (1 + popularity + quality + freshness), × DEPRECATED_FACTOR for deprecated packages. Equal scores
are ordered by downloads, then by name. docs/ranking.md explains how a score is made.
"""

from registry.search.clauses import FUZZY_TWICE, LESSER_EVIDENCE, evidence, fuzzy, strong_matches, tiers
from registry.search.filters import Body, any_of, constant, excluding_filters, named, required_filters
from registry.search.meaning.encoder import Vector
from registry.search.request import BY_NAME, CREATED, DOWNLOADS, RELEVANCE, UPDATED, SearchRequest
from registry.search.terms import LONGEST_TYPO, Terms, compact_form
from registry.search.words import runs, without_runs

# The factor of the most popular package. For others it shrinks quadratically: a few downloads mean little.
POPULARITY = 14.0
QUALITY = 0.3
FRESHNESS = 0.1
FRESH_SCALE_DAYS = 365
FRESH_OFFSET_DAYS = 30
DEPRECATED_FACTOR = 0.4

# For packages that are found by meaning: the cosine of their vector and the query's is at least LEAST_COSINE. They get
# an evidence between 2 and 3, which is less than that of a name.
MOST_BY_MEANING = 20
MEANING_CANDIDATES = 60
LEAST_COSINE = 0.35
MEANING = 3.0
# The names of these clauses in a hit's matched_queries.
BY_MEANING, BY_TEXT = "meaning", "text"

# In a completion, the beginning of the name counts more than the beginning of another word in it.
SUGGEST_PREFIX = 4.0
SUGGEST_WORDS = 1.0

SPELLING = {"field": "spelling", "suggest_mode": "missing", "size": 1}
FACET_SIZE = 10
HIGHLIGHTED_CHARACTERS = 10_000

SHOWN = (
    "name", "version", "sort_key", "description", "author", "license", "keywords", "downloads", "updated_at",
    "published_at", "yanked", "yank_reason", "deprecation", "published",
)  # fmt: skip
SORT_FIELDS = {DOWNLOADS: "downloads", UPDATED: "updated_at", CREATED: "created_at"}
_TOTAL_ORDER = ({"name.raw": "asc"}, {"sort_key": "desc"})
_FACET_FIELDS = {"author": "author", "license": "license", "keyword": "keywords.raw"}


def build(request: SearchRequest, max_popularity: float, vector: Vector | None = None) -> Body:
    """The body of the search. `max_popularity` is the highest `popularity` of a package.

    With the `vector` of the text, it also finds packages by meaning. By relevance it has no `sort`: send it with
    order.py.
    """
    body: Body = {
        "query": _ranked(_matching(request, vector), max_popularity),
        "size": request.limit,
        "_source": list(SHOWN),
        "track_total_hits": True,
    }
    if request.sort != RELEVANCE:
        body |= {"sort": _sort(request.sort), "track_scores": True}
    elif not request.terms.text:
        # Without words, many packages have the same score.
        body = by_relevance(body)
    if request.after is not None:
        body["search_after"] = list(request.after)
    else:
        body["from"] = request.offset
    if request.terms.text:
        body["highlight"] = _highlight(request.terms)
    if request.facets:
        body["aggs"] = {name: {"terms": {"field": f, "size": FACET_SIZE}} for name, f in _FACET_FIELDS.items()}
    return body


def by_relevance(body: Body) -> Body:
    """`body` whose results Elasticsearch sorts by relevance, with all criteria for equal scores."""
    return {**body, "sort": [{"_score": "desc"}, {"downloads": "desc"}, *_TOTAL_ORDER], "track_scores": True}


def build_spelling(request: SearchRequest) -> Body:
    """The body that asks for other spellings of words that no package contains. It finds no packages."""
    return {"size": 0, "track_total_hits": False, "query": {"match_none": {}}, "suggest": _spelling(request)}


def build_relaxed(request: SearchRequest, max_popularity: float, vector: Vector | None = None) -> Body:
    """The body for a text that matches nothing, except by meaning.

    Allows two wrong letters in names and in words of descriptions. On the first page it also asks for other spellings.
    """
    text = request.terms.text
    clauses: list[Body] = [fuzzy(compact_form(text)[:LONGEST_TYPO])]
    if " " in text:
        nearly = {"query": text, "operator": "and", "fuzziness": FUZZY_TWICE, "prefix_length": 1, "max_expansions": 20}
        clauses.append({"match": {"description.min": nearly}})
    must = _or_by_meaning(any_of(clauses), request, vector)
    matching = {"bool": {"must": must, **_restrictions(request)}}
    body = {**build(request, max_popularity), "query": _ranked(matching, max_popularity)}
    return {**body, "suggest": _spelling(request)} if request.wants_spelling else body


def build_count(request: SearchRequest) -> Body:
    """The body that finds out whether anything matches by words or name."""
    return {"query": _matching(request, None), "size": 0, "terminate_after": 1, "track_total_hits": 1}


def build_suggest(q: str, limit: int, max_popularity: float, within: frozenset[str] | None = None) -> Body:
    """The body that completes `q` to names, popular first; only names in `within` unless it is None."""
    begins = [
        constant({"match": {"name.prefix": q}}, SUGGEST_PREFIX),
        constant({"match": {"name.words": {"query": q, "operator": "and"}}}, SUGGEST_WORDS),
    ]
    matching = {"bool": {"must": any_of(begins), "filter": [{"term": {"yanked": False}}, *named(within)]}}
    return {
        "query": _ranked(matching, max_popularity),
        "size": limit,
        "_source": ["name", "downloads", "sort_key"],
        "track_total_hits": False,
    }


def by_meaning(request: SearchRequest, vector: Vector) -> Body:
    """The clause for the packages whose texts are nearest to the query in meaning."""
    return {
        "knn": {
            "field": vector.field,
            "query_vector": vector.value,
            "k": MOST_BY_MEANING,
            "num_candidates": MEANING_CANDIDATES,
            "similarity": LEAST_COSINE,
            "boost": MEANING,
            "filter": {"bool": _restrictions(request)},
            "_name": BY_MEANING,
        }
    }


def _matching(request: SearchRequest, vector: Vector | None) -> Body:
    text, restrictions = request.terms.text, _restrictions(request)
    if request.terms.matches_nothing:
        return {"match_none": {}}
    if not text:
        return {"bool": {"must": {"match_all": {}}, **restrictions}}
    if request.sort != RELEVANCE:
        # With another order than relevance, weak matches could come first. They are left out.
        restrictions["filter"].append(any_of(strong_matches(text)))
    kinds = [any_of(kind.values()) for kind in evidence(text).values() if kind]
    must: Body = {"dis_max": {"queries": kinds, "tie_breaker": LESSER_EVIDENCE}}
    must = _or_by_meaning(must, request, vector)
    return {"bool": {"must": must, "should": list(tiers(text).values()), **restrictions}}


def _or_by_meaning(matching: Body, request: SearchRequest, vector: Vector | None) -> Body:
    if vector is None:
        return matching
    kinds = [{"bool": {"must": matching, "_name": BY_TEXT}}, by_meaning(request, vector)]
    return {"dis_max": {"queries": kinds, "tie_breaker": LESSER_EVIDENCE}}


def _restrictions(request: SearchRequest) -> dict[str, list[Body]]:
    filters = [*required_filters(request).values(), *named(request.within)]
    return {"filter": filters, "must_not": list(excluding_filters(request.terms).values())}


def _ranked(matching: Body, max_popularity: float) -> Body:
    """`matching` multiplied by popularity, quality and freshness, with deprecated packages lowered."""
    popularity = {"field": "popularity", "factor": POPULARITY**0.5 / max_popularity, "modifier": "square", "missing": 0}
    days = {"scale": f"{FRESH_SCALE_DAYS}d", "offset": f"{FRESH_OFFSET_DAYS}d"}
    fresh = {"published_at": {"origin": "now/d", **days, "decay": 0.5}}
    score = {
        "query": matching,
        "functions": [
            {"weight": 1},
            {"field_value_factor": popularity},
            {"field_value_factor": {"field": "quality", "factor": QUALITY, "missing": 0.5}},
            {"gauss": fresh, "weight": FRESHNESS},
        ],
        "score_mode": "sum",
        "boost_mode": "multiply",
    }
    return {
        "boosting": {
            "positive": {"function_score": score},
            "negative": {"term": {"deprecated": True}},
            "negative_boost": DEPRECATED_FACTOR,
        }
    }


def _sort(sort: str) -> list[Body]:
    if sort == BY_NAME:
        return list(_TOTAL_ORDER)
    return [{SORT_FIELDS[sort]: "desc"}, *_TOTAL_ORDER]


def _spelling(request: SearchRequest) -> Body:
    return {"spelling": {"text": request.terms.text, "term": SPELLING}}


def _highlight(terms: Terms) -> Body:
    asked: list[Body] = [{"match_phrase": {"description": run}} for run in runs(terms.text)]
    if words := without_runs(terms.text):
        asked.append({"multi_match": {"query": words, "fields": ["name.text", "description"]}})
    return {
        "encoder": "html",
        "number_of_fragments": 0,
        "max_analyzed_offset": HIGHLIGHTED_CHARACTERS,
        "highlight_query": any_of(asked),
        "fields": {"name.text": {}, "description": {}},
    }
