"""The lexemes of a package, by which PostgreSQL finds what Elasticsearch finds. Pure functions.

A lexeme is a word without accents, stemmed. Words are at positions, so that phrases can be found, and `web socket` also
has the lexeme of `websocket` where a hyphen or the like joins the two. Other lexemes begin with a sign that no word
has: see the constants.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import snowballstemmer

from registry.package_format.texts import normal_form
from registry.search.terms import LONGEST_TYPO, compact_form, slips
from registry.search.words import spaced, spelled_out

ANALYSIS = 2
"""Raise it when a package gets other lexemes than before. Workers then write the lexemes of all packages again."""

# The name without separators; a word of the name; the name with a letter left out; three letters of the name; a whole
# keyword; the whole licence; a word of the author; a word of the README, or two neighbouring letters of a run.
NAME, NAME_WORD, SLIP, TRIGRAM, KEYWORD, LICENSE, AUTHOR, README = "=", "^", "~", "%", "#", "$", "@", "&"

# The weights of PostgreSQL's ts_rank.
NAME_WEIGHT, KEYWORD_WEIGHT, DESCRIPTION_WEIGHT, AUTHOR_WEIGHT = "B", "B", "A", "C"

LONGEST_WORD = 128
# More linked words are not joined into one.
LONGEST_CHAIN = 4
# PostgreSQL stores a little more than this in a tsvector.
MAX_BYTES = 1_000_000
# Phrases don't reach from one field into the next.
GAP = 10
# PostgreSQL stores no higher position.
LAST_POSITION = 16_000

_ACCENT = re.compile("[\u0300-\u036f]")
# Letters that don't decompose.
_PLAIN = str.maketrans(
    {"đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ħ": "h", "Ħ": "H", "ŧ": "t",
     "Ŧ": "T", "ı": "i", "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "þ": "th", "Þ": "TH",
     "ς": "σ"}
)  # fmt: skip
_MARKS = "".join(chr(code) for code in range(0x300, 0x3100) if unicodedata.category(chr(code)).startswith("M"))
_WORD = re.compile(rf"[^\W_](?:[^\W_]|[{_MARKS}])*")
_LINK = re.compile(r"[-_./@'’:+&]")
# A word ends where a capital follows a small letter, and between letters and digits.
_PART = re.compile(r"[A-Z]+[a-z]*|[a-z]+|\d+|[^A-Za-z\d]+")
_stemmer = snowballstemmer.stemmer("porter")


@dataclass(frozen=True, slots=True)
class Word:
    """A word in lower case without accents, its parts, and whether a hyphen or the like joins it to the word before."""

    text: str
    parts: tuple[str, ...]
    is_linked: bool


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a package that are searched."""

    name: str
    description: str
    keywords: Sequence[str]
    author: str
    license: str
    readme: str


def folded(text: str) -> str:
    """`text` in normal form and without accents."""
    if text.isascii():
        return text
    without = _ACCENT.sub("", unicodedata.normalize("NFD", normal_form(text)))
    return unicodedata.normalize("NFC", without).translate(_PLAIN)


def words(text: str) -> list[Word]:
    """The words of `text` in their order. A letter of a script without blanks between words is a word."""
    plain = folded(spaced(spelled_out(normal_form(text))))
    found, end = [], -1
    for match in _WORD.finditer(plain):
        word = match[0][:LONGEST_WORD]
        is_linked = end >= 0 and _LINK.fullmatch(plain, end, match.start()) is not None
        parts = (word,) if word.islower() and word.isalpha() else tuple(_PART.findall(word))
        found.append(Word(word.lower(), tuple(part.lower() for part in parts), is_linked))
        end = match.end()
    return found


@lru_cache(maxsize=50_000)
def stemmed(word: str) -> str:
    """`word` as a lexeme. Only English words of three letters or more are stemmed."""
    return str(_stemmer.stemWord(word)) if len(word) > 2 and word.isascii() and word.isalpha() else word


def trigrams(compact: str) -> list[str]:
    """Every three consecutive letters of `compact`."""
    if len(compact) > LONGEST_TYPO:
        return []
    return list(dict.fromkeys(compact[at : at + 3] for at in range(len(compact) - 2)))


def vector(texts: Texts) -> str:
    """The lexemes of a package as the text of a tsvector."""
    places: dict[str, list[str]] = defaultdict(list)
    end = _place(places, words(texts.name), NAME_WEIGHT, 0)
    end = _place(places, words(texts.description), DESCRIPTION_WEIGHT, end)
    for keyword in texts.keywords:
        end = _place(places, words(keyword), KEYWORD_WEIGHT, end)
    author = words(texts.author)
    _place(places, author, AUTHOR_WEIGHT, end)
    _place(places, author, AUTHOR_WEIGHT, end, sign=AUTHOR)
    lexemes = {lexeme: ":" + ",".join(dict.fromkeys(at)) for lexeme, at in places.items()}
    for lexeme in _unplaced(texts):
        lexemes.setdefault(lexeme, "")
    return _limited(quoted(lexeme) + at for lexeme, at in lexemes.items())


def whole(text: str) -> str:
    """A keyword or licence as a whole, in the form in which two are compared."""
    return folded(text).lower()[:LONGEST_WORD]


def quoted(lexeme: str) -> str:
    """A lexeme as it is written in a tsvector and a tsquery."""
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


def _limited(lexemes: Iterable[str]) -> str:
    """As many lexemes as a tsvector can hold."""
    found, size = [], 0
    for lexeme in lexemes:
        size += len(lexeme.encode()) + 1
        if size > MAX_BYTES:
            break
        found.append(lexeme)
    return " ".join(found)


def _unplaced(texts: Texts) -> Iterable[str]:
    compact = compact_form(texts.name)
    yield NAME + compact
    for word in words(texts.name):
        yield NAME_WORD + word.text
    yield from (SLIP + form for form in slips(compact))
    yield from (TRIGRAM + letters for letters in trigrams(compact))
    yield from (KEYWORD + whole(keyword) for keyword in texts.keywords)
    if texts.license:
        yield LICENSE + whole(texts.license)
    before = ""
    for word in words(texts.readme):
        yield README + stemmed(word.text)
        yield from (README + stemmed(part) for part in (word.parts if len(word.parts) > 1 else ()))
        if not word.text.isascii() and before:
            yield README + before + word.text
        before = word.text


def _place(places: dict[str, list[str]], found: Sequence[Word], weight: str, position: int, *, sign: str = "") -> int:
    """Adds words to `places`, each at its positions. Returns the position after them and a gap.

    Each part of a word has a position. A word of several parts is at the first and the last one, so that it follows the
    word before it and is followed by the word after it. So are linked words that are joined.
    """

    def add(text: str, first: int, last: int) -> None:
        places[sign + stemmed(text)] += [f"{at}{weight}" for at in dict.fromkeys((first, last))]

    chain: list[tuple[Word, int]] = []
    for word in found:
        first = position + 1
        position += len(word.parts)
        if position > LAST_POSITION:
            break
        add(word.text, first, position)
        if len(word.parts) > 1:
            for offset, part in enumerate(word.parts):
                add(part, first + offset, first + offset)
        if not word.is_linked:
            chain = []
        if chain:
            before, start = chain[-1]
            add(before.text + word.text, start, position)
        if 1 < len(chain) < LONGEST_CHAIN:
            add("".join(each.text for each, _ in chain) + word.text, chain[0][1], position)
        chain.append((word, first))
    return min(position, LAST_POSITION) + GAP
