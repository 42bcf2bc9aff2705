"""Checks all counters: downloads per day, version, package and registry, and the totals of packages and versions."""

from collections.abc import Awaitable, Callable
from datetime import date

from registry.analytics.consumer import oldest_month
from registry.db.engine import Connection
from registry.doctor.check import EXAMPLES, Check, Found, Registry, reading, writing
from registry.doctor.counts import store
from registry.downloads import store as downloads

_REMEDY = "count again from single downloads, and for older months from the daily counts"


async def _months(registry: Registry, conn: Connection) -> list[date]:
    """The months within the retention.

    A late spooled batch may create the partition of an older month again, with only a few downloads. A recount from
    these would lose the counts of all others.
    """
    oldest = oldest_month(registry.settings.downloads.retention)
    return [month for month in await downloads.months(conn) if month >= oldest]


def _by_month(
    what: str, find: Callable[[Connection, date], Awaitable[Found]]
) -> Callable[[Registry], Awaitable[Found]]:
    """A check that calls `find` for each month."""

    async def check(registry: Registry) -> Found:
        found = Found()
        async with registry.db.read() as conn:
            for month in await _months(registry, conn):
                registry.progress(f"{what} {month:%Y-%m}")
                of_month = await find(conn, month)
                found.count += of_month.count
                found.examples = [*found.examples, *of_month.examples][:EXAMPLES]
        return found

    return check


async def _recount_clients(registry: Registry) -> None:
    async with registry.db.transaction() as conn:
        await store.mend_clients(conn, await _months(registry, conn))


async def _recount(registry: Registry) -> None:
    async with registry.db.transaction() as conn:
        await store.recount(conn, await _months(registry, conn))


CHECKS = (
    Check(
        "downloads by day",
        "the daily counts of each version match its single downloads",
        _REMEDY,
        _by_month("downloads by day", store.days),
        _recount,
    ),
    Check(
        "registry by day",
        "the registry's daily counts are the sums of its versions' daily counts",
        _REMEDY,
        reading(store.registry_days),
        _recount,
    ),
    Check(
        "packages by day",
        "the daily counts of each package are the sums of those of its versions",
        "set them to the sums",
        reading(store.package_days),
        writing(store.mend_package_days),
    ),
    Check(
        "clients by day",
        "the number of clients of each package and day matches the single downloads",
        "count again from single downloads",
        _by_month("clients by day", store.clients_of_days),
        _recount_clients,
    ),
    Check(
        "version counts",
        "each version's count is the sum of its daily counts",
        _REMEDY,
        reading(store.versions),
        _recount,
    ),
    Check(
        "package counts",
        "each package's count is the sum of its versions' daily counts",
        _REMEDY,
        reading(store.packages),
        _recount,
    ),
    Check(
        "totals",
        "the stored totals of packages and versions match the rows",
        "add the difference to the totals",
        reading(store.totals),
        writing(store.mend_totals),
    ),
)
