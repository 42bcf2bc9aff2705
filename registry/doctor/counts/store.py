"""The SQL that compares counters and roll-ups with their sources and computes them again."""

from collections.abc import Sequence
from datetime import date

import sqlalchemy as sa

from registry.db.engine import Connection, Statement, statement
from registry.doctor.check import Found
from registry.doctor.store import first_of, found
from registry.downloads import store as downloads
from registry.downloads.clients import store as clients
from registry.events.consumer import CLIENTS

# The number of slots that the triggers in registry/db/migrations use.
_SLOTS = 64
_TRAITS = "kind, client, system, country"
_DAY_KEY = f"package_id, day, package_version_id, {_TRAITS}"
# Downloads are compared by month, because retention removes whole months.
_DAYS_COUNTED = f"""
    SELECT v.package_id, (d.downloaded_at AT TIME ZONE 'UTC')::date AS day, d.package_version_id, {_TRAITS},
           count(*) AS count, count(*) FILTER (WHERE d.is_unique) AS unique_count
    FROM downloads d JOIN package_versions v ON v.id = d.package_version_id
    WHERE d.downloaded_at >= CAST(:first AS date) AND d.downloaded_at < CAST(:after AS date)
    GROUP BY {_DAY_KEY}
"""
_DAYS_KEPT = "SELECT * FROM download_days WHERE day >= CAST(:first AS date) AND day < CAST(:after AS date)"
_REGISTRY_COUNTED = f"""
    SELECT day, {_TRAITS}, sum(count) AS count, sum(unique_count) AS unique_count
    FROM download_days GROUP BY day, {_TRAITS}
"""
_VERSIONS_COUNTED = """
    SELECT v.id, v.package_id, v.version, v.download_count, coalesce(s.total, 0) AS total
    FROM package_versions v
    LEFT JOIN (SELECT package_version_id, sum(count) AS total FROM download_days GROUP BY 1) s
           ON s.package_version_id = v.id
    WHERE v.download_count <> coalesce(s.total, 0)
"""
_PACKAGES_COUNTED = """
    SELECT p.id, p.name, p.download_count, coalesce(s.total, 0) AS total
    FROM packages p
    LEFT JOIN (SELECT package_id, sum(count) AS total FROM download_days GROUP BY 1) s ON s.package_id = p.id
    WHERE p.download_count <> coalesce(s.total, 0)
"""


def _differing(counted: str, kept: str, key: str, what: str) -> Statement:
    return first_of(f"""
        SELECT {what} || ': ' || coalesce(k.count, 0) || ' (' || coalesce(k.unique_count, 0) || ' unique) instead of '
               || coalesce(c.count, 0) || ' (' || coalesce(c.unique_count, 0) || ' unique)' AS what
        FROM ({counted}) AS c FULL JOIN ({kept}) AS k USING ({key})
        WHERE c.count IS DISTINCT FROM k.count OR c.unique_count IS DISTINCT FROM k.unique_count
    """)


def _drop_surplus(table: str, counted: str, key: str, condition: str) -> Statement:
    same = " AND ".join(f"c.{column} = k.{column}" for column in key.split(", "))
    return statement(
        sa.text(f"""
        DELETE FROM {table} AS k WHERE {condition} AND NOT EXISTS (SELECT FROM ({counted}) AS c WHERE {same})
        """)
    )


def _put(table: str, counted: str, key: str) -> Statement:
    return statement(
        sa.text(f"""
        INSERT INTO {table} AS k ({key}, count, unique_count) SELECT {key}, count, unique_count FROM ({counted}) AS c
        ON CONFLICT ({key}) DO UPDATE SET count = excluded.count, unique_count = excluded.unique_count
        WHERE (k.count, k.unique_count) <> (excluded.count, excluded.unique_count)
        """)
    )


_REGISTRY_KEY = f"day, {_TRAITS}"
_DAYS = _differing(
    _DAYS_COUNTED, _DAYS_KEPT, _DAY_KEY, "(SELECT name FROM packages p WHERE p.id = package_id) || ' on ' || day"
)
_REGISTRY = _differing(
    _REGISTRY_COUNTED, "SELECT * FROM registry_days", _REGISTRY_KEY, "day || ' ' || kind || ' ' || client"
)
_VERSIONS = first_of(f"""
    SELECT p.name || ' ' || d.version || ': ' || d.download_count || ' instead of ' || d.total AS what
    FROM ({_VERSIONS_COUNTED}) d JOIN packages p ON p.id = d.package_id
""")
_PACKAGES = first_of(
    f"SELECT name || ': ' || download_count || ' instead of ' || total AS what FROM ({_PACKAGES_COUNTED}) d"
)

_MEND = (
    _drop_surplus(
        "download_days", _DAYS_COUNTED, _DAY_KEY, "day >= CAST(:first AS date) AND day < CAST(:after AS date)"
    ),
    _put("download_days", _DAYS_COUNTED, _DAY_KEY),
)
_MEND_REGISTRY = (
    _drop_surplus("registry_days", _REGISTRY_COUNTED, _REGISTRY_KEY, "true"),
    _put("registry_days", _REGISTRY_COUNTED, _REGISTRY_KEY),
)
_WRONG = statement(
    sa.text(f"SELECT package_id AS id FROM ({_VERSIONS_COUNTED}) v UNION SELECT id FROM ({_PACKAGES_COUNTED}) p")
)
_MEND_VERSIONS = statement(
    sa.text(f"""
    UPDATE package_versions SET download_count = d.total FROM ({_VERSIONS_COUNTED}) d WHERE d.id = package_versions.id
    """)
)
_MEND_PACKAGES = statement(
    sa.text(f"UPDATE packages SET download_count = d.total FROM ({_PACKAGES_COUNTED}) d WHERE d.id = packages.id")
)

# A trigger updates the days of packages together with those of versions.
_PACKAGE_DAYS = """
    SELECT package_id, day, coalesce(k.count, 0) AS kept, coalesce(c.count, 0) AS count
    FROM package_days AS k
    FULL JOIN (SELECT package_id, day, sum(count) AS count FROM download_days GROUP BY 1, 2) AS c
         USING (package_id, day)
    WHERE coalesce(k.count, 0) <> coalesce(c.count, 0)
"""
_PACKAGE_DAYS_FOUND = first_of(f"""
    SELECT p.name || ' on ' || d.day || ': ' || d.kept || ' instead of ' || d.count AS what
    FROM ({_PACKAGE_DAYS}) AS d JOIN packages AS p ON p.id = d.package_id
""")
_MEND_PACKAGE_DAYS = statement(
    sa.text(f"""
    INSERT INTO package_days AS k (package_id, day, count) SELECT package_id, day, count FROM ({_PACKAGE_DAYS}) AS d
    ON CONFLICT (package_id, day) DO UPDATE SET count = excluded.count
    """)
)

# Single clients of a month. The consumer that counts them may be behind: its cursor says which ones must be counted.
_CLIENTS_OF_MONTH = f"""
    SELECT v.package_id, (d.downloaded_at AT TIME ZONE 'UTC')::date AS day, {clients.CLIENT} AS client,
           d.id <= coalesce((SELECT seq FROM consumers WHERE name = '{CLIENTS}'), 0) AS is_counted
    FROM downloads d JOIN package_versions v ON v.id = d.package_version_id
    WHERE d.downloaded_at >= CAST(:first AS date) AND d.downloaded_at < CAST(:after AS date) AND {clients.COUNTED}
"""
_CLIENTS_DIFFERING = """
    SELECT package_id, day, coalesce(k.clients, 0) AS kept, coalesce(c.most, 0) AS clients
    FROM (
        SELECT package_id, day, count(DISTINCT client) FILTER (WHERE is_counted) AS least,
               count(DISTINCT client) AS most
        FROM of_month GROUP BY package_id, day
    ) AS c
    FULL JOIN (
        SELECT * FROM package_clients
        WHERE day >= CAST(:first AS date) AND day < CAST(:after AS date) AND NOT is_estimate
    ) AS k USING (package_id, day)
    WHERE coalesce(k.clients, 0) NOT BETWEEN coalesce(c.least, 0) AND coalesce(c.most, 0)
"""
_CLIENTS_FOUND = first_of(f"""
    WITH of_month AS MATERIALIZED ({_CLIENTS_OF_MONTH})
    SELECT p.name || ' on ' || d.day || ': ' || d.kept || ' instead of ' || d.clients AS what
    FROM ({_CLIENTS_DIFFERING}) AS d JOIN packages AS p ON p.id = d.package_id
""")
# Counts all downloads, and stores their clients, so that the consumer doesn't count any of them again.
_MEND_CLIENTS = statement(
    sa.text(f"""
    WITH of_month AS MATERIALIZED ({_CLIENTS_OF_MONTH}), differing AS MATERIALIZED ({_CLIENTS_DIFFERING}), removed AS (
        DELETE FROM package_clients AS k USING differing AS d
        WHERE k.package_id = d.package_id AND k.day = d.day AND d.clients = 0
    ), stored AS (
        INSERT INTO day_clients (day, package_id, client)
        SELECT DISTINCT day, package_id, client FROM of_month JOIN differing USING (package_id, day)
        ON CONFLICT DO NOTHING
    )
    INSERT INTO package_clients (package_id, day, clients)
    SELECT package_id, day, clients FROM differing WHERE clients > 0
    ON CONFLICT (package_id, day) DO UPDATE SET clients = excluded.clients, is_estimate = false
    """)
)

# Triggers update the totals in the transaction that changes a row, so one snapshot sees rows and totals in agreement.
_TOTALS = """
    SELECT (SELECT count(*) FROM packages WHERE latest_version_id IS NOT NULL) AS packages,
           (SELECT count(*) FROM package_versions WHERE deleted_at IS NULL) AS versions,
           (SELECT coalesce(sum(packages), 0) FROM totals) AS kept_packages,
           (SELECT coalesce(sum(versions), 0) FROM totals) AS kept_versions
"""
_TOTALS_FOUND = first_of(f"""
    WITH t AS MATERIALIZED ({_TOTALS})
    SELECT kept_packages || ' packages instead of ' || packages AS what FROM t WHERE kept_packages <> packages
    UNION ALL
    SELECT kept_versions || ' versions instead of ' || versions FROM t WHERE kept_versions <> versions
    UNION ALL
    SELECT 'there is no slot ' || n FROM generate_series(0, {_SLOTS - 1}) AS n
    WHERE NOT EXISTS (SELECT FROM totals WHERE slot = n)
""")
_ADD_SLOTS = statement(
    sa.text(f"INSERT INTO totals (slot) SELECT generate_series(0, {_SLOTS - 1}) ON CONFLICT DO NOTHING")
)
_LOCK_SLOT = Statement("SELECT FROM totals WHERE slot = 0 FOR UPDATE", {})
_ADD_TO_SLOT = statement(
    sa.text(f"""
    UPDATE totals SET packages = totals.packages + t.packages - kept_packages,
                      versions = totals.versions + t.versions - kept_versions
    FROM ({_TOTALS}) AS t WHERE slot = 0
    """)
)


async def days(conn: Connection, month: date) -> Found:
    """Daily counts of versions that differ from the single downloads of a month, given by its first day."""
    return await found(conn, _DAYS, first=month, after=downloads.next_month(month))


async def registry_days(conn: Connection) -> Found:
    """Daily counts of the registry that are not the sum of those of its versions."""
    return await found(conn, _REGISTRY)


async def versions(conn: Connection) -> Found:
    """Versions whose count is not the sum of its daily counts."""
    return await found(conn, _VERSIONS)


async def packages(conn: Connection) -> Found:
    """Packages whose count is not the sum of the daily counts of its versions."""
    return await found(conn, _PACKAGES)


async def package_days(conn: Connection) -> Found:
    """Daily counts of packages that are not the sums of those of their versions."""
    return await found(conn, _PACKAGE_DAYS_FOUND)


async def mend_package_days(conn: Connection) -> None:
    """Sets the daily counts of packages to their sums. No downloads are committed meanwhile."""
    await downloads.lock(conn)
    await conn.run(_MEND_PACKAGE_DAYS)


async def clients_of_days(conn: Connection, month: date) -> Found:
    """Numbers of clients that differ from the single downloads of a month, given by its first day."""
    return await found(conn, _CLIENTS_FOUND, first=month, after=downloads.next_month(month))


async def mend_clients(conn: Connection, months: Sequence[date]) -> None:
    """Counts the clients of `months` again. No clients are counted meanwhile."""
    await clients.lock_position(conn, CLIENTS)
    for month in months:
        await conn.run(_MEND_CLIENTS, first=month, after=downloads.next_month(month))


async def recount(conn: Connection, months: Sequence[date]) -> None:
    """Counts the days of `months` again from single downloads, and all other counters from the days.

    No downloads are committed meanwhile, so that none is missed or counted twice.
    """
    await downloads.lock(conn)
    for month in months:
        for mend in _MEND:
            await conn.run(mend, first=month, after=downloads.next_month(month))
    for mend in _MEND_REGISTRY:
        await conn.run(mend)
    await downloads.lock_packages(conn, sorted(row.id for row in await conn.all(_WRONG)))
    await conn.run(_MEND_VERSIONS)
    await conn.run(_MEND_PACKAGES)


async def totals(conn: Connection) -> Found:
    """Totals that differ from the number of rows, and slots that are missing."""
    return await found(conn, _TOTALS_FOUND)


async def mend_totals(conn: Connection) -> None:
    """Adds the difference to one slot, so that only transactions that use this slot have to wait."""
    await conn.run(_ADD_SLOTS)
    await conn.run(_LOCK_SLOT)  # locked by its own statement, so the next statement sees what another doctor added
    await conn.run(_ADD_TO_SLOT)
