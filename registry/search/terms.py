"""What a typed query means: plain words, phrases, exclusions and fields. Every text is valid; none is an operator of
the engine."""

import re
import unicodedata
from dataclasses import dataclass

AUTHOR, KEYWORD, LICENSE, NAME = "author", "keyword", "license", "name"

# More words than this say nothing more, and every one of them costs the engine a lookup in every field.
MAX_WORDS = 32

# What people type between the parts of a name.
SEPARATORS = re.compile(r"[-_.\s/@]+")

_TOKEN = re.compile(
    r"""(?P<minus>-(?=[\w"]))?
        (?:(?P<field>author|keyword|license|name):(?="[^"]+"|[^\s"]))?
        (?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+)|")""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Terms:
    """A query taken apart.

    `text` is the plain words and phrases in the order typed; `phrases` must occur as they are, `excluded` must not.
    `fields` and `excluded_fields` are (author | keyword | license | name, value) pairs.
    """

    text: str = ""
    phrases: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    excluded_fields: tuple[tuple[str, str], ...] = ()

    @property
    def browses(self) -> bool:
        """Whether there is no text to match, only filters to list by."""
        return not self.text and bool(self.fields or self.excluded or self.excluded_fields)

    @property
    def matches_nothing(self) -> bool:
        return not self.text and not self.browses


def parse_terms(q: str) -> Terms:
    """The terms of `q`. An unfinished quote counts as a blank; words without a letter or digit are dropped."""
    text: list[str] = []
    lists: dict[str, list[str]] = {"phrases": [], "excluded": []}
    fields: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
    for found in _TOKEN.finditer(q):
        value = " ".join((found["phrase"] or found["word"] or "").split())
        if not searchable(value):
            continue
        if found["field"]:
            fields[bool(found["minus"])].append((found["field"].lower(), value))
        elif found["minus"]:
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


def searchable(text: str) -> bool:
    """Whether the engine finds a word in `text`: a letter or a digit."""
    return any(character.isalnum() for character in text)


def without_controls(text: str) -> str:
    """`text` with control characters as blanks, without blanks around it."""
    return "".join(" " if unicodedata.category(c) == "Cc" else c for c in text).strip()


def _unique(values: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))[:MAX_WORDS]
