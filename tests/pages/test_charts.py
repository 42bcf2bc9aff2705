"""Charts as SVG: well-formed, in scale, and said in words."""

import re
from datetime import date, timedelta
from itertools import pairwise

import pytest
from lxml import etree

from registry.pages import charts
from registry.pages.charts import Chart, Group

START = date(2026, 9, 7)


def weeks(*groups: Group, title: str = "Downloads of demo") -> Chart:
    count = len(groups[0].values)
    return Chart(title, "week", tuple(START + timedelta(days=7 * each) for each in range(count)), groups)


def parsed(chart: Chart) -> etree._Element:
    return etree.fromstring(charts.chart(chart))


def paths(root: etree._Element) -> list[tuple[str, str]]:
    return [(each.get("class", ""), each.get("d", "")) for each in root.iter("path")]


def heights(path: str) -> list[float]:
    return [float(each) for each in re.findall(r"v-([\d.]+)", path)]


def test_small_bars_are_in_scale_and_the_last_one_stands_out():
    root = etree.fromstring(charts.bars([10, 0, 5, 20], "Downloads of demo a week"))
    [path] = root.iter("path")
    assert heights(path.get("d", "")) == [15, 1, 8]
    [last] = root.iter("rect")
    assert (last.get("class"), last.get("height"), last.get("y")) == ("now", "30", "0")
    assert root.get("aria-label") == "Downloads of demo a week: 20 now, 20 at most"
    assert root.get("viewBox") == "0 0 11 30"


@pytest.mark.parametrize("values", [[], [0], [0] * 52, [7], [10**15] * 52])
def test_small_bars_of_any_values_are_well_formed(values: list[int]):
    root = etree.fromstring(charts.bars(values, '"<&'))
    assert ('"<&: none' in root.get("aria-label", "")) == (not any(values))


def test_a_chart_without_downloads_says_so():
    assert "no downloads" in "".join(parsed(weeks(Group("Downloads", (0, 0, 0)))).itertext())


def test_a_chart_of_one_group_highlights_the_current_interval():
    root = parsed(weeks(Group("Downloads", (50, 100, 25))))
    assert [(name, heights(d)) for name, d in paths(root)] == [("g0", [110, 220]), ("now", [55])]
    assert not list(root.iter("figcaption"))


def test_groups_are_stacked_without_gaps():
    root = parsed(weeks(Group("1.0.0", (60, 10, 0)), Group("2.0.0", (40, 30, 5))))
    (first, lower), (second, upper) = paths(root)
    assert (first, second) == ("g1", "g2")
    assert heights(lower) == [132, 22]
    assert [float(each) for each in re.findall(r"M[\d.]+ ([\d.]+)", upper)] == [88, 198, 220]
    assert [" ".join("".join(each.itertext()).split()) for each in root.iter("li")][:2] == ["1.0.0 70", "2.0.0 75"]


def test_every_interval_says_its_period_and_its_values():
    root = parsed(weeks(Group("1.0.0", (60, 0)), Group("<2>", (40, 1))))
    assert [each.findtext("title") for each in root.iter("rect")] == [
        "7\N{EN DASH}13 Sep 2026: 100 downloads\n1.0.0: 60\n<2>: 40",
        "14\N{EN DASH}20 Sep 2026: 1 download\n<2>: 1",
    ]


def test_a_chart_is_described_in_words():
    root = parsed(weeks(Group("1.0.0", (60, 0)), Group("2.0.0", (40, 1000))))
    [svg] = [each for each in root.iter("svg") if each.get("role") == "img"]
    named = [each.get("id") for each in root.iter() if each.get("id")]
    assert svg.get("aria-labelledby", "").split() == named
    assert root.findtext(".//title") == "Downloads of demo"
    assert root.findtext(".//desc") == (
        "1,100 downloads in 2 weeks. Most were in 14\N{EN DASH}20 Sep 2026: 1,000. 1.0.0: 60, 2.0.0: 1,040."
    )


@pytest.mark.parametrize("top", [1, 2, 3, 4, 5, 7, 9, 10, 11, 41, 99, 100, 101, 999, 12_345, 10**9 + 1, 10**15])
def test_ticks_are_whole_equal_and_reach_the_highest_value(top: int):
    ticks = charts._ticks(top)
    assert ticks[0] == 0
    assert ticks[-2] < top <= ticks[-1]
    assert 2 <= len(ticks) <= 6
    assert len({after - before for before, after in pairwise(ticks)}) == 1


@pytest.mark.parametrize("count", [1, 2, 5, 13, 53, 130])
def test_labels_keep_their_distance(count: int):
    root = parsed(weeks(Group("Downloads", (1,) * count)))
    places = [float(each.get("x", "").rstrip("%")) for each in root.iter("text")]
    assert 1 <= len(places) <= charts.MOST_LABELS
    assert all(after - before > 9 for before, after in pairwise(places))


@pytest.mark.parametrize(
    ("interval", "start", "text"),
    [
        ("day", date(2026, 11, 5), "5 Nov 2026"),
        ("week", date(2026, 11, 23), "23\N{EN DASH}29 Nov 2026"),
        ("week", date(2026, 11, 30), "30 Nov \N{EN DASH} 6 Dec 2026"),
        ("week", date(2026, 12, 28), "28 Dec 2026 \N{EN DASH} 3 Jan 2027"),
        ("month", date(2026, 11, 1), "November 2026"),
    ],
)
def test_periods_have_short_names(interval: str, start: date, text: str):
    assert charts.period(interval, start) == text


def test_nothing_is_styled_inline():
    drawn = charts.chart(weeks(Group("1.0.0", (60, 0)), Group("2.0.0", (40, 1)))) + charts.bars([1, 2], "x")
    assert not re.search(r"\sstyle=|<style|<script|\son\w+=", drawn)
