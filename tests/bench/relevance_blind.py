"""Queries that describe a package in other words than its own, so that only their meaning leads to it.

`blind.tsv` has one line for each pair of a query and a package that answers it, with the package's texts.
"""

import csv
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("blind.tsv")
# Words without a meaning of their own. A query and a text may share them.
STOP_WORDS = frozenset(
    (
        "a", "an", "and", "are", "as", "at", "by", "do", "for", "from", "has", "have", "how", "i", "in", "into", "is",
        "it", "my", "of", "on", "or", "the", "to", "up", "with",
    )
)  # fmt: skip
_SUFFIX = re.compile(r"(?:ings?|e?s|ed|er|ers|ors?|ions?|ly|al|e)$")
_DOUBLED = re.compile(r"([b-df-hj-np-tv-z])\1$")


@dataclass(frozen=True, slots=True)
class Blind:
    """A query and one package that answers it. `text` is all that the package says of itself, with its name."""

    q: str
    name: str
    text: str


def read() -> list[Blind]:
    with FILE.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [
            Blind(row["query"], row["name"], f"{row['name']} {row['summary']} {row['keywords'] or ''}") for row in rows
        ]


def answers() -> dict[str, list[str]]:
    """The names that answer each query."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for each in read():
        found[each.q].append(each.name)
    return dict(found)


def shared_words(each: Blind) -> set[str]:
    """The stems that the query and the package's texts have in common."""
    return _stems(each.q) & _stems(each.text)


def _stems(text: str) -> set[str]:
    words = set(re.findall(r"[a-z0-9]+", text.lower())) - STOP_WORDS
    return words | {_DOUBLED.sub(r"\1", _SUFFIX.sub("", word)) for word in words if len(word) > 4}
