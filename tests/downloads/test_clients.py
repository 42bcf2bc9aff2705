"""Counts how many clients downloaded a package on a day. A client is an address, whatever User-Agent it sends."""

from datetime import UTC, datetime, timedelta

from registry.db.engine import Statement
from registry.downloads.clients.address import address_key
from registry.keys import DB
from tests.client import Registry
from tests.conftest import SECRET

NOON = datetime(2026, 11, 16, 12, 0, 30, tzinfo=UTC)


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
    async with registry.app[DB].read() as conn:
        rows = await conn.all(Statement("SELECT address_key, downloaded_at FROM downloads", {}))
    assert len(rows) == 3
    for row in rows:
        assert row.address_key == address_key(SECRET, row.downloaded_at.astimezone(UTC), "127.0.0.1")
