"""A search as Elasticsearch is asked it. Pure; what each part is worth is data at the top.

rank = evidence × (1 + popularity + quality + freshness), × DEPRECATED_FACTOR when deprecated; ties go to downloads,
then the name. docs/search.md tells what each clause is worth, and what was tried in vain.
"""

from collections.abc import Iterable
from typing import Any

from registry.search.request import BY_NAME, CREATED, DOWNLOADS, RELEVANCE, UPDATED, SearchRequest
from registry.search.terms import AUTHOR, KEYWORD, LICENSE, NAME, SEPARATORS, Terms, compact_form

Body = dict[str, Any]

# Field weights of one word's match, and how much of the lesser fields counts beside the best.
TEXT_FIELDS = ("name.text^0.6", "keywords^0.6", "description^3.0", "author.text^0.3")
TIE_BREAKER = 0.4
PHRASE_FIELDS = ("name.text", "keywords", "description", "author.text")

# What is said of a package.
SOME_WORDS = 0.3
SOME_WORDS_SHARE = "2<-1 5<70%"
REQUIRED_WORDS = 0.3
ALL_WORDS = 1.2
ALL_WORDS_LIGHTLY_STEMMED = 8.0
# Unstemmed, and only where every word is found: what holds a part of the words must not overtake.
WORDS_AS_TYPED = 3.0
PHRASE = 2.5
README = 0.5
# The beginning of its name, or of the words in it; as typed when separators are.
NAME_PREFIX = 90.0
NAME_PREFIX_AS_TYPED = 30.0
NAME_WORDS = 3.0
NAME_BUT_FOR_SEPARATORS = 20.0
# A name that differs in a letter or two.
NAME_FUZZY = 20.0
NAME_TRIGRAMS = 8.0
TRIGRAM_SHARE = "75%"
# The strongest of those three counts, and this much of the others: among names that begin as typed the popular one
# comes first, not the one whose description repeats it.
LESSER_EVIDENCE = 0.2
# A tier each: no popularity lifts a lower tier over a higher one.
EXACT = 1_000_000
COMPACT = 10_000

# For the most popular package, falling with the square: few downloads say next to nothing.
POPULARITY = 14.0
QUALITY = 0.3
FRESHNESS = 0.1
FRESH_SCALE_DAYS = 365
FRESH_OFFSET_DAYS = 30
DEPRECATED_FACTOR = 0.4

# Completion: the beginning of a name before that of a word in it.
SUGGEST_PREFIX = 4.0
SUGGEST_WORDS = 1.0

# Longer texts are no mistyped name, and their trigrams would cost a lookup each.
LONGEST_TYPO = 64
# One letter may be wrong from four on. Looking for two costs more than all the rest of a search.
FUZZY_ONCE = f"AUTO:4,{LONGEST_TYPO + 1}"
FUZZY_TWICE = "AUTO:4,9"
SPELLING = {"field": "spelling", "suggest_mode": "missing", "size": 1}
FACET_SIZE = 10
HIGHLIGHTED_CHARACTERS = 10_000
# Words that say that a package is wanted, not which: they needn't occur when there are others.
OPTIONAL = frozenset(
    (
        "a", "an", "and", "for", "in", "of", "or", "the", "to", "with",
        "bindings", "library", "module", "package", "packages", "python", "tool", "toolkit", "utility",
    )
)  # fmt: skip

SHOWN = (
    "name", "version", "sort_key", "description", "author", "license", "keywords", "downloads", "updated_at",
)  # fmt: skip
SORT_FIELDS = {DOWNLOADS: "downloads", UPDATED: "updated_at", CREATED: "created_at"}
_TOTAL_ORDER = ({"name.raw": "asc"}, {"sort_key": "desc"})
_FACET_FIELDS = {"author": "author", "license": "license", "keyword": "keywords.raw"}


def build(request: SearchRequest, heaviest: float) -> Body:
    """The body of the search. `heaviest` is log1p of the downloads of the registry's most downloaded package."""
    body: Body = {
        "query": _ranked(_matching(request), heaviest),
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


def build_with_spelling(request: SearchRequest, heaviest: float) -> Body:
    """As `build`; where the results start, the likeliest spelling of each word that occurs nowhere is asked as well."""
    body = build(request, heaviest)
    if request.wants_spelling:
        body["suggest"] = {"spelling": {"text": request.terms.text, "term": SPELLING}}
    return body


def build_relaxed(request: SearchRequest, heaviest: float) -> Body:
    """The body for a text that nothing matches: names two letters away, and descriptions of nearly its words."""
    text = request.terms.text
    clauses: list[Body] = [_fuzzy(compact_form(text)[:LONGEST_TYPO], FUZZY_TWICE)]
    if " " in text:
        nearly = {"query": text, "operator": "and", "fuzziness": FUZZY_TWICE, "prefix_length": 1, "max_expansions": 20}
        clauses.append({"match": {"description.min": nearly}})
    body = build(request, heaviest)
    filters, excluded = [*narrowed(request).values(), *_within(request.within)], list(excluding(request.terms).values())
    matching = {"bool": {"must": _any_of(clauses), "filter": filters, "must_not": excluded}}
    return {**body, "query": _ranked(matching, heaviest)}


def build_suggest(q: str, limit: int, heaviest: float, within: frozenset[str] | None = None) -> Body:
    """The body that completes `q`: names, popular first, only those in `within` unless it is None."""
    begins = [
        _constant({"match": {"name.prefix": q}}, SUGGEST_PREFIX),
        _constant({"match": {"name.words": {"query": q, "operator": "and"}}}, SUGGEST_WORDS),
    ]
    matching = {"bool": {"must": _any_of(begins), "filter": [{"term": {"yanked": False}}, *_within(within)]}}
    return {
        "query": _ranked(matching, heaviest),
        "size": limit,
        "sort": _sort(RELEVANCE),
        "_source": ["name"],
        "track_total_hits": False,
    }


def required_words(text: str) -> str:
    """`text` without optional words, unless it has no others."""
    words = text.split()
    return " ".join([word for word in words if word.lower() not in OPTIONAL] or words)


def _matching(request: SearchRequest) -> Body:
    terms = request.terms
    if terms.matches_nothing:
        return {"match_none": {}}
    filters, excluded = [*narrowed(request).values(), *_within(request.within)], list(excluding(terms).values())
    if terms.text and request.sort != RELEVANCE:
        # The weak matches, which rank last by relevance, would come first by their downloads.
        filters.append(_any_of(_surely_meant(terms.text)))
    if not terms.text:
        return {"bool": {"must": {"match_all": {}}, "filter": filters, "must_not": excluded}}
    kinds = [_any_of(kind.values()) for kind in evidence(terms.text).values() if kind]
    must = {"dis_max": {"queries": kinds, "tie_breaker": LESSER_EVIDENCE}}
    above = list(tiers(terms.text).values())
    return {"bool": {"must": must, "should": above, "filter": filters, "must_not": excluded}}


def _within(names: frozenset[str] | None) -> list[Body]:
    return [] if names is None else [{"terms": {"name.raw": sorted(names)}}]


def narrowed(request: SearchRequest) -> dict[str, Body]:
    """What every result must fulfil, by how it is asked for."""
    filters: dict[str, Body] = {"not yanked": {"term": {"yanked": False}}, **_field_clauses(request.terms.fields)}
    for field, values in ((AUTHOR, request.authors), (LICENSE, request.licenses)):
        if values:
            either = _any_of(_field_clause(field, value) for value in values)
            filters[f"{field}={' or '.join(values)}"] = either
    filters |= {f"{KEYWORD}={value}": _field_clause(KEYWORD, value) for value in request.keywords}
    if not request.prerelease:
        filters["prerelease=false"] = {"term": {"prerelease": False}}
    return filters | {f'"{phrase}"': _phrase(phrase) for phrase in request.terms.phrases}


def excluding(terms: Terms) -> dict[str, Body]:
    """What no result may have, by how it is asked for."""
    phrases = {f'-"{phrase}"': _phrase(phrase) for phrase in terms.excluded}
    return phrases | {f"-{asked}": clause for asked, clause in _field_clauses(terms.excluded_fields).items()}


def mentions(word: str) -> Body:
    """Packages that `word` finds in their texts or as the beginning of a word of their name."""
    begins = {"match": {"name.words": {"query": word, "operator": "and"}}}
    return _any_of([_words(word, 1, operator="and"), begins])


def evidence(text: str) -> dict[str, dict[str, Body]]:
    """Everything that makes a package a result: three kinds of evidence, and in each what there is to match."""
    compact = compact_form(text)
    near = {}
    if len(compact) <= LONGEST_TYPO:
        near = {"the name but for a letter": _fuzzy(compact), "most of the name's letters": _trigrams(compact)}
    return {"what is said of it": _about(text), "what it is called": _named(text), "a slip": near}


def tiers(text: str) -> dict[str, Body]:
    """The name itself; typed without separators, also one that has some."""
    found = {"exact": _constant(_live({"term": {"name": text}}), EXACT, name="exact")}
    if not SEPARATORS.search(text):
        found["compact"] = _constant(_live({"term": {"name.compact": text}}), COMPACT, name="compact")
    return found


def _about(text: str) -> dict[str, Body]:
    readme = {"match": {"readme": {"query": required_words(text), "operator": "and"}}}
    clauses = {
        "enough of the words": _words(text, SOME_WORDS, minimum_should_match=SOME_WORDS_SHARE),
        **_all_words(text),
        "the words side by side": {"match_phrase": {"description.min": {"query": text, "slop": 1, "boost": PHRASE}}},
        "the words in the README": _constant(readme, README),
    }
    if " " in text:
        lightly = {"query": text, "operator": "and", "boost": ALL_WORDS_LIGHTLY_STEMMED}
        as_typed = {"query": text, "boost": WORDS_AS_TYPED}
        both = {"must": {"match": {"description.min": lightly}}, "should": {"match": {"description.exact": as_typed}}}
        clauses["every word in the description"] = {"bool": both}
    return clauses


def _named(text: str) -> dict[str, Body]:
    clauses = {
        "the beginning of the name": _constant({"match": {"name.prefix": text}}, NAME_PREFIX, name="prefix"),
        "beginnings of words in the name": _constant(
            {"match": {"name.words": {"query": text, "operator": "and"}}}, NAME_WORDS
        ),
    }
    if SEPARATORS.search(text):
        clauses["the beginning as typed"] = _constant({"prefix": {"name": text}}, NAME_PREFIX_AS_TYPED)
        clauses["the name but for separators"] = _constant({"term": {"name.compact": text}}, NAME_BUT_FOR_SEPARATORS)
    return clauses


def _live(clause: Body) -> Body:
    return {"bool": {"must": clause, "must_not": {"term": {"deprecated": True}}}}


def _surely_meant(text: str) -> list[Body]:
    """The beginning of the name or of its words, or every word that counts."""
    return [*_named(text).values(), *_all_words(text).values()]


def _all_words(text: str) -> dict[str, Body]:
    """Every word that counts and every word; one clause when that is the same."""
    required = required_words(text)
    if required == text:
        return {"every word": _words(text, REQUIRED_WORDS + ALL_WORDS, operator="and", _name="words")}
    return {
        "every word that counts": _words(required, REQUIRED_WORDS, operator="and", _name="words"),
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
    """Keywords and licences as a whole, without regard to case; authors and names by words of them."""
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


def _ranked(matching: Body, heaviest: float) -> Body:
    """`matching` with popularity, quality and freshness, and deprecated packages lowered."""
    popularity = {"field": "popularity", "factor": POPULARITY**0.5 / heaviest, "modifier": "square", "missing": 0}
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
