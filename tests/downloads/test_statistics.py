"""Statistics over time, as JSON and CSV, and badges."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from registry.downloads.statistics.handlers import _short
from registry.keys import DB
from tests.client import Registry
from tests.conftest import MakeRegistry

# (days ago, version, kind, client, system, country, count, unique)
DOWNLOADS = [
    (0, "1.0.0", "human", "pip", "Linux", "DE", 5, 3),
    (0, "1.1.0", "ci", "pip", "Linux", "", 7, 4),
    (1, "1.1.0", "ci", "npm", "macOS", "FR", 11, 6),
    (29, "1.0.0", "mirror", "Nexus", "", "DE", 13, 1),
    (30, "1.0.0", "bot", "Other", "", "", 17, 2),
]
LAST = date(2026, 11, 15)


@pytest.fixture
async def demo(registry: Registry) -> Registry:
    ada = await registry.user()
    for version in ("1.0.0", "1.1.0"):
        await ada.publish("demo", version, license="MIT")
    await ada.publish("other")
    async with registry.app[DB].transaction() as conn:
        for ago, version, *traits, count, unique in DOWNLOADS:
            said = ", ".join(f"'{trait}'" for trait in traits)
            day = f"date '{LAST}' - {ago}"
            await conn.command(
                "INSERT INTO download_days (package_id, package_version_id, day, kind, client, system, country, count, "
                f"unique_count) SELECT package_id, id, {day}, {said}, {count}, {unique} FROM package_versions "
                f"WHERE version = '{version}' AND description = 'About demo'"
            )
            await conn.command(
                "INSERT INTO registry_days (day, kind, client, system, country, count, unique_count) "
                f"VALUES ({day}, {said}, {count}, {unique})"
            )
    return registry


async def series(registry: Registry, path: str, **params: str) -> Any:
    """The series of a request that ends at LAST unless `params` has another day."""
    answer = await registry.get(path, params={"to": str(LAST), **params})
    assert answer.status == 200, answer.body
    return answer.json["series"]


async def test_the_default_period_is_the_last_30_days(demo: Registry):
    before = datetime.now(UTC).date()
    found = (await demo.get("/stats", params={"interval": "day"})).json["series"]
    assert before <= date.fromisoformat(found["until"]) <= datetime.now(UTC).date()
    assert date.fromisoformat(found["until"]) - date.fromisoformat(found["since"]) == timedelta(days=29)


async def test_without_parameters_there_is_no_series(demo: Registry):
    for path in ("/packages/demo/stats", "/stats"):
        assert "series" not in (await demo.get(path)).json


async def test_days_without_downloads_have_a_point(demo: Registry):
    found = await series(demo, "/packages/demo/stats", interval="day")
    assert (found["since"], found["until"]) == (str(LAST - timedelta(days=29)), str(LAST))
    assert (found["interval"], found["group_by"], found["downloads"], found["unique"]) == ("day", None, 36, 14)
    assert len(found["points"]) == 30
    assert found["points"][-1] == {"start": str(LAST), "group": None, "downloads": 12, "unique": 7}
    assert found["points"][-2]["downloads"] == 11
    assert found["points"][0]["downloads"] == 13
    assert sum(point["downloads"] for point in found["points"]) == 36


async def test_a_period_includes_its_first_and_last_day(demo: Registry):
    first, last = str(LAST - timedelta(days=30)), str(LAST - timedelta(days=1))
    found = await series(demo, "/packages/demo/stats", **{"from": first, "to": last})
    assert (found["downloads"], found["unique"], len(found["points"])) == (41, 9, 30)


@pytest.mark.parametrize(("interval", "whole"), [("week", 7), ("month", 28)])
async def test_weeks_begin_on_monday_and_months_on_the_first(demo: Registry, interval: str, whole: int):
    first = LAST - timedelta(days=30)
    found = await series(demo, "/packages/demo/stats", **{"from": str(first), "interval": interval})
    starts = [date.fromisoformat(point["start"]) for point in found["points"]]
    assert all(start.weekday() == 0 if interval == "week" else start.day == 1 for start in starts)
    assert starts[0] <= first < starts[1]
    assert all(later - earlier >= timedelta(days=whole) for earlier, later in pairwise(starts))
    assert sum(point["downloads"] for point in found["points"]) == found["downloads"] == 53


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("version", {"1.0.0": (18, 4), "1.1.0": (18, 10)}),
        ("client", {"pip": (12, 7), "npm": (11, 6), "Nexus": (13, 1)}),
        ("kind", {"human": (5, 3), "ci": (18, 10), "mirror": (13, 1)}),
        ("country", {"DE": (18, 4), "FR": (11, 6), "": (7, 4)}),
        ("os", {"Linux": (12, 7), "macOS": (11, 6), "": (13, 1)}),
    ],
)
async def test_downloads_are_grouped(demo: Registry, group: str, expected: dict[str, tuple[int, int]]):
    for path in ("/packages/demo/stats", "/stats"):
        if (group, path) == ("version", "/stats"):
            continue
        found = await series(demo, path, group_by=group)
        sums: dict[str, tuple[int, int]] = {}
        for point in found["points"]:
            downloads, unique = sums.get(point["group"], (0, 0))
            sums[point["group"]] = (downloads + point["downloads"], unique + point["unique"])
        assert sums == expected
        assert (found["downloads"], found["unique"]) == (36, 14)


async def test_groups_after_the_first_fifty_are_added_up(demo: Registry):
    async with demo.app[DB].transaction() as conn:
        await conn.command(
            "INSERT INTO registry_days (day, country, count) "
            "SELECT date '2026-11-15', 'X' || n, 100 + n FROM generate_series(1, 60) AS n"
        )
    found = await series(demo, "/stats", group_by="country")
    groups = {point["group"]: point["downloads"] for point in found["points"]}
    assert len({*groups}) == 51
    assert groups["X60"] == 160
    assert found["downloads"] == 36 + sum(100 + n for n in range(1, 61))
    assert sum(point["downloads"] for point in found["points"]) == found["downloads"]


async def test_the_registry_can_not_be_grouped_by_version(demo: Registry):
    answer = await demo.get("/stats", params={"group_by": "version"})
    assert answer.status == 400
    assert answer.json["errors"] == [{"field": "group_by", "message": "must be one of client, kind, country, os"}]


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({"from": "yesterday"}, ["from"]),
        ({"to": "2026-13-01"}, ["to"]),
        ({"from": "1969-12-31"}, ["from"]),
        ({"to": "9999-12-31"}, ["to"]),
        ({"from": "2026-11-16", "to": "2026-11-15"}, ["from"]),
        ({"from": "2020-01-01", "to": "2026-01-01"}, ["from"]),
        ({"from": "1971-01-01", "to": "2026-01-01", "interval": "month"}, ["from"]),
        ({"interval": "hour", "group_by": "colour", "format": "xml"}, ["interval", "group_by", "format"]),
    ],
)
async def test_every_wrong_parameter_is_named(demo: Registry, params: dict[str, str], fields: list[str]):
    for path in ("/packages/demo/stats", "/stats"):
        answer = await demo.get(path, params=params)
        assert answer.status == 400
        assert [error["field"] for error in answer.json["errors"]] == fields


async def test_long_periods_are_possible_with_longer_intervals(demo: Registry):
    found = await series(demo, "/stats", **{"from": "2000-01-01", "to": "2026-11-30", "interval": "month"})
    assert len(found["points"]) == 27 * 12 - 1


async def test_csv_contains_the_same_series(demo: Registry):
    for path, name in (("/packages/demo/stats", "demo"), ("/stats", "registry")):
        answer = await demo.get(path, params={"format": "csv", "group_by": "kind", "to": str(LAST)})
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}-downloads.csv"'
        tag = {"If-None-Match": answer.headers["ETag"], "Accept": "text/csv"}
        assert (await demo.get(path, params={"group_by": "kind", "to": str(LAST)}, headers=tag)).status == 304
        lines = list(csv.reader(io.StringIO(answer.body.decode())))
        assert lines[0] == ["start", "kind", "downloads", "unique"]
        assert [str(LAST), "ci", "7", "4"] in lines
        by_header = await demo.get(path, headers={"Accept": "text/csv"})
        lines = list(csv.reader(io.StringIO(by_header.body.decode())))
        assert (lines[0], len(lines)) == (["start", "downloads", "unique"], 31)


@pytest.mark.parametrize(
    ("accept", "is_csv"),
    [
        ("Text/CSV", True),
        ("application/json, text/csv;q=0.5", True),
        ("text/csv;q=0, application/json", False),
        ("text/csvx", False),
        ("text/*", False),
    ],
)
async def test_accept_selects_csv_unless_its_weight_is_0(demo: Registry, accept: str, is_csv: bool):
    for path in ("/packages/demo/stats", "/stats"):
        answer = await demo.get(path, headers={"Accept": accept})
        assert answer.headers["Content-Type"].startswith("text/csv") == is_csv


async def test_unknown_packages_have_no_statistics(demo: Registry):
    assert (await demo.get("/packages/nobody/stats", params={"interval": "day"})).status == 404
    assert (await demo.get("/packages/De_Mo/stats", params={"interval": "day"})).status == 404
    other = await series(demo, "/packages/other/stats", group_by="version")
    assert (other["downloads"], other["points"]) == (0, [])


async def test_series_have_an_etag(demo: Registry):
    first = await demo.get("/packages/demo/stats?interval=week")
    again = await demo.get("/packages/demo/stats?interval=week", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status == 304


def texts(svg: bytes) -> set[str]:
    return {element.text or "" for element in ET.fromstring(svg).iter() if element.tag.endswith("text")}  # noqa: S314


async def test_badges_show_version_downloads_and_license(demo: Registry):
    async with demo.app[DB].transaction() as conn:
        await conn.command("UPDATE packages SET download_count = 12345 WHERE name = 'demo'")
    for badge, value in (("version", "1.1.0"), ("downloads", "12k"), ("license", "MIT")):
        answer = await demo.get(f"/packages/demo/badge/{badge}.svg")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("image/svg+xml")
        assert answer.headers["Cache-Control"] == "public, max-age=300"
        assert texts(answer.body) == {badge, value}
        again = await demo.get(f"/packages/demo/badge/{badge}.svg")
        assert (again.body, again.headers["ETag"]) == (answer.body, answer.headers["ETag"])
        cached = await demo.get(f"/packages/demo/badge/{badge}.svg", headers={"If-None-Match": answer.headers["ETag"]})
        assert (cached.status, cached.body) == (304, b"")


async def test_the_license_in_a_badge_is_escaped(demo: Registry):
    licence = "<script>alert(1)</script>\"&'"
    await (await demo.user()).publish("evil", license=licence)
    answer = await demo.get("/packages/evil/badge/license.svg")
    assert texts(answer.body) == {"license", licence}
    assert b"<script" not in answer.body
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert texts((await demo.get("/packages/other/badge/license.svg")).body) == {"license", "not specified"}


async def test_unknown_badges_are_404(demo: Registry):
    assert (await demo.get("/packages/demo/badge/stars.svg")).status == 404
    assert (await demo.get("/packages/nobody/badge/version.svg")).status == 404


async def test_badges_of_a_private_registry_need_credentials(make_registry: MakeRegistry):
    ada = await (await make_registry()).user()
    await ada.publish("demo")
    registry = await make_registry(REGISTRY_ACCESS="private")
    assert (await registry.get("/packages/demo/badge/version.svg")).status == 401
    answer = await registry.get("/packages/demo/badge/version.svg", headers=ada.headers)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "private, max-age=300")


def test_large_counts_are_shortened():
    shown = [_short(n) for n in (0, 999, 1000, 1099, 9999, 10_000, 999_999, 1_500_000, 10**9, 12 * 10**9)]
    assert shown == ["0", "999", "1k", "1k", "9.9k", "10k", "999k", "1.5M", "1G", "12G"]
    assert all(re.fullmatch(r"[0-9.]{1,4}[kMG]?", text) for text in shown)
