"""Which data of a download is stored, and for how long."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from registry.db.engine import Database, Row, Statement
from registry.downloads import record, store
from registry.downloads.identity import client_hash
from registry.keys import DB
from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.downloads.counts import counted, made_up
from tests.downloads.counts import rows as as_rows

HERE = "/packages/demo/1.0.0/tarball"
EVENTS = Statement("SELECT *, host(ip_address) AS address FROM downloads ORDER BY id", {})
DAYS = Statement("SELECT kind, client, system, country, count, unique_count FROM download_days ORDER BY count", {})
OF_REGISTRY = Statement(
    "SELECT kind, client, system, country, count, unique_count FROM registry_days ORDER BY count", {}
)
VERSION = Statement("SELECT id, package_id FROM package_versions ORDER BY id LIMIT 1", {})
NOON = datetime(2026, 11, 16, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
async def demo(registry: Registry) -> Registry:
    await (await registry.user()).publish("demo")
    return registry


async def rows(registry: Registry, stmt: Statement = EVENTS) -> list[Row]:
    await registry.flush()
    async with registry.app[DB].read() as conn:
        return await conn.all(stmt)


async def add(registry: Registry, *fields: dict[str, Any]) -> None:
    """Adds downloads of the first version in one batch."""
    async with registry.app[DB].read() as conn:
        version = await conn.one(VERSION)
    usual = {"version_id": version.id, "package_id": version.package_id, "at": NOON}
    async with registry.app[DB].transaction() as conn:
        store.add(conn, uuid4(), as_rows(*(made_up(**{**usual, **each}) for each in fields)))


async def test_a_download_is_stored_with_its_client_and_kind(demo: Registry):
    await demo.get(HERE, headers={"User-Agent": "synapse-cli/2.1.0 (Linux 6.8; x86_64; ci)"})
    [row] = await rows(demo)
    assert (row.kind, row.rule, row.client, row.system) == ("ci", "ci-marker", "synapse-cli", "Linux")
    assert (row.status, row.is_unique, row.country) == (200, True, "")
    assert row.bytes == (await demo.get("/packages/demo/1.0.0")).json["tarball_size"]
    assert (row.package, row.version) == (None, None)
    assert await rows(demo, DAYS) == await rows(demo, OF_REGISTRY) == [("ci", "synapse-cli", "Linux", "", 1, 1)]


async def test_a_repeat_within_the_minute_counts_but_is_not_unique(demo: Registry):
    await add(demo, {}, {}, {"at": NOON + timedelta(seconds=20)})
    await add(demo, {"at": NOON + timedelta(seconds=29)}, {"at": NOON + timedelta(seconds=30)})
    assert [row.is_unique for row in await rows(demo)] == [True, False, False, False, True]
    assert [(row.count, row.unique_count) for row in await rows(demo, DAYS)] == [(5, 2)]
    assert [(row.count, row.unique_count) for row in await rows(demo, OF_REGISTRY)] == [(5, 2)]
    assert await counted(demo) == 5


async def test_downloads_of_other_clients_or_versions_are_unique(demo: Registry):
    await (await demo.user()).publish("demo", "1.1.0")
    other = (await rows(demo, Statement("SELECT max(id) AS id FROM package_versions", {})))[0].id
    await add(demo, {}, {"client_hash": "f" * 16}, {"version_id": other})
    assert [row.is_unique for row in await rows(demo)] == [True, True, True]


async def test_concurrent_batches_find_one_unique_download(demo: Registry):
    await asyncio.gather(*(add(demo, {}, {}) for _ in range(8)))
    assert sum(row.is_unique for row in await rows(demo)) == 1
    assert [(row.count, row.unique_count) for row in await rows(demo, DAYS)] == [(16, 1)]


async def test_ids_are_in_the_order_of_commits(demo: Registry):
    """When a reader has seen an id, no row with a lower id appears later."""
    seen: list[int] = []
    done = asyncio.Event()

    async def follow() -> None:
        while not done.is_set() or len(seen) < 40:
            async with demo.app[DB].read() as conn:
                seen.extend(row.seq for row in await store.read_after(conn, seen[-1] if seen else 0, 3))

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(follow())
        await asyncio.gather(*(add(demo, {}, {}) for _ in range(20)))
        done.set()
    assert seen == [row.id for row in await rows(demo)]


def test_a_client_hash_identifies_a_client_for_one_day_only():
    one = client_hash("secret", NOON, "203.0.113.7", "curl/8")
    assert one == client_hash("secret", NOON + timedelta(hours=11), "203.0.113.7", "curl/8")
    others = {
        client_hash("secret", NOON + timedelta(days=1), "203.0.113.7", "curl/8"),
        client_hash("other", NOON, "203.0.113.7", "curl/8"),
        client_hash("secret", NOON, "203.0.113.8", "curl/8"),
        client_hash("secret", NOON, "203.0.113.7", "curl/9"),
    }
    assert len(others | {one}) == 5
    assert len(one) == 16


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/packages/demo/9.9.9/tarball", 404),
        ("/packages/nobody/1.0.0/tarball", 404),
        (HERE, 412),
        (HERE, 416),
    ],
)
async def test_a_refused_request_is_stored_but_not_counted(demo: Registry, path: str, status: int):
    headers = {412: {"If-Match": '"other"'}, 416: {"Range": "bytes=999999999-"}}.get(status, {})
    ada = await demo.user()
    before = record.RECORDED._value.get()
    assert (await ada.call("GET", path, headers=headers)).status == status
    assert record.RECORDED._value.get() == before
    [row] = await rows(demo)
    assert (row.status, row.package_version_id, row.is_unique, row.bytes) == (status, None, False, 0)
    assert [row.package, row.version] == path.split("/")[2:4]
    assert await counted(demo) == 0


async def test_an_anonymous_404_is_not_stored_but_other_refusals_are(demo: Registry):
    for path in ("/packages/demo/9.9.9/tarball", "/packages/nobody/1.0.0/tarball", "/packages/demo/latest2/tarball"):
        assert (await demo.get(path)).status == 404
    assert await rows(demo) == []
    assert (await demo.get(HERE, headers={"If-Match": '"other"'})).status == 412
    assert [row.status for row in await rows(demo)] == [412]


async def test_a_refused_head_is_not_stored(demo: Registry):
    assert (await demo.call("HEAD", "/packages/demo/9.9.9/tarball")).status == 404
    assert await rows(demo) == []


async def test_invalid_names_are_not_stored_and_long_versions_are_cut(demo: Registry):
    ada = await demo.user()
    for name in ("-", "demo"):
        assert (await ada.call("GET", f"/packages/{name}/{'9' * 500}/tarball")).status == 404
    assert (await ada.call("GET", "/packages/demo/1%002/tarball")).status == 404
    assert [(row.package, row.version) for row in await rows(demo)] == [("demo", "9" * 128), ("demo", "12")]


async def test_full_addresses_are_stored_only_if_configured(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_DOWNLOAD_IP="full")
    await (await registry.user()).publish("demo")
    await registry.get(HERE)
    assert [row.address for row in await rows(registry)] == ["127.0.0.1"]


@pytest.mark.parametrize(("proxies", "country"), [("127.0.0.0/8", "DE"), ("192.0.2.0/24", "")])
async def test_only_a_trusted_proxy_can_set_the_country(make_registry: MakeRegistry, proxies: str, country: str):
    registry = await make_registry(REGISTRY_TRUSTED_PROXIES=proxies, REGISTRY_COUNTRY_HEADER="X-Country")
    await (await registry.user()).publish("demo")
    await registry.get(HERE, headers={"X-Country": "de"})
    await registry.get(HERE, headers={"X-Country": "Germany"})
    await registry.get(HERE)
    assert [row.country for row in await rows(registry)] == [country, "", ""]


async def test_each_month_has_a_partition_of_its_own(demo: Registry):
    moments = [datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), NOON]
    await add(demo, *({"at": at} for at in moments))
    parts = await rows(demo, Statement("SELECT tableoid::regclass::text AS name FROM downloads ORDER BY id", {}))
    assert [row.name for row in parts] == ["downloads_2026_01", "downloads_2026_02", "downloads_2026_11"]


async def test_old_partitions_are_dropped_and_counts_stay(demo: Registry, db: Database):
    await add(demo, {"at": datetime(2025, 12, 31, tzinfo=UTC)}, {"at": datetime(2026, 1, 1, tzinfo=UTC)}, {})
    async with db.transaction() as conn:
        assert await store.drop_before(conn, date(2026, 1, 1)) == ["downloads_2025_12"]
    async with db.transaction() as conn:
        assert await store.drop_before(conn, date(2026, 1, 1)) == []
    assert len(await rows(demo)) == 2
    assert sum(row.count for row in await rows(demo, DAYS)) == 3
    assert (await demo.get("/packages/demo")).json["total_downloads"] == 3


@pytest.mark.parametrize(
    ("month", "following"), [(date(2026, 11, 1), date(2026, 12, 1)), (date(2026, 12, 1), date(2027, 1, 1))]
)
def test_next_month_is_the_first_day_of_the_following_month(month: date, following: date):
    assert store.next_month(month) == following
