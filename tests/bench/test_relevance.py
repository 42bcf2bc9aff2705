"""The measuring of relevance, on a handful of packages."""

import asyncio

import pytest

from tests.bench.catalogue import Entry
from tests.bench.relevance import falls_short, figures, measure
from tests.bench.relevance_corpus import _paragraphs, of_registry
from tests.bench.relevance_queries import NONSENSE, Case, make
from tests.client import Registry

ENTRIES = [
    Entry(f"tool-{animal}-{number}", f"Counts wild {animal} herds near rivers quickly", (), "", 1000 - number)
    for number in range(6)
    for animal in ("zebra", "okapi")
]


def test_the_same_seed_makes_the_same_cases_and_another_seed_others() -> None:
    assert make(ENTRIES, 1, 5) == make(ENTRIES, 1, 5)
    assert make(ENTRIES, 1, 5) != make(ENTRIES, 2, 5)


def test_figures_are_of_the_first_right_answer() -> None:
    cases = [
        Case("exact", "a", frozenset({"a"})),
        Case("exact", "b", frozenset({"b"})),
        Case(NONSENSE, "x", frozenset()),
    ]
    assert figures(cases, [["a"], ["c", "b"], ["d"]]) == {"exact": (0.75, 0.5), NONSENSE: (1.0, 1.0)}


def test_much_of_nonsense_is_bad_and_much_of_all_else_good() -> None:
    assert falls_short("exact", 0.9, 1.0)
    assert not falls_short("exact", 1.0, 1.0)
    assert falls_short(NONSENSE, 0.2, 0.1)
    assert not falls_short(NONSENSE, 0.05, 0.1)


def test_a_field_of_several_lines_is_one() -> None:
    dump = "Package: a\nTag: x::y,\n z::w\nSection: games\n\nPackage: b\n"
    assert list(_paragraphs(dump)) == [{"Package": "a", "Tag": "x::y, z::w", "Section": "games"}, {"Package": "b"}]


async def test_an_operator_measures_their_own_registry(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    ada = await registry.user()
    for entry in ENTRIES:
        await ada.publish(entry.name, description=entry.summary)
    await registry.drain()
    entries = await asyncio.to_thread(of_registry, registry.url)
    assert sorted(entry.name for entry in entries) == sorted(entry.name for entry in ENTRIES)
    await measure(registry.url, entries, [1], 3)
    exact = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("exact"))
    assert exact.split()[1:3] == ["1.000", "1.00"]
