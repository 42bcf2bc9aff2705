"""Creates downloads, and reads the count from every place that stores it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from registry.db.engine import Statement
from registry.downloads.keys import RECORDER
from registry.downloads.store import Download, Rows
from registry.keys import DB
from tests.client import Registry
from tests.until import until

SUMS = Statement(
    """
    SELECT (SELECT coalesce(sum(download_count), 0) FROM packages) AS packages,
           (SELECT coalesce(sum(download_count), 0) FROM package_versions) AS versions,
           (SELECT coalesce(sum(count), 0) FROM download_days) AS days,
           (SELECT coalesce(sum(count), 0) FROM registry_days) AS registry,
           (SELECT count(*) FROM downloads WHERE status < 400) AS events
    """,
    {},
)


def made_up(version_id: int | None, package_id: int | None, **fields: Any) -> Download:
    """A download by curl, with `fields` changed."""
    download = Download(
        at=datetime.now(UTC),
        version_id=version_id,
        package_id=package_id,
        package=None,
        version=None,
        address="192.0.2.0",
        user_agent="curl/8.9.1",
        client_hash="0123456789abcdef",
        status=200,
        bytes=1000,
        kind="unknown",
        client="curl",
        system="",
        country="",
        rule="http-library",
    )
    return replace(download, **fields)


def rows(*downloads: Download) -> Rows:
    """Downloads as the journal has them."""
    found: Rows = orjson.loads(orjson.dumps(downloads))
    return found


async def counted(registry: Registry) -> int:
    """The number of downloads. Packages, versions, days, the registry and the single downloads must all agree on it."""
    if RECORDER in registry.app:
        await registry.flush()
    return await _sum(registry)


async def _sum(registry: Registry) -> int:
    async with registry.app[DB].read() as conn:
        sums = set(await conn.one(SUMS))
    assert len(sums) == 1, sums
    return int(sums.pop())


async def counted_to(registry: Registry, total: int) -> None:
    """Waits until `total` downloads are counted. Fails if there are more."""

    async def is_reached() -> bool:
        return await _sum(registry) >= total

    await until(is_reached)
    assert await counted(registry) == total
