"""Builds the Elasticsearch queries of a search. Pure functions; the weights are constants at the top.

raw score = evidence × (1 + popularity + quality + freshness), × DEPRECATED_FACTOR for deprecated packages. Equal scores
are ordered by downloads, then by name. docs/ranking.md explains each clause and what was tried without success.
"""

from collections.abc import Iterable
from typing import Any

from registry.search.request import BY_NAME, CREATED, DOWNLOADS, RELEVANCE, UPDATED, SearchRequest
from registry.search.terms import AUTHOR, KEYWORD, LICENSE, NAME, SEPARATORS, Terms, compact_form

Body = dict[str, Any]

# Field weights for the match of one word. The best field counts in full, each other one by TIE_BREAKER.
TEXT_FIELDS = ("name.text^0.6", "keywords^0.6", "description^3.0", "author.text^0.3")
TIE_BREAKER = 0.4
PHRASE_FIELDS = ("name.text", "keywords", "description", "author.text")

# Matches in the texts of a package.
SOME_WORDS = 0.3
# One or two words: all of them. Three to five: all but one. More: 70 %.
SOME_WORDS_SHARE = "2<-1 5<70%"
REQUIRED_WORDS = 0.3
ALL_WORDS = 1.2
ALL_WORDS_LIGHTLY_STEMMED = 8.0
# Counts only in addition to a match of all words. Otherwise it would lift packages that match only some words.
WORDS_AS_TYPED = 3.0
PHRASE = 2.5
README = 0.5
# Matches of the beginning of the name or of its words; "as typed" includes separators.
NAME_PREFIX = 90.0
NAME_PREFIX_AS_TYPED = 30.0
NAME_WORDS = 3.0
NAME_BUT_FOR_SEPARATORS = 20.0
# Names with a typing error.
NAME_FUZZY = 20.0
NAME_TRIGRAMS = 8.0
TRIGRAM_SHARE = "75%"
# The strongest of these three kinds counts in full, the others only by this share. So among names that begin with the
# query the popular one comes first, not one whose description repeats the query.
LESSER_EVIDENCE = 0.2
# These are so high that popularity never ranks another match above them.
EXACT = 1_000_000
COMPACT = 10_000

# The factor of the most popular package. For others it shrinks quadratically: a few downloads mean little.
POPULARITY = 14.0
QUALITY = 0.3
FRESHNESS = 0.1
FRESH_SCALE_DAYS = 365
FRESH_OFFSET_DAYS = 30
DEPRECATED_FACTOR = 0.4

# In a completion, the beginning of the name counts more than the beginning of another word in it.
SUGGEST_PREFIX = 4.0
SUGGEST_WORDS = 1.0

# Longer texts are hardly names with a typing error, and each of their trigrams would cost a lookup.
LONGEST_TYPO = 64
# One letter may differ in names of four letters or more. Allowing two costs more than the rest of the search.
FUZZY_ONCE = f"AUTO:4,{LONGEST_TYPO + 1}"
FUZZY_TWICE = "AUTO:4,9"
SPELLING = {"field": "spelling", "suggest_mode": "missing", "size": 1}
FACET_SIZE = 10
HIGHLIGHTED_CHARACTERS = 10_000
# Common words that do not tell packages apart. They are not required when the query has other words.
OPTIONAL = frozenset(
    (
        "a", "an", "and", "for", "in", "of", "or", "the", "to", "with",
        "bindings", "library", "module", "package", "packages", "python", "tool", "toolkit", "utility",
    )
)  # fmt: skip

SHOWN = (
    "name", "version", "sort_key", "description", "author", "license", "keywords", "downloads", "updated_at",
    "published_at", "yanked", "yank_reason", "deprecation",
)  # fmt: skip
SORT_FIELDS = {DOWNLOADS: "downloads", UPDATED: "updated_at", CREATED: "created_at"}
_TOTAL_ORDER = ({"name.raw": "asc"}, {"sort_key": "desc"})
_FACET_FIELDS = {"author": "author", "license": "license", "keyword": "keywords.raw"}


def build(request: SearchRequest, max_popularity: float) -> Body:
    """The body of the search. `max_popularity` is log1p of the downloads of the most downloaded package."""
    body: Body = {
        "query": _ranked(_matching(request), max_popularity),
        "size": request.limit,
        "sort": _sort(request.sort),
        "_source": list(SHOWN),
        "track_total_hits": True,
        "track_scores": True,
    }
    if request.after is not None:
        body["search_after"] = list(request.after)
    else:
        body["from"] = request.offset
    if request.terms.text:
        body["highlight"] = _highlight(request.terms)
    if request.facets:
        body["aggs"] = {name: {"terms": {"field": f, "size": FACET_SIZE}} for name, f in _FACET_FIELDS.items()}
    return body


def build_with_spelling(request: SearchRequest, max_popularity: float) -> Body:
    """Like `build`, but on the first page it also asks for other spellings of words that no package contains."""
    body = build(request, max_popularity)
    if request.wants_spelling:
        body["suggest"] = {"spelling": {"text": request.terms.text, "term": SPELLING}}
    return body


def build_relaxed(request: SearchRequest, max_popularity: float) -> Body:
    """The body for a text without results: allows two wrong letters in names and in words of descriptions."""
    text = request.terms.text
    clauses: list[Body] = [_fuzzy(compact_form(text)[:LONGEST_TYPO], FUZZY_TWICE)]
    if " " in text:
        nearly = {"query": text, "operator": "and", "fuzziness": FUZZY_TWICE, "prefix_length": 1, "max_expansions": 20}
        clauses.append({"match": {"description.min": nearly}})
    body = build(request, max_popularity)
    matching = {"bool": {"must": _any_of(clauses), **_restrictions(request)}}
    return {**body, "query": _ranked(matching, max_popularity)}


def build_suggest(q: str, limit: int, max_popularity: float, within: frozenset[str] | None = None) -> Body:
    """The body that completes `q` to names, popular first; only names in `within` unless it is None."""
    begins = [
        _constant({"match": {"name.prefix": q}}, SUGGEST_PREFIX),
        _constant({"match": {"name.words": {"query": q, "operator": "and"}}}, SUGGEST_WORDS),
    ]
    matching = {"bool": {"must": _any_of(begins), "filter": [{"term": {"yanked": False}}, *_within(within)]}}
    return {
        "query": _ranked(matching, max_popularity),
        "size": limit,
        "sort": _sort(RELEVANCE),
        "_source": ["name"],
        "track_total_hits": False,
    }


def required_words(text: str) -> str:
    """`text` without its optional words, or all of it when it has no others."""
    words = text.split()
    return " ".join([word for word in words if word.lower() not in OPTIONAL] or words)


def _matching(request: SearchRequest) -> Body:
    text, restrictions = request.terms.text, _restrictions(request)
    if request.terms.matches_nothing:
        return {"match_none": {}}
    if not text:
        return {"bool": {"must": {"match_all": {}}, **restrictions}}
    if request.sort != RELEVANCE:
        # With another order than relevance, weak matches could come first. They are left out.
        restrictions["filter"].append(_any_of(_strong_matches(text)))
    kinds = [_any_of(kind.values()) for kind in evidence(text).values() if kind]
    must = {"dis_max": {"queries": kinds, "tie_breaker": LESSER_EVIDENCE}}
    return {"bool": {"must": must, "should": list(tiers(text).values()), **restrictions}}


def _restrictions(request: SearchRequest) -> dict[str, list[Body]]:
    filters = [*required_filters(request).values(), *_within(request.within)]
    return {"filter": filters, "must_not": list(excluding_filters(request.terms).values())}


def _within(names: frozenset[str] | None) -> list[Body]:
    return [] if names is None else [{"terms": {"name.raw": sorted(names)}}]


def required_filters(request: SearchRequest) -> dict[str, Body]:
    """The filters that every result must match, by the part of the request they come from."""
    filters: dict[str, Body] = {"not yanked": {"term": {"yanked": False}}, **_field_clauses(request.terms.fields)}
    for field, values in ((AUTHOR, request.authors), (LICENSE, request.licenses)):
        if values:
            either = _any_of(_field_clause(field, value) for value in values)
            filters[f"{field}={' or '.join(values)}"] = either
    filters |= {f"{KEYWORD}={value}": _field_clause(KEYWORD, value) for value in request.keywords}
    if not request.prerelease:
        filters["prerelease=false"] = {"term": {"prerelease": False}}
    return filters | {f'"{phrase}"': _phrase(phrase) for phrase in request.terms.phrases}


def excluding_filters(terms: Terms) -> dict[str, Body]:
    """The filters that no result may match, by the part of the request they come from."""
    phrases = {f'-"{phrase}"': _phrase(phrase) for phrase in terms.excluded}
    return phrases | {f"-{asked}": clause for asked, clause in _field_clauses(terms.excluded_fields).items()}


def mentions(word: str) -> Body:
    """Matches packages with `word` in their texts or at the beginning of a word of their name."""
    return _any_of([_words(word, 1, operator="and"), {"match": {"name.words": {"query": word, "operator": "and"}}}])


def evidence(text: str) -> dict[str, dict[str, Body]]:
    """The clauses that make a package a result, in three kinds: texts, name, and names with a typing error."""
    compact = compact_form(text)
    near = {}
    if len(compact) <= LONGEST_TYPO:
        near = {"the name except for a letter": _fuzzy(compact), "most of the name's letters": _trigrams(compact)}
    return {
        "words in its texts": _text_clauses(text),
        "its name": _name_clauses(text),
        "a name with a typing error": near,
    }


def tiers(text: str) -> dict[str, Body]:
    """The clauses for the exact name and, for a text without separators, for the same name with separators."""
    found = {"exact": _constant(_not_deprecated({"term": {"name": text}}), EXACT, name="exact")}
    if not SEPARATORS.search(text):
        found["compact"] = _constant(_not_deprecated({"term": {"name.compact": text}}), COMPACT, name="compact")
    return found


def _text_clauses(text: str) -> dict[str, Body]:
    readme = {"match": {"readme": {"query": required_words(text), "operator": "and"}}}
    clauses = {
        "enough of the words": _words(text, SOME_WORDS, minimum_should_match=SOME_WORDS_SHARE),
        **_all_words(text),
        "the words side by side": {"match_phrase": {"description.min": {"query": text, "slop": 1, "boost": PHRASE}}},
        "the words in the README": _constant(readme, README),
    }
    if " " in text:
        lightly = {"query": text, "operator": "and", "boost": ALL_WORDS_LIGHTLY_STEMMED}
        exact = {"match": {"description.exact": {"query": text, "boost": WORDS_AS_TYPED}}}
        both = {"must": {"match": {"description.min": lightly}}, "should": exact}
        clauses["every word in the description"] = {"bool": both}
    return clauses


def _name_clauses(text: str) -> dict[str, Body]:
    clauses = {
        "the beginning of the name": _constant({"match": {"name.prefix": text}}, NAME_PREFIX, name="prefix"),
        "beginnings of words in the name": _constant(
            {"match": {"name.words": {"query": text, "operator": "and"}}}, NAME_WORDS
        ),
    }
    if SEPARATORS.search(text):
        clauses["the beginning as typed"] = _constant({"prefix": {"name": text}}, NAME_PREFIX_AS_TYPED)
        clauses["the name except for separators"] = _constant({"term": {"name.compact": text}}, NAME_BUT_FOR_SEPARATORS)
    return clauses


def _not_deprecated(clause: Body) -> Body:
    return {"bool": {"must": clause, "must_not": {"term": {"deprecated": True}}}}


def _strong_matches(text: str) -> list[Body]:
    """The strong matches: the beginning of the name or of its words, or all required words in the texts."""
    return [*_name_clauses(text).values(), *_all_words(text).values()]


def _all_words(text: str) -> dict[str, Body]:
    """Clauses for all required words and for all words; a single clause when they are the same."""
    required = required_words(text)
    if required == text:
        return {"every word": _words(text, REQUIRED_WORDS + ALL_WORDS, operator="and", _name="words")}
    return {
        "every required word": _words(required, REQUIRED_WORDS, operator="and", _name="words"),
        "every word": _words(text, ALL_WORDS, operator="and"),
    }


def _words(text: str, boost: float, **how: str) -> Body:
    match = {"query": text, "type": "cross_fields", "fields": list(TEXT_FIELDS), "tie_breaker": TIE_BREAKER}
    return {"multi_match": {**match, "boost": boost, **how}}


def _fuzzy(compact: str, fuzziness: str = FUZZY_ONCE) -> Body:
    value = {"value": compact, "fuzziness": fuzziness, "prefix_length": 1, "max_expansions": 30}
    return {"fuzzy": {"name.compact": {**value, "rewrite": "constant_score", "boost": NAME_FUZZY}}}


def _trigrams(compact: str) -> Body:
    match = {"name.tri": {"query": compact, "minimum_should_match": TRIGRAM_SHARE}}
    return _constant({"match": match}, NAME_TRIGRAMS)


def _field_clauses(fields: Iterable[tuple[str, str]]) -> dict[str, Body]:
    return {f"{field}:{value}": _field_clause(field, value) for field, value in fields}


def _field_clause(field: str, value: str) -> Body:
    """Matches keywords and licences as a whole, ignoring case, and authors and names by words."""
    clauses: dict[str, Body] = {
        AUTHOR: {"match_phrase": {"author.text": value}},
        KEYWORD: {"term": {"keywords.raw": value}},
        LICENSE: {"term": {"license.lower": value}},
        NAME: {"match": {"name.words": {"query": value, "operator": "and"}}},
    }
    return clauses[field]


def _phrase(text: str) -> Body:
    return {"multi_match": {"query": text, "type": "phrase", "fields": list(PHRASE_FIELDS)}}


def _any_of(clauses: Iterable[Body]) -> Body:
    return {"bool": {"should": list(clauses), "minimum_should_match": 1}}


def _constant(clause: Body, boost: float, name: str | None = None) -> Body:
    named = {} if name is None else {"_name": name}
    return {"constant_score": {"filter": clause, "boost": boost, **named}}


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
    if sort == RELEVANCE:
        return [{"_score": "desc"}, {"downloads": "desc"}, *_TOTAL_ORDER]
    if sort == BY_NAME:
        return list(_TOTAL_ORDER)
    return [{SORT_FIELDS[sort]: "desc"}, *_TOTAL_ORDER]


def _highlight(terms: Terms) -> Body:
    match = {"query": terms.text, "fields": ["name.text", "description"]}
    return {
        "encoder": "html",
        "number_of_fragments": 0,
        "max_analyzed_offset": HIGHLIGHTED_CHARACTERS,
        "highlight_query": {"multi_match": match},
        "fields": {"name.text": {}, "description": {}},
    }
