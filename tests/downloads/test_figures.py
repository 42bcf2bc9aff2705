"""Figures for the pages: weekly downloads, totals and rankings, on rows of the past."""

import asyncio
from datetime import date, timedelta
from typing import Any

import pytest

from registry.db.engine import Statement
from registry.downloads.figures.figures import WEEKS, Figures
from registry.downloads.figures.kept import MAX_SECONDS, MIN_SECONDS, Kept
from registry.keys import DB
from tests.client import Registry

TODAY = date(2026, 11, 15)
ALL_DAYS = Statement("SELECT p.name, d.day, d.count FROM package_days d JOIN packages p ON p.id = d.package_id", {})


async def add(registry: Registry, name: str, back: int, count: int, **traits: str) -> None:
    """Adds `count` downloads of a package, `back` days before TODAY, as the roll-ups have them."""
    columns = "".join(f", {key}" for key in traits)
    values = "".join(f", '{value}'" for value in traits.values())
    day = TODAY - timedelta(days=back)
    async with registry.app[DB].transaction() as conn:
        await conn.command(
            f"INSERT INTO download_days (package_id, package_version_id, day, count{columns}) "
            f"SELECT p.id, p.latest_version_id, '{day}', {count}{values} FROM packages p WHERE p.name = '{name}'"
        )
        await conn.command(
            f"INSERT INTO registry_days (day, count{columns}) VALUES ('{day}', {count}{values}) "
            "ON CONFLICT (day, kind, client, system, country) "
            "DO UPDATE SET count = registry_days.count + excluded.count"
        )


def figures_of(registry: Registry) -> Figures:
    return Figures(registry.app[DB], today=lambda: TODAY)


async def counted(registry: Registry) -> dict[tuple[str, date], int]:
    async with registry.app[DB].read() as conn:
        return {(row.name, row.day): int(row.count) for row in await conn.all(ALL_DAYS)}


@pytest.fixture
async def three(registry: Registry) -> Registry:
    ada = await registry.user()
    for name in ("alpha", "beta", "gamma"):
        await ada.publish(name)
    return registry


async def test_weeks_end_today_and_one_query_reads_all_packages(three: Registry):
    for back, count in ((0, 5), (6, 2), (7, 3), (363, 11), (364, 100), (-1, 1000)):
        await add(three, "alpha", back, count)
    await add(three, "beta", 8, 9, kind="ci")
    await add(three, "beta", 8, 4, kind="human")
    figures = figures_of(three)
    found = await figures.weekly(["alpha", "beta", "gamma", "none"])
    assert found["alpha"] == (11, *(0,) * 49, 3, 7)
    assert found["beta"] == (*(0,) * 50, 13, 0)
    assert found["gamma"] == found["none"] == (0,) * WEEKS


async def test_weekly_downloads_are_cached_for_seconds(three: Registry):
    now = [0.0]
    figures = Figures(three.app[DB], clock=lambda: now[0], today=lambda: TODAY)
    await figures.weekly(["alpha"])
    await add(three, "alpha", 0, 5)
    assert (await figures.weekly(["alpha", "beta"]))["alpha"][-1] == 0
    now[0] = 6.0
    assert (await figures.weekly(["alpha"]))["alpha"][-1] == 5


async def test_totals_count_what_is_visible(three: Registry):
    await add(three, "alpha", 6, 5)
    await add(three, "beta", 0, 7)
    await add(three, "beta", 7, 1)
    figures = figures_of(three)
    totals = await figures.totals()
    assert (totals.packages, totals.versions, totals.week) == (3, 3, 12)
    totals = await figures.totals(frozenset({"alpha"}))
    assert (totals.packages, totals.versions, totals.week) == (1, 1, 5)


async def test_rankings_compare_the_last_week_with_the_weeks_before(three: Registry):
    await add(three, "alpha", 3, 500)
    await add(three, "alpha", 10, 500)
    await add(three, "beta", 1, 120)
    await add(three, "beta", 34, 160)
    await add(three, "beta", 35, 9000)
    await add(three, "gamma", 2, 3)
    await add(three, "gamma", 9, 1)
    found = await figures_of(three).rankings()
    assert [(each.name, each.week) for each in found.most_downloaded] == [("alpha", 500), ("beta", 120), ("gamma", 3)]
    # alpha had 125 downloads a week, beta 40. Three downloads after one are no rise.
    assert [(each.name, each.rise) for each in found.rising] == [("alpha", 300), ("beta", 200)]
    assert found.rising[0].description == "About alpha"
    bound = await figures_of(three).rankings(frozenset({"gamma"}))
    assert [each.name for each in bound.most_downloaded] == ["gamma"]
    assert not bound.rising


async def test_rankings_leave_out_quarantined_and_deleted_packages(three: Registry):
    for name in ("alpha", "beta", "gamma"):
        await add(three, name, 1, 100)
    admin = await three.user("root", admin=True)
    assert (await admin.call("PATCH", "/packages/alpha", json={"quarantined": True, "reason": "malware"})).status == 200
    assert (await admin.call("DELETE", "/packages/beta/1.0.0")).status == 204
    found = await figures_of(three).rankings()
    assert [each.name for each in found.most_downloaded] == ["gamma"]
    assert [each.name for each in found.rising] == ["gamma"]


async def test_downloads_over_http_are_counted_per_package_and_day(three: Registry):
    for _ in range(3):
        assert (await three.get("/packages/alpha/1.0.0/tarball")).status == 200
    assert (await three.get("/packages/beta/latest/tarball")).status == 200
    await three.flush()
    stats = (await three.get("/packages/alpha/stats")).json
    assert stats["downloads"]["week"] == 3
    found = await Figures(three.app[DB]).weekly(["alpha", "beta"])
    assert (found["alpha"][-1], found["beta"][-1]) == (3, 1)


async def test_changed_and_removed_counts_change_the_sums(three: Registry):
    await add(three, "alpha", 1, 5, kind="ci")
    await add(three, "alpha", 1, 6, kind="human")
    await add(three, "beta", 1, 7)
    async with three.app[DB].transaction() as conn:
        await conn.command("UPDATE download_days SET count = count + 2 WHERE kind = 'ci'")
        await conn.command("DELETE FROM download_days WHERE kind = 'human'")
    day = TODAY - timedelta(days=1)
    assert await counted(three) == {("alpha", day): 7, ("beta", day): 7}


async def test_a_result_is_kept_in_proportion_to_its_cost():
    now, reads = [0.0], []

    async def read() -> int:
        now[0] += 0.5
        reads.append(now[0])
        return len(reads)

    kept: Kept[int] = Kept(clock=lambda: now[0])
    assert await kept.get("key", read) == 1
    now[0] += 99
    assert await kept.get("key", read) == 1
    now[0] += 2
    assert await kept.get("key", read) == 2
    assert await kept.get("other", read) == 3
    assert MIN_SECONDS <= 100 <= MAX_SECONDS


async def test_concurrent_requests_wait_for_one_read_and_errors_are_not_kept():
    started: list[int] = []
    go = asyncio.Event()

    async def read() -> str:
        started.append(1)
        await go.wait()
        if len(started) == 1:
            raise ValueError("away")
        return "found"

    kept: Kept[Any] = Kept()
    first, second, third = (asyncio.create_task(kept.get("key", read)) for _ in range(3))
    go.set()
    results = await asyncio.gather(first, second, third, return_exceptions=True)
    assert isinstance(results[0], ValueError)
    assert results[1:] == ["found", "found"]
    assert len(started) == 2
