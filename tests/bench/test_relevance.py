"""Measures relevance with a few packages."""

import asyncio
from pathlib import Path

import pytest

from tests.bench.catalogue import Entry
from tests.bench.relevance import falls_short, figures, measure
from tests.bench.relevance_corpus import _paragraphs, of_registry
from tests.bench.relevance_former import Answer, Record, compare
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


def test_the_first_right_answer_gives_the_rank() -> None:
    cases = [
        Case("exact", "a", frozenset({"a"})),
        Case("exact", "b", frozenset({"b"})),
        Case(NONSENSE, "x", frozenset()),
    ]
    assert figures(cases, [["a"], ["c", "b"], ["d"]]) == {"exact": (0.75, 0.5), NONSENSE: (1.0, 1.0)}


def test_nonsense_must_be_found_rarely_and_all_else_often() -> None:
    assert falls_short("exact", 0.9, 1.0)
    assert not falls_short("exact", 1.0, 1.0)
    assert falls_short(NONSENSE, 0.2, 0.1)
    assert not falls_short(NONSENSE, 0.05, 0.1)


def test_a_field_may_have_several_lines() -> None:
    dump = "Package: a\nTag: x::y,\n z::w\nSection: games\n\nPackage: b\n"
    assert list(_paragraphs(dump)) == [{"Package": "a", "Tag": "x::y, z::w", "Section": "games"}, {"Package": "b"}]


def test_a_record_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    record = Record({"1": {"zebra": Answer(["tool-zebra-1"], 6)}}, {"Elasticsearch": 1.5})
    record.save(tmp_path / "record")
    assert Record.load(tmp_path / "record") == record


@pytest.mark.parametrize(("still_found", "good"), [(10, True), (9, False)])
def test_nine_of_ten_former_names_are_too_few(still_found: int, good: bool, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"tool-{number}" for number in range(10)]
    former = Record({"1": {"tool": Answer(names, 50)}}, {"Elasticsearch": 2.0})
    now = Record({"1": {"tool": Answer(["other", *names[:still_found]], 25)}}, {"Elasticsearch": 1.0})
    assert compare({"1": [Case("exact", "tool", frozenset(names[:1]))]}, former, now) == good
    printed = capsys.readouterr().out
    assert f"names                  1     {still_found / 10:.3f}    0.92              50          25" in printed
    assert "processor time of Elasticsearch for a query: 1.00 ms, before 2.00 ms, ratio 0.50" in printed


async def test_an_operator_measures_their_own_registry(
    registry: Registry, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ada = await registry.user()
    for entry in ENTRIES:
        await ada.publish(entry.name, description=entry.summary)
    await registry.drain()
    entries = await asyncio.to_thread(of_registry, registry.url)
    assert sorted(entry.name for entry in entries) == sorted(entry.name for entry in ENTRIES)
    record = tmp_path / "record"
    await measure(registry.url, entries, [1], 3, record=record)
    await measure(registry.url, entries, [1], 3, former=record)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["exact", "1.000", "1.00"] in [words[:3] for words in printed]
    assert ["texts", "1.000", "0.99"] in [[words[0], *words[2:4]] for words in printed if len(words) > 3]
    assert any(words[:5] == ["processor", "time", "of", "the", "registry"] for words in printed)
