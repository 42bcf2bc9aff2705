"""The pages of statistics of the registry and of a package."""

import csv
import io
from datetime import UTC, date, datetime, timedelta

import pytest

from registry.errors import InvalidInput
from registry.pages.statistics.view import View, label
from tests.client import Registry
from tests.downloads.test_figures import TODAY, add
from tests.pages.seed import Seeded
from tests.pages.visitor import Page, Visitor

GROUPS = ("version", "client", "kind", "country", "os")


def table(page: Page, caption: str) -> list[list[str]]:
    """The rows of the table with this caption."""
    [found] = [each for each in page.all("table") if each.findtext("caption", "").strip() == caption]
    return [
        [" ".join(cell.text_content().split()) for cell in row.cssselect("th, td")]
        for row in found.cssselect("tbody tr")
    ]


async def filled(registry: Registry) -> None:
    ada = await registry.user()
    await ada.publish("demo")
    await ada.publish("other")
    back = (TODAY - datetime.now(UTC).date()).days
    await add(registry, "demo", back, 30, kind="ci", country="DE", client="pip", system="Linux")
    await add(registry, "demo", back + 1, 10, kind="human", country="KR", client="npm")
    await add(registry, "demo", back + 40, 5, kind="bot")
    await add(registry, "other", back, 7)


async def test_tables_show_every_trait_of_a_package(registry: Registry):
    await filled(registry)
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/packages/demo/stats?range=30")
    assert table(page, "By version") == [["1.0.0", "100.0 %", "40"]]
    assert table(page, "By kind of client") == [["CI", "75.0 %", "30"], ["People", "25.0 %", "10"]]
    assert table(page, "By country") == [["Germany", "75.0 %", "30"], ["South Korea", "25.0 %", "10"]]
    assert table(page, "By system") == [["Linux", "75.0 %", "30"], ["Unknown", "25.0 %", "10"]]
    over_time = table(page, "Downloads of demo by day")
    assert len(over_time) == 30
    assert [row[-1] for row in over_time[-2:]] == ["10", "30"]
    assert page.texts(".figures span")[0] == "40 downloads this week"


async def test_groups_have_a_column_each_and_a_legend(registry: Registry):
    await filled(registry)
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/packages/demo/stats?range=90&group_by=kind")
    rows = table(page, "Downloads of demo by week")
    assert [sum(int(row[at]) for row in rows) for at in (1, 2, 3, 4)] == [30, 10, 5, 45]
    assert page.texts(".chart-legend li") == ["CI 30", "People 10", "Bots 5"]
    assert page.texts(".switch [aria-current]") == ["90 days", "Weeks", "Kind of client"]


async def test_the_registry_has_no_versions(registry: Registry):
    await filled(registry)
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/stats?range=30")
        assert "By version" not in page.text
        assert table(page, "By client")[:2] == [["pip", "63.8 %", "30"], ["npm", "21.3 %", "10"]]
        await visitor.get("/stats?group_by=version", status=400)


async def test_csv_has_the_figures_of_the_chart(registry: Registry):
    await filled(registry)
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/packages/demo/stats?range=30&group_by=kind")
        answer = await visitor.get(page.link("Download as CSV"))
        [link] = [each.get("href") for each in page.all("caption a") if "country" in each.text_content()]
        by_country = await visitor.get(link)
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert [(row["kind"], row["downloads"]) for row in rows] == [("human", "10"), ("ci", "30")]
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert "demo-downloads.csv" in answer.headers["Content-Disposition"]
    assert b"KR" in by_country.body


async def test_a_period_of_ones_own_is_kept_by_all_links(registry: Registry):
    await filled(registry)
    first, last = TODAY - timedelta(days=200), TODAY
    async with Visitor(registry.url) as visitor:
        page = await visitor.get(f"/packages/demo/stats?from={first}&to={last}")
        page = await visitor.get(page.link("Country"))
        assert f"from={first}&to={last}" in page.link("Months")
        assert [each.get("value") for each in page.all("input[type=date]")] == [str(first), str(last)]
        page = await visitor.send(page, "Show", **{"from": "2026-11-14", "to": "2026-11-15"})
    assert len(table(page, "Downloads of demo by day")) == 2


@pytest.mark.parametrize(
    "query", ["from=2026-13-01", "from=2026-02-02&to=2026-01-01", "interval=year", "group_by=planet", "from=1970-01-01"]
)
async def test_wrong_parameters_are_a_page_of_400(registry: Registry, query: str):
    async with Visitor(registry.url) as visitor:
        page = await visitor.get(f"/stats?{query}", status=400)
    assert page.all("main h1")


async def test_missing_and_quarantined_packages_have_no_statistics(seeded: Seeded):
    async with Visitor(seeded.url) as visitor:
        await visitor.get("/packages/no-such-package/stats", status=404)
        await visitor.get("/packages/shady-miner/stats", status=403)
        moved = await visitor.call("GET", "/packages/brook_http/stats?range=365")
        assert moved.status == 301
        assert moved.headers["Location"] == "/packages/brook-http/stats?range=365"


async def test_badges_can_be_copied(seeded: Seeded):
    async with Visitor(seeded.url) as visitor:
        page = await visitor.get("/packages/brook-http/stats")
        [first, *_] = [each.get("src") for each in page.all(".badges img")]
        assert (await visitor.get(first)).headers["Content-Type"].startswith("image/svg+xml")
    assert len(page.all(".badges [data-copy]")) == 3
    assert "](http://localhost" in page.all(".badges [data-copy]")[0].get("data-copy")


async def test_pages_of_a_year_stay_small(seeded: Seeded):
    async with Visitor(seeded.url) as visitor:
        for query in ("range=365&group_by=version", "range=90&interval=day&group_by=country", "range=30"):
            page = await visitor.get(f"/packages/brook-http/stats?{query}")
            assert len(page.body) < 120_000, query


def test_the_interval_follows_from_the_length_of_the_period():
    today = date(2026, 11, 28)
    assert View.parse({}, GROUPS, today) == View(date(2026, 8, 31), today, 90, "week", "")
    assert View.parse({"range": "30"}, GROUPS, today) == View(date(2026, 10, 30), today, 30, "day", "")
    assert View.parse({"range": "365"}, GROUPS, today).first == date(2025, 11, 24)
    assert View.parse({"range": "365", "interval": "day"}, GROUPS, today).interval == "week"
    assert View.parse({"from": "2020-01-01", "to": "2026-11-28"}, GROUPS, today).interval == "month"
    with pytest.raises(InvalidInput):
        View.parse({"from": "1970-01-01", "to": "2026-11-28"}, GROUPS, today)


def test_groups_have_names_for_people():
    assert [label("country", code) for code in ("DE", "XX", "")] == ["Germany", "XX", "Unknown"]
    assert label("kind", "mirror") == "Mirrors and caches"
    assert label("version", "(others)") == "Others"
