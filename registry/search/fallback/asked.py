"""Turns a search into the tsqueries that find the lexemes of packages. Pure functions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from math import comb

from registry.search import terms as parsing
from registry.search.clauses import OPTIONAL, SHORTEST_TYPO
from registry.search.fallback.lexemes import (
    AUTHOR,
    KEYWORD,
    LICENSE,
    NAME,
    NAME_WORD,
    README,
    SLIP,
    TRIGRAM,
    Word,
    folded,
    quoted,
    stemmed,
    trigrams,
    whole,
    words,
)
from registry.search.fallback.synonyms import synonyms
from registry.search.fallback.typos import most_typos
from registry.search.request import RELEVANCE, SearchRequest
from registry.search.terms import compact_form, slips
from registry.search.words import STOP_WORDS, letters, names_a_language, runs, without_runs

NOTHING = ""
"""The tsquery that matches no package."""

# A longer beginning of a name is cut.
LONGEST_BEGINNING = 32
# Words of these lengths may be two words in a text.
SHORTEST_COMPOUND, LONGEST_COMPOUND = 4, 24
# Splitting and joining the words of longer texts would cost too many lookups.
MOST_COMPOUNDS = 6
# More combinations of words are approximated.
MOST_COMBINATIONS = 30
# A name that may have two typing errors is long enough for three parts with a trigram each.
PIECES = 3
# This share of the trigrams of a name must occur, of the words of a long text, and of the pairs of letters of a run.
TRIGRAM_SHARE, WORD_SHARE, RUN_SHARE = 0.75, 0.7, 0.7


@dataclass(frozen=True, slots=True)
class Asked:
    """The tsqueries of a search, and what its ranking needs.

    `matching` finds all results, and some packages with too few of the `trigrams`; "" means all packages. `sure` finds
    the results that need no count of trigrams. `every` finds packages with all words of the text, in their README as
    well, `phrase` those with its words side by side, `beginning` and `name_words` those whose name or words of the name
    begin so, `slip` names with one wrong letter. `ranked` is for ts_rank.
    """

    matching: str = NOTHING
    sure: str = NOTHING
    every: str = NOTHING
    ranked: str = NOTHING
    phrase: str = NOTHING
    beginning: str = NOTHING
    name_words: str = NOTHING
    slip: str = NOTHING
    trigrams: tuple[str, ...] = ()
    least_trigrams: int = 1
    words: int = 1


def asked(request: SearchRequest) -> Asked:
    """The tsqueries of `request`. Filters for fields are part of them, unless it searches every version."""
    restrictions = _restrictions(request)
    text = request.terms.text
    if not text:
        return Asked(matching=_all(restrictions), sure=_all(restrictions))
    # Names are ASCII, so a text with other letters is neither the beginning of a name nor a name with a typing error.
    name = text if text.isascii() else ""
    compact = compact_form(name)
    units = _units(text)
    beginning = f"{quoted(NAME + compact[:LONGEST_BEGINNING])}:*" if compact else NOTHING
    name_words = in_name(name)
    # With another order than relevance, weak matches could come first. They are left out.
    is_ranked = request.sort == RELEVANCE
    every = _any([_every(text, units), _in_readme(text) if is_ranked else NOTHING])
    may_be_mistyped = not names_a_language(text)
    slip = _slip(compact) if may_be_mistyped else NOTHING
    found = tuple(trigrams(compact)) if is_ranked and may_be_mistyped else ()
    least = _least(len(found), TRIGRAM_SHARE)
    sure = _any([every, beginning, name_words, *([_enough(units), slip] if is_ranked else [])])
    near = _about(least, [quoted(TRIGRAM + each) for each in found])
    return Asked(
        matching=_all([_any([sure, near]), *restrictions]),
        sure=sure,
        every=every,
        ranked=_any(quoted(stemmed(word.text)) for word in words(text) if word.text not in STOP_WORDS),
        phrase=_phrase(text),
        beginning=beginning,
        name_words=name_words,
        slip=slip,
        trigrams=found,
        least_trigrams=least,
        words=len(units),
    )


def only_named(request: SearchRequest, wanted: Asked, names: Iterable[str]) -> Asked:
    """`wanted`, but instead of the text only packages with these names match it."""
    named = _any(quoted(NAME + compact_form(name)) for name in names)
    matching = _all([named, *_restrictions(request)])
    return replace(wanted, matching=matching, sure=matching, slip=named, trigrams=())


def in_name(text: str) -> str:
    """Matches names with words that begin as those of `text`. As in the index, a single letter is no beginning."""
    nothing = quoted(NAME_WORD)
    beginnings = [word.text[:LONGEST_BEGINNING] for word in words(text)]
    return _all(f"{quoted(NAME_WORD + each)}:*" if len(each) > 1 else nothing for each in beginnings)


def mistyped(compact: str) -> str:
    """The tsquery of names that may be `compact` with as many typing errors as most_typos() allows.

    Of three parts of a name, two wrong letters leave one as it is. The first letter must be right.
    """
    if most_typos(compact) < 2:
        return _slip(compact)
    size = len(compact) / PIECES
    pieces = [compact[round(at * size) : round((at + 1) * size)] for at in range(PIECES)]
    parts = [_all(quoted(TRIGRAM + each) for each in trigrams(piece)) for piece in pieces]
    return _any([_slip(compact), _all([f"{quoted(NAME + compact[0])}:*", _any(parts)])])


def _slip(compact: str) -> str:
    """The tsquery of names that differ from `compact` by a letter."""
    return _any(quoted(SLIP + form) for form in slips(compact)) if len(compact) >= SHORTEST_TYPO else NOTHING


# A word or run of the text: a tsquery for it and for its other spellings, a shorter one without its compounds, and
# whether it is required.
Unit = tuple[str, str, bool]


def _units(text: str) -> list[Unit]:
    """The words and runs of `text`, without stop words."""
    found = words(without_runs(text))
    compounds = len(found) <= MOST_COMPOUNDS
    alike = _same_meaning([stemmed(word.text) for word in found], "")
    units = []
    for at, word in enumerate(found):
        if word.text in STOP_WORDS:
            continue
        simply = [_lexeme(word.text), *_joined(found, at), *alike.get(at, ())]
        wide = [*simply, *_split(word)] if compounds else simply
        units.append((_any(wide), _any(simply), word.text not in OPTIONAL))
    units += [(_run(run), _nearly_run(run), True) for run in runs(text)]
    return units


def _every(text: str, units: Sequence[Unit]) -> str:
    """Matches all required words. A text of stop words alone must occur word by word."""
    if not units:
        return _phrase(text) if " " in text else NOTHING
    required = [wide for wide, _, is_required in units if is_required]
    return _all(required or [wide for wide, _, _ in units])


def _in_readme(text: str) -> str:
    """Matches READMEs with all required words of `text` and with all pairs of letters of its runs."""
    pairs = [[README + "".join(pair) for pair in pairwise(_letters(run))] for run in runs(text)]
    if not all(pairs):
        return NOTHING
    found = [word.text for word in words(without_runs(text)) if word.text not in STOP_WORDS]
    lexemes = [stemmed(word) for word in found if word not in OPTIONAL] or [stemmed(word) for word in found]
    alike = _same_meaning(lexemes, README)
    every = [_any([quoted(README + lexeme), *alike.get(at, ())]) for at, lexeme in enumerate(lexemes)]
    return _all([*every, *(quoted(each) for of_run in pairs for each in of_run)])


def _enough(units: Sequence[Unit]) -> str:
    """Matches all of one or two words, all but one of three to five, and 70 % of more."""
    least = len(units) if len(units) < 3 else len(units) - 1 if len(units) < 6 else _least(len(units), WORD_SHARE)
    return _at_least(least, [simply for _, simply, _ in units])


def _joined(found: Sequence[Word], at: int) -> list[str]:
    """A word joined with the words beside it."""
    if len(found) > MOST_COMPOUNDS:
        return []
    spans = [(first, first + size) for size in (2, 3) for first in range(at - size + 1, at + 1)]
    inside = [found[first:last] for first, last in spans if first >= 0 and last <= len(found)]
    return [_lexeme("".join(word.text for word in span)) for span in inside]


def _split(word: Word) -> list[str]:
    """A word as its parts, and as two words."""
    if len(word.parts) > 1:
        parts = [_any([_lexeme(part), *_halves(part)]) for part in word.parts]
        return [_followed([_lexeme(part) for part in word.parts]), _all(parts)]
    return _halves(word.text)


def _halves(text: str) -> list[str]:
    """A word as two words, for each place where it may be split."""
    if not SHORTEST_COMPOUND <= len(text) <= LONGEST_COMPOUND or not text.isalpha():
        return []
    return [_followed([_lexeme(text[:at]), _lexeme(text[at:])]) for at in range(1, len(text))]


def _same_meaning(lexemes: Sequence[str], sign: str) -> dict[int, list[str]]:
    """The synonyms of each word, by its index, as lexemes with `sign`. A phrase has them at each of its words."""
    known = synonyms()
    found: dict[int, list[str]] = {}
    for first in range(len(lexemes)):
        for last in range(first + 1, min(first + 4, len(lexemes)) + 1):
            others = known.get(tuple(lexemes[first:last]), ())
            for at in range(first, last):
                found.setdefault(at, []).extend(_followed([quoted(sign + each) for each in other]) for other in others)
    return found


def _letters(run: str) -> list[str]:
    return [folded(letter).lower() for letter in letters(run)]


def _run(run: str) -> str:
    """Matches texts that contain the run of letters."""
    return _followed([quoted(letter) for letter in _letters(run)])


def _nearly_run(run: str) -> str:
    """Matches texts that contain most pairs of letters of the run."""
    pairs = [_followed(pair) for pair in pairwise(map(quoted, _letters(run)))]
    return _run(run) if len(pairs) < 3 else _at_least(_least(len(pairs), RUN_SHARE), pairs)


def _restrictions(request: SearchRequest) -> list[str]:
    """What every result must match besides the text."""
    terms = request.terms
    found = [_phrase_or_name(phrase) for phrase in terms.phrases]
    found += [_not(_phrase_or_name(phrase)) for phrase in terms.excluded]
    if request.every_version:
        return found
    found += [_field(field, value) for field, value in terms.fields]
    found += [_not(_field(field, value)) for field, value in terms.excluded_fields]
    found += [_any(_field(parsing.AUTHOR, value) for value in request.authors)]
    found += [_any(_field(parsing.LICENSE, value) for value in request.licenses)]
    found += [_field(parsing.KEYWORD, value) for value in request.keywords]
    return [each for each in found if each]


def _field(field: str, value: str) -> str:
    if field == parsing.KEYWORD:
        return quoted(KEYWORD + whole(value))
    if field == parsing.LICENSE:
        return quoted(LICENSE + whole(value))
    if field == parsing.AUTHOR:
        return _phrase(value, AUTHOR)
    return in_name(value)


def _phrase_or_name(text: str) -> str:
    """Matches texts with the phrase. A phrase of stop words may also consist of words of the name."""
    if all(word.text in STOP_WORDS for word in words(text)):
        return _any([_phrase(text), _field(parsing.NAME, text)])
    return _phrase(text)


def _phrase(text: str, sign: str = "") -> str:
    """Matches the words side by side. Other words may be in the place of stop words, unless there are no others."""
    parts = [part for word in words(text) for part in word.parts]
    places = [at for at, part in enumerate(parts) if part not in STOP_WORDS] or list(range(len(parts)))
    if not places:
        return NOTHING
    found = quoted(sign + stemmed(parts[places[0]]))
    for before, at in pairwise(places):
        found += f" <{at - before}> {quoted(sign + stemmed(parts[at]))}"
    return f"({found})"


def _at_least(least: int, queries: Sequence[str]) -> str:
    """Matches what has at least `least` of `queries`. If there are many, it matches a little more."""
    if comb(len(queries), least) <= MOST_COMBINATIONS:
        return _any(_all(chosen) for chosen in combinations(queries, least))
    return _about(least, queries)


def _about(least: int, queries: Sequence[str]) -> str:
    """Matches what has at least `least` of `queries`, and some that have fewer.

    If at most `n` are missing, then of `n + 1` groups at least one is complete.
    """
    if not queries:
        return NOTHING
    groups = len(queries) - least + 1
    size = len(queries) / groups
    return _any(_all(queries[round(at * size) : round((at + 1) * size)]) for at in range(groups))


def _least(count: int, share: float) -> int:
    return max(1, int(count * share))


def _lexeme(text: str) -> str:
    return quoted(stemmed(text))


def _followed(queries: Sequence[str]) -> str:
    return f"({' <-> '.join(queries)})"


def _all(queries: Iterable[str]) -> str:
    given = [query for query in queries if query]
    return f"({' & '.join(given)})" if given else NOTHING


def _any(queries: Iterable[str]) -> str:
    given = list(dict.fromkeys(query for query in queries if query))
    return f"({' | '.join(given)})" if given else NOTHING


def _not(query: str) -> str:
    return f"!{query}" if query else NOTHING
