"""What a registry has counted, in each place that holds a number."""

from registry.db.engine import Statement
from registry.keys import DB
from tests.client import Registry

SUMS = Statement(
    """
    SELECT (SELECT coalesce(sum(download_count), 0) FROM packages) AS packages,
           (SELECT coalesce(sum(download_count), 0) FROM package_versions) AS versions,
           (SELECT coalesce(sum(count), 0) FROM download_days) AS days,
           (SELECT coalesce(sum(count), 0) FROM registry_days) AS registry,
           (SELECT count(*) FROM downloads) AS events
    """,
    {},
)


async def counted(registry: Registry) -> int:
    """The number of downloads, on which packages, versions, days, the registry and the events must agree."""
    async with registry.app[DB].read() as conn:
        sums = set(await conn.one(SUMS))
    assert len(sums) == 1, sums
    return int(sums.pop())
