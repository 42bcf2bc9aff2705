"""Compares names with typing errors. Pure functions."""

from registry.search.clauses import SHORTEST_TYPO
from registry.search.terms import LONGEST_TYPO

# Shorter names may have one typing error, and others two.
TWO_TYPOS_FROM = 9


def most_typos(compact: str) -> int:
    """How many letters of a name may be wrong when nothing else is found. As with Elasticsearch's "AUTO:4,9"."""
    if not SHORTEST_TYPO <= len(compact) <= LONGEST_TYPO:
        return 0
    return 1 if len(compact) < TWO_TYPOS_FROM else 2


def is_similar(typed: str, name: str) -> bool:
    """Whether a few wrong, missing, additional or swapped letters turn `typed` into `name`. See most_typos()."""
    before: list[int] = []
    row = list(range(len(name) + 1))
    for at, letter in enumerate(typed):
        last, before, row = before, row, [at + 1]
        for to, other in enumerate(name):
            cost = min(before[to + 1] + 1, row[to] + 1, before[to] + (letter != other))
            if at and to and letter == name[to - 1] and typed[at - 1] == other:
                cost = min(cost, last[to - 1] + 1)
            row.append(cost)
    return row[-1] <= most_typos(typed)
