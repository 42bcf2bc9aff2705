"""Builds the clauses that make a package a result: words in texts, names, and names with a typing error.

Pure functions; the weights are constants at the top. docs/ranking.md explains each clause and what was tried without
success.
"""

from itertools import pairwise

from registry.search.filters import Body, any_of, as_typed, constant
from registry.search.terms import LONGEST_TYPO, SEPARATORS, compact_form, consists_of_stop_words, slips, variants
from registry.search.words import letters, names_a_language, runs, without_runs

# Field weights for the match of one word. The best field counts in full, each other one by TIE_BREAKER.
WRITTEN_FIELDS = ("name.text^0.6", "keywords^0.6", "description^3.0", "author.text^0.3")
TEXT_FIELDS = (*WRITTEN_FIELDS, "joined^1.5")
RUN_FIELDS = ("keywords^0.6", "description^3.0", "author.text^0.3")
TIE_BREAKER = 0.4

# Matches in the texts of a package.
SOME_WORDS = 0.3
# Three to five words: all but one. More: 70 %. Of fewer words all are required, which is a clause of its own.
SOME_WORDS_FROM = 3
SOME_WORDS_SHARE = "2<-1 5<70%"
REQUIRED_WORDS = 0.3
ALL_WORDS = 1.2
ALL_WORDS_LIGHTLY_STEMMED = 8.0
# Counts only in addition to a match of all words. Otherwise it would lift packages that match only some words.
WORDS_AS_TYPED = 3.0
# A word without accents. People also leave accents out because they are hard to type.
WORD_AS_TYPED = 1.0
PHRASE = 2.5
README = 0.5
# A long run of letters without blanks matches nearly if most of its pairs of letters occur.
RUN_SHARE = "-25%"
MAX_RUN_PAIRS = 24
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

# Shorter names have too many neighbours.
SHORTEST_TYPO = 4
FUZZY_TWICE = f"AUTO:{SHORTEST_TYPO},9"
# Common words that do not tell packages apart. They are not required when the query has other words.
OPTIONAL = frozenset(
    (
        "a", "an", "and", "for", "in", "of", "or", "the", "to", "with",
        "bindings", "library", "module", "package", "packages", "python", "tool", "toolkit", "utility",
    )
)  # fmt: skip


def required_words(text: str) -> str:
    """`text` without its optional words, or all of it when it has no others."""
    words = text.split()
    return " ".join([word for word in words if word.lower() not in OPTIONAL] or words)


def evidence(text: str) -> dict[str, dict[str, Body]]:
    """The clauses that make a package a result, in three kinds: texts, name, and names with a typing error."""
    if runs(text):
        return {"words in its texts": _run_clauses(text)}
    if not text.isascii():
        # Names are ASCII. So this is no beginning of a name, and no name with a typing error.
        return {"words in its texts": _text_clauses(text)}
    compact = compact_form(text)
    near = {}
    # csharp is no misspelling of fsharp.
    if len(compact) <= LONGEST_TYPO and not names_a_language(text):
        near = {"most of the name's letters": _trigrams(compact)}
        if len(compact) >= SHORTEST_TYPO:
            near["the name except for a letter"] = _with_a_slip(compact)
    return {
        "words in its texts": _text_clauses(text),
        "its name": _name_clauses(text),
        "a name with a typing error": near,
    }


def tiers(text: str) -> dict[str, Body]:
    """The clauses for the exact name and, for a text without separators, for the same name with separators."""
    if runs(text):
        return {}
    found = {"exact": constant(_not_deprecated({"term": {"name": text}}), EXACT, name="exact")}
    if not SEPARATORS.search(text):
        found["compact"] = constant(_not_deprecated({"term": {"name.compact": text}}), COMPACT, name="compact")
    return found


def mentions(word: str) -> Body:
    """Matches packages with `word` in their texts or at the beginning of a word of their name."""
    return any_of([*_all_words(word).values(), {"match": {"name.words": {"query": word, "operator": "and"}}}])


def strong_matches(text: str) -> list[Body]:
    """The strong matches: the beginning of the name or of its words, or all required words in the texts."""
    in_name = _name_clauses(text).values() if text.isascii() else ()
    return [*in_name, *_all_words(text).values(), *_compounds(text).values()]


def _text_clauses(text: str) -> dict[str, Body]:
    if consists_of_stop_words(text):
        return {"the phrase": as_typed(text)} if _is_phrase(text) else {}
    readme = {"match": {"readme": {"query": required_words(text), "operator": "and"}}}
    clauses = {
        **_all_words(text),
        "the words side by side": {"match_phrase": {"description.min": {"query": text, "slop": 1, "boost": PHRASE}}},
        "the words in the README": constant(readme, README),
        **_compounds(text),
    }
    if len(SEPARATORS.split(text)) >= SOME_WORDS_FROM:
        clauses["enough of the words"] = _words(text, SOME_WORDS, minimum_should_match=SOME_WORDS_SHARE)
    if " " not in text:
        boost = WORD_AS_TYPED if text.isascii() else WORDS_AS_TYPED
        clauses["the word as typed"] = {"match_phrase": {"description.typed": {"query": text, "boost": boost}}}
    else:
        lightly = {"query": text, "operator": "and", "boost": ALL_WORDS_LIGHTLY_STEMMED}
        exact = {"match": {"description.typed": {"query": text, "boost": WORDS_AS_TYPED}}}
        both = {"must": {"match": {"description.min": lightly}}, "should": exact}
        clauses["every word in the description"] = {"bool": both}
    return clauses


def _is_phrase(text: str) -> bool:
    """Whether stop words are searched in the texts: several words, or one with a sign that isn't ASCII."""
    return " " in text or not text.isascii()


def _name_clauses(text: str) -> dict[str, Body]:
    clauses = {
        "the beginning of the name": constant({"match": {"name.prefix": text}}, NAME_PREFIX, name="prefix"),
        "beginnings of words in the name": constant(
            {"match": {"name.words": {"query": text, "operator": "and"}}}, NAME_WORDS
        ),
    }
    if SEPARATORS.search(text):
        clauses["the beginning as typed"] = constant({"prefix": {"name": text}}, NAME_PREFIX_AS_TYPED)
        clauses["the name except for separators"] = constant({"term": {"name.compact": text}}, NAME_BUT_FOR_SEPARATORS)
    return clauses


def _not_deprecated(clause: Body) -> Body:
    return {"bool": {"must": clause, "must_not": {"term": {"deprecated": True}}}}


def _all_words(text: str) -> dict[str, Body]:
    """Clauses for all required words and for all words; a single clause when they are the same."""
    if found := runs(text):
        every = [_run(run) for run in found]
        if others := without_runs(text):
            every.append(_words(required_words(others), 1, operator="and"))
        return {"every word": {"bool": {"must": every, "boost": REQUIRED_WORDS + ALL_WORDS, "_name": "words"}}}
    if consists_of_stop_words(text):
        return {"every word": {"bool": {"must": as_typed(text), "_name": "words"}}} if _is_phrase(text) else {}
    required = required_words(text)
    if required == text:
        return {"every word": _words(text, REQUIRED_WORDS + ALL_WORDS, operator="and", _name="words")}
    return {
        "every required word": _words(required, REQUIRED_WORDS, operator="and", _name="words"),
        "every word": _words(text, ALL_WORDS, operator="and"),
    }


def _compounds(text: str) -> dict[str, Body]:
    """A clause for other spellings of the compounds in `text`."""
    # `joined` holds words that the text writes apart. Those match `text` itself, unless it is split here.
    spellings = []
    for variant in variants(text):
        fields = TEXT_FIELDS if len(variant) > len(text) else WRITTEN_FIELDS
        spellings.append(_words(variant, REQUIRED_WORDS + ALL_WORDS, fields, operator="and"))
    return {"the words joined or split": {"dis_max": {"queries": spellings}}} if spellings else {}


def _run_clauses(text: str) -> dict[str, Body]:
    """The clauses for a text with runs of letters without blanks."""
    words = [_words(word, 1, operator="and") for word in without_runs(text).split()]
    words += [_nearly(run) for run in runs(text)]
    some = {"should": words, "minimum_should_match": SOME_WORDS_SHARE, "boost": SOME_WORDS}
    readme = [{"match": {"readme.pairs": {"query": run, "operator": "and"}}} for run in runs(text)]
    if others := without_runs(text):
        readme.append({"match": {"readme": {"query": required_words(others), "operator": "and"}}})
    return {
        "enough of the words": {"bool": some},
        **_all_words(text),
        "the words in the README": constant({"bool": {"must": readme}}, README),
    }


def _run(run: str) -> Body:
    """Matches texts that contain `run`."""
    return {"multi_match": {"query": run, "type": "phrase", "fields": list(RUN_FIELDS), "tie_breaker": TIE_BREAKER}}


def _nearly(run: str) -> Body:
    """Matches texts that contain most pairs of letters of `run`; the whole run if it is short."""
    pairs = ["".join(pair) for pair in pairwise(letters(run))][:MAX_RUN_PAIRS]
    if len(pairs) < 3:
        return _run(run)
    return {"bool": {"should": [_run(pair) for pair in pairs], "minimum_should_match": RUN_SHARE}}


def _words(text: str, boost: float, fields: tuple[str, ...] = TEXT_FIELDS, **how: str) -> Body:
    match = {"query": text, "type": "cross_fields", "fields": list(fields), "tie_breaker": TIE_BREAKER}
    return {"multi_match": {**match, "boost": boost, **how}}


def fuzzy(compact: str) -> Body:
    """Matches names that differ from `compact` by one or two letters; the first letter must be the same."""
    value = {"value": compact, "fuzziness": FUZZY_TWICE, "prefix_length": 1, "max_expansions": 30}
    return {"fuzzy": {"name.compact": {**value, "rewrite": "constant_score", "boost": NAME_FUZZY}}}


def _with_a_slip(compact: str) -> Body:
    return constant({"terms": {"slips": slips(compact)}}, NAME_FUZZY)


def _trigrams(compact: str) -> Body:
    match = {"name.tri": {"query": compact, "minimum_should_match": TRIGRAM_SHARE}}
    return constant({"match": match}, NAME_TRIGRAMS)
