"""Makes queries with known answers from the packages, in several kinds that imitate how people search."""

import random
import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.bench.catalogue import Entry

# Words of nearly every description. Nobody searches for a package by these words alone.
COMMON = frozenset(
    (
        "and", "are", "based", "can", "dev", "development", "files", "for", "from", "gnu", "has", "interface", "into",
        "its", "lib", "libraries", "library", "linux", "module", "modules", "package", "packages", "perl", "python",
        "runtime", "ruby", "shared", "simple", "that", "the", "this", "tool", "tools", "using", "utilities", "version",
        "which", "with", "you", "your",
    )
)  # fmt: skip
# Few packages match a recalled description, and many match a topic.
MOST_RECALLED, FEWEST_ON_TOPIC, MOST_ON_TOPIC = 4, 12, 300
RIGHT_ANSWERS = 3

NONSENSE = "nonsense"


@dataclass(frozen=True)
class Case:
    """A query, its kind, and the names of the packages that answer it. Nothing answers nonsense."""

    kind: str
    q: str
    right: frozenset[str]


def make(entries: Sequence[Entry], seed: int, count: int) -> list[Case]:
    """Up to `count` cases of every kind. `entries` are sorted by popularity; the same seed makes the same cases."""
    cases: list[Case] = []
    for kind, maker in _MAKERS.items():
        rng = random.Random(f"{kind} {seed}")
        made: dict[str, Case] = {}
        for q, right in maker(rng, entries):
            made.setdefault(q, Case(kind, q, frozenset(right)))
            if len(made) == count:
                break
        cases += made.values()
    return cases


_Made = Iterable[tuple[str, Iterable[str]]]


def _mixed(rng: random.Random, entries: Sequence[Entry]) -> Iterable[Entry]:
    """Random entries. Every second one is from the most popular tenth."""
    popular = entries[: max(10, len(entries) // 10)]
    for _ in range(len(entries) * 3):
        yield rng.choice(popular if rng.random() < 0.5 else entries)


def _exact(rng: random.Random, entries: Sequence[Entry]) -> _Made:
    return ((entry.name, [entry.name]) for entry in _mixed(rng, entries))


def _respelled(how: Callable[[list[str]], str]) -> Callable[[random.Random, Sequence[Entry]], _Made]:
    def made(rng: random.Random, entries: Sequence[Entry]) -> _Made:
        letters = Counter(_letters(entry.name) for entry in entries)
        for entry in _mixed(rng, entries):
            parts = re.split(r"[-_]", entry.name)
            if len(parts) > 1 and letters[_letters(entry.name)] == 1:
                yield how(parts), [entry.name]

    return made


def _begun(rng: random.Random, entries: Sequence[Entry]) -> _Made:
    """The beginning of a popular name. The most popular packages with this beginning are right."""
    names = {entry.name for entry in entries}
    for entry in _mixed(rng, entries[: max(50, len(entries) // 8)]):
        typed = entry.name[: max(4, round(len(entry.name) * rng.uniform(0.55, 0.85)))].rstrip("-_")
        if typed != entry.name and typed not in names:
            yield typed, [other.name for other in entries if other.name.startswith(typed)][:RIGHT_ANSWERS]


def _slipped(rng: random.Random, entries: Sequence[Entry]) -> _Made:
    known = {_letters(entry.name) for entry in entries}
    for entry in _mixed(rng, entries[: len(entries) // 2]):
        name = entry.name
        if len(name) < 5:
            continue
        at = rng.randrange(1, len(name) - 1)
        other = rng.choice(string.ascii_lowercase)
        slips = (
            name[:at] + name[at + 1 :],
            name[:at] + name[at] + name[at:],
            name[:at] + other + name[at + 1 :],
            name[:at] + name[at + 1] + name[at] + name[at + 2 :],
        )
        typed = rng.choice(slips)
        if _letters(typed) not in known:
            yield typed, [name]


def _recalled(rng: random.Random, entries: Sequence[Entry]) -> _Made:
    """Two or three words of a description that are not in the name, in any order. Packages with all of them are right.

    One word changes between singular and plural.
    """
    holders: defaultdict[str, set[str]] = defaultdict(set)
    for entry in entries:
        for word in _words(entry.summary):
            holders[_singular(word)].add(entry.name)
    for entry in _mixed(rng, entries):
        own = _letters(entry.name)
        words = [w for w in dict.fromkeys(_words(entry.summary)) if w not in COMMON and _singular(w) not in own]
        if len(words) >= 3:
            chosen = rng.sample(words, rng.choice((2, 3)))
            right = set.intersection(*(holders[_singular(word)] for word in chosen))
            chosen[0] = _singular(chosen[0]) if chosen[0] != _singular(chosen[0]) else chosen[0] + "s"
            if len(right) <= MOST_RECALLED:
                yield " ".join(chosen), right


def _topics(rng: random.Random, entries: Sequence[Entry]) -> _Made:
    """Two words that are next to each other in many descriptions. The most popular of these packages are right."""
    on_topic: defaultdict[str, list[str]] = defaultdict(list)
    for entry in entries:
        words = re.findall(r"[a-z0-9]+", entry.summary.lower())
        for pair in dict.fromkeys(pairwise(words)):
            if all(len(word) > 2 and word not in COMMON for word in pair):
                on_topic[" ".join(pair)].append(entry.name)
    topics = sorted(topic for topic, names in on_topic.items() if FEWEST_ON_TOPIC <= len(names) <= MOST_ON_TOPIC)
    rng.shuffle(topics)
    return ((topic, on_topic[topic][:RIGHT_ANSWERS]) for topic in topics)


def _nonsense(rng: random.Random, entries: Sequence[Entry]) -> _Made:
    return (("".join(rng.choices(string.ascii_lowercase, k=rng.randint(6, 10))), ()) for _ in entries)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z][a-z0-9]{2,}", text.lower())


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


_MAKERS: dict[str, Callable[[random.Random, Sequence[Entry]], _Made]] = {
    "exact": _exact,
    "underscores": _respelled("_".join),
    "blanks": _respelled(" ".join),
    "run together": _respelled("".join),
    "camel case": _respelled(lambda parts: "".join(part.capitalize() for part in parts)),
    "half typed": _begun,
    "one slip": _slipped,
    "recalled": _recalled,
    "topic": _topics,
    NONSENSE: _nonsense,
}
