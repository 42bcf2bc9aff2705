"""Counts how many clients downloaded a package on a day. A client is an address, whatever User-Agent it sends."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from registry.db.engine import Database, Statement
from registry.downloads import store
from registry.downloads.clients.count import ESTIMATES, WINDOW, count_window, estimate, follow
from registry.downloads.clients.store import CLIENTS_OF_A_NETWORK, ESTIMATED_AT_MOST
from registry.downloads.identity import address_key
from registry.events.announcements import Announcements
from registry.keys import DB
from tests.background import in_background
from tests.client import Registry
from tests.conftest import SECRET
from tests.downloads.counts import made_up
from tests.downloads.counts import rows as as_rows
from tests.until import until

NOON = datetime(2026, 11, 16, 12, 0, 30, tzinfo=UTC)
DAY = NOON.date()
PACKAGES = Statement(
    """
    INSERT INTO users (username, password_hash, role) VALUES ('ada', '', 'user');
    INSERT INTO packages (id, name, similarity_key, owner_id) OVERRIDING SYSTEM VALUE
    SELECT n, n, n, users.id FROM users, generate_series(1, 3) AS n;
    INSERT INTO package_versions (id, package_id, version, canonical, sort_key, is_prerelease, manifest,
        dependencies_json, keywords_json, checksum, tarball_path, tarball_size, published_by) OVERRIDING SYSTEM VALUE
    SELECT 10 * p.id + n, p.id, n, n, n, false, '{}', '{}', '[]', '', '', 0, owner_id
    FROM packages p, generate_series(0, 1) AS n;
    INSERT INTO consumers (name, seq) VALUES ('clients', 0)
    """,
    {},
)
COUNTED = Statement("SELECT package_id, day, clients FROM package_clients ORDER BY 1, 2", {})
SINGLE = Statement("SELECT DISTINCT day FROM day_clients ORDER BY 1", {})
PAST = Statement(
    """
    INSERT INTO download_days (package_id, day, package_version_id, kind, client, count, unique_count)
    SELECT 1, (now() AT TIME ZONE 'UTC')::date - %(age)s, 10, %(kind)s, %(client)s, %(unique)s, %(unique)s
    """,
    {"kind": "human", "client": ""},
)
JOBS = Statement("SELECT payload FROM jobs WHERE kind = %(kind)s ORDER BY id", {"kind": ESTIMATES})


@pytest.fixture
async def packages(db: Database) -> Database:
    """Packages 1 to 3. Package n has the versions 10n and 10n + 1."""
    async with db.transaction() as conn:
        await conn.run(PACKAGES)
    return db


async def add(db: Database, *downloads: dict[str, Any]) -> None:
    """Adds downloads in one batch. Without other fields, they are of the version 10, at NOON, from one address."""
    usual = {"version_id": 10, "at": NOON, "address_key": 1}
    fields = [{**usual, **each} for each in downloads]
    batch = [made_up(**each, package_id=each["version_id"] // 10) for each in fields]
    async with db.transaction() as conn:
        store.add(conn, uuid4(), as_rows(*batch))


async def counted(db: Database, *, window: int = WINDOW) -> list[tuple[int, date, int]]:
    """Counts everything. Returns (package, day, clients)."""
    while await count_window(db, window=window):
        pass
    async with db.read() as conn:
        return [tuple(row) for row in await conn.all(COUNTED)]


def test_an_address_key_depends_on_the_network_and_the_day():
    one = address_key("secret", NOON, "203.0.113.7")
    assert one == address_key("secret", NOON + timedelta(hours=11), "203.0.113.7")
    assert one not in {
        address_key("secret", NOON + timedelta(days=1), "203.0.113.7"),
        address_key("other", NOON, "203.0.113.7"),
        address_key("secret", NOON, "203.0.113.8"),
    }
    assert -(1 << 63) <= one < 1 << 63
    of_network = address_key("secret", NOON, "2001:db8:1:2::1")
    assert of_network == address_key("secret", NOON, "2001:db8:1:2:ffff::9")
    assert of_network != address_key("secret", NOON, "2001:db8:1:3::1")


async def test_a_download_has_the_key_of_its_address_whatever_its_user_agent_is(registry: Registry) -> None:
    await (await registry.user()).publish("demo")
    for agent in ("pip/24.0", "npm/10", ""):
        await registry.get("/packages/demo/1.0.0/tarball", headers={"User-Agent": agent})
    await registry.flush()
    async with registry.app[DB].read() as conn:
        rows = await conn.all(Statement("SELECT address_key, downloaded_at FROM downloads", {}))
    assert len(rows) == 3
    for row in rows:
        assert row.address_key == address_key(SECRET, row.downloaded_at.astimezone(UTC), "127.0.0.1")


@pytest.mark.parametrize("window", [1, 3, WINDOW])
async def test_an_address_counts_once_for_each_package_and_day(packages: Database, window: int) -> None:
    await add(
        packages,
        *({"client_hash": f"{number:016x}", "user_agent": str(number)} for number in range(5)),
        {"version_id": 11},
        {"address_key": 2},
        {"version_id": 20},
        {"at": NOON + timedelta(days=1)},
    )
    await add(packages, {}, {"address_key": 2}, {"address_key": 3})
    expected = [(1, DAY, 3), (1, DAY + timedelta(days=1), 1), (2, DAY, 1)]
    assert await counted(packages, window=window) == expected
    assert await counted(packages, window=window) == expected


async def test_mirrors_bots_and_refused_requests_are_no_clients(packages: Database) -> None:
    await add(
        packages,
        *({"kind": kind, "address_key": key} for key, kind in enumerate(("mirror", "bot", "ci", "human", "unknown"))),
        {"version_id": 20, "kind": "bot"},
    )
    assert await counted(packages) == [(1, DAY, 3)]


async def test_late_downloads_count_for_their_day(packages: Database) -> None:
    await add(packages, {}, {"address_key": 2})
    await add(packages, {"at": NOON + timedelta(days=4)})
    assert await counted(packages) == [(1, DAY, 2), (1, DAY + timedelta(days=4), 1)]
    async with packages.read() as conn:
        assert [row.day for row in await conn.all(SINGLE)] == [DAY + timedelta(days=4)]
    await add(packages, {}, {"address_key": 2}, {"address_key": 3}, {"version_id": 20})
    assert await counted(packages) == [(1, DAY, 3), (1, DAY + timedelta(days=4), 1), (2, DAY, 1)]


async def test_a_late_download_keeps_the_number_of_a_day_whose_downloads_were_removed(packages: Database) -> None:
    await add(packages, {}, {"address_key": 2})
    await add(packages, {"at": NOON + timedelta(days=40)})
    await counted(packages)
    async with packages.transaction() as conn:
        await store.drop_before(conn, date(2026, 12, 1))
    await add(packages, {"address_key": 9})
    assert (await counted(packages))[0] == (1, DAY, 2)


async def test_a_network_without_keys_has_few_clients(packages: Database) -> None:
    """Releases before this one stored only the network of an address, and the User-Agent is anything."""
    many = [{"address_key": None, "client_hash": f"{number:016x}"} for number in range(500)]
    few = [
        {"address_key": None, "client_hash": "0" * 16, "version_id": 20, "address": f"192.0.{n}.0"} for n in range(9)
    ]
    await add(packages, *many, *few)
    assert await counted(packages) == [(1, DAY, CLIENTS_OF_A_NETWORK), (2, DAY, 9)]


async def test_the_consumer_continues_where_another_one_stopped(
    packages: Database, announcements: Announcements
) -> None:
    await add(packages, {})
    async with in_background(follow(packages, announcements)):
        await until(lambda: _clients_are(packages, 1))
    await add(packages, {"address_key": 2}, {})
    async with in_background(follow(packages, announcements)), in_background(follow(packages, announcements)):
        await until(lambda: _clients_are(packages, 2))
        await add(packages, {"address_key": 3}, {})
        await until(lambda: _clients_are(packages, 3))


async def _clients_are(db: Database, expected: int) -> bool:
    async with db.read() as conn:
        return [row.clients for row in await conn.all(COUNTED)] == [expected]


async def test_days_without_single_downloads_are_estimated(packages: Database) -> None:
    async with packages.transaction() as conn:
        await conn.run(PAST, age=3, unique=20_000)
        await conn.run(PAST, age=2, unique=7)
        await conn.run(PAST, age=2, unique=4, client="pip")
        await conn.run(PAST, age=1, unique=30, kind="mirror")
        await conn.run(PAST, age=400, unique=30)
    await estimate(packages, {"after": 0})
    today = datetime.now(UTC).date()
    expected = [(1, today - timedelta(days=3), ESTIMATED_AT_MOST), (1, today - timedelta(days=2), 11)]
    assert await counted(packages) == expected
    async with packages.read() as conn:
        payloads = [row.payload for row in await conn.all(JOBS)]
    assert payloads == [{"after": 3}]
    await estimate(packages, payloads[0])
    async with packages.read() as conn:
        assert len(await conn.all(JOBS)) == 1


async def test_exact_numbers_replace_estimates_in_either_order(packages: Database) -> None:
    moment = datetime.now(UTC) - timedelta(days=1)
    await add(
        packages, {"at": moment}, {"at": moment, "client_hash": "1" * 16}, {"at": moment, "client_hash": "2" * 16}
    )
    await estimate(packages, {"after": 0})
    assert await counted(packages) == [(1, moment.date(), 1)]
    await estimate(packages, {"after": 0})
    assert await counted(packages) == [(1, moment.date(), 1)]
