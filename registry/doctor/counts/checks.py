"""Are the counts of downloads what the downloads, and the days, add up to, and those of packages what there is?"""

from datetime import date

from registry.analytics.consumer import oldest_month
from registry.db.engine import Connection
from registry.doctor.check import EXAMPLES, Check, Found, Registry, reading, writing
from registry.doctor.counts import store
from registry.downloads import store as downloads

_REMEDY = "count anew from the downloads that are kept and, of older months, from their days"


async def _months(registry: Registry, conn: Connection) -> list[date]:
    """Those whose downloads are all kept. Of an older one some may come late, when its others are gone."""
    oldest = oldest_month(registry.settings.downloads.retention)
    return [month for month in await downloads.months(conn) if month >= oldest]


async def _days(registry: Registry) -> Found:
    found = Found()
    async with registry.db.read() as conn:
        for month in await _months(registry, conn):
            registry.progress(f"downloads by day {month:%Y-%m}")
            of_month = await store.days(conn, month)
            found.count += of_month.count
            found.examples = [*found.examples, *of_month.examples][:EXAMPLES]
    return found


async def _recount(registry: Registry) -> None:
    async with registry.db.transaction() as conn:
        await store.recount(conn, await _months(registry, conn))


CHECKS = (
    Check(
        "downloads by day",
        "the days of each version are the downloads that are kept of them, all and unique",
        _REMEDY,
        _days,
        _recount,
    ),
    Check(
        "registry by day",
        "the registry's days are the sums of its versions' days",
        _REMEDY,
        reading(store.registry_days),
        _recount,
    ),
    Check(
        "version counts",
        "each version's count is the sum of its days",
        _REMEDY,
        reading(store.versions),
        _recount,
    ),
    Check(
        "package counts",
        "each package's count is the sum of its days",
        _REMEDY,
        reading(store.packages),
        _recount,
    ),
    Check(
        "totals",
        "the numbers of packages and versions that are kept are those that counting gives",
        "add what is missing to them",
        reading(store.totals),
        writing(store.mend_totals),
    ),
)
