"""Parses a query into words, phrases, exclusions and fields.

Every text is a valid query. No character is passed on to Elasticsearch as an operator.
"""

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

from registry.package_format.texts import normal_form
from registry.search.words import STOP_WORDS, runs, spelled_out

AUTHOR, KEYWORD, LICENSE, NAME = "author", "keyword", "license", "name"

# Characters beyond this number are ignored: the normal form may be 18 times as long as what was typed.
MAX_TEXT = 512
# Words beyond this number are ignored: each one costs a lookup in every field and adds little.
MAX_WORDS = 32

# Longer texts are hardly names with a typing error, and each of their letters would cost a lookup.
LONGEST_TYPO = 64

# In longer texts, words are not joined: each pair costs a lookup.
MAX_COMPOUND_WORDS = 3
_WORD = re.compile(r"[^\W_]+")
_NUMBERED = re.compile(r"\b([^\W\d_]{4,})(\d+)\b")

# Characters that people type between the parts of a name.
SEPARATORS = re.compile(r"[-_.\s/@]+")

_TOKEN = re.compile(
    r"""(?P<minus>-(?=[\w"]|\.net\b))?
        (?:(?P<field>author|keyword|license|name):(?="[^"]+"|[^\s"]))?
        (?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+)|")""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Terms:
    """A parsed query.

    `text` has the words and phrases in their order. `phrases` must occur literally, and `excluded` must not occur.
    `fields` and `excluded_fields` are (author | keyword | license | name, value) pairs. All are in normal form. In the
    first three, names of languages like C++ are spelled out.
    """

    text: str = ""
    phrases: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    excluded_fields: tuple[tuple[str, str], ...] = ()

    @property
    def browses(self) -> bool:
        """Whether the query has filters but no text."""
        return not self.text and bool(self.fields or self.excluded or self.excluded_fields)

    @property
    def matches_nothing(self) -> bool:
        return not self.text and not self.browses


def parse_terms(q: str) -> Terms:
    """Parses the normal form of `q`. Ignores an unfinished quote and words without a letter or digit."""
    text: list[str] = []
    lists: dict[str, list[str]] = {"phrases": [], "excluded": []}
    fields: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
    for found in _TOKEN.finditer(normal_form(q)[:MAX_TEXT]):
        value = " ".join((found["phrase"] or found["word"] or "").split())
        if not searchable(value):
            continue
        if found["field"]:
            fields[bool(found["minus"])].append((found["field"].lower(), value))
            continue
        value = spelled_out(value)
        if found["minus"]:
            lists["excluded"].append(value)
        else:
            text.append(value)
            if found["phrase"]:
                lists["phrases"].append(value)
    return Terms(
        text=" ".join(" ".join(text).split()[:MAX_WORDS]),
        phrases=_unique(lists["phrases"]),
        excluded=_unique(lists["excluded"]),
        fields=tuple(dict.fromkeys(fields[False])),
        excluded_fields=tuple(dict.fromkeys(fields[True])),
    )


def compact_form(text: str) -> str:
    """`text` in lower case without separators."""
    return SEPARATORS.sub("", text).lower()


def slips(compact: str) -> list[str]:
    """`compact`, and `compact` without each of its letters but the first. Empty for more than LONGEST_TYPO letters.

    Two names that differ by one letter have such a form in common: one letter missing, too many or wrong, or two
    neighbours swapped.
    """
    if len(compact) > LONGEST_TYPO:
        return []
    return list(dict.fromkeys((compact, *(compact[:at] + compact[at + 1 :] for at in range(1, len(compact))))))


def variants(text: str) -> list[str]:
    """Other spellings of the compounds in `text`: two adjacent words joined, and numbers split off long words.

    `web socket server` has `websocket server` and `web socketserver`; `nodejs18` has `nodejs 18`.
    """
    words = [word for word in SEPARATORS.split(text) if word]
    if len(words) > MAX_COMPOUND_WORDS or runs(text):
        return []
    joined = [[*words[:at], f"{first}{second}", *words[at + 2 :]] for at, (first, second) in enumerate(pairwise(words))]
    split = _NUMBERED.sub(r"\1 \2", text)
    return [" ".join(each) for each in joined] + ([split] if split != text and " ".join(words) == text else [])


def has_stop_words(text: str) -> bool:
    """Whether Elasticsearch's English analysis drops a word of `text`."""
    return not STOP_WORDS.isdisjoint(_WORD.findall(text.lower()))


def consists_of_stop_words(text: str) -> bool:
    """Whether Elasticsearch's English analysis drops all words of `text`."""
    return STOP_WORDS.issuperset(_WORD.findall(text.lower()))


def searchable(text: str) -> bool:
    """Whether `text` has a letter or digit, so that Elasticsearch finds a word in it."""
    return any(character.isalnum() for character in text)


def without_controls(text: str) -> str:
    """`text` with control characters replaced by blanks, and stripped."""
    return "".join(" " if unicodedata.category(c) == "Cc" else c for c in text).strip()


def _unique(values: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))[:MAX_WORDS]
