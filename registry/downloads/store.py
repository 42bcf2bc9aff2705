"""The SQL of downloads. It runs on the caller's connection and commits nothing.

`add()` holds an advisory lock until the commit and assigns row ids under it, so ids are in the order of commits. A
reader that sees an id can see every row with a lower id, and may follow the table with a cursor.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, Statement, json, prepared, statement, together
from registry.db.lock_numbers import ADD_DOWNLOADS
from registry.db.tables import consumers, download_batches, downloads, package_versions, packages
from registry.packages.cached import DOWNLOADED

# The constraint that `add()` violates when the batch was added before.
COUNTED_BEFORE = "download_batches_pkey"
# `lag()` counts at most this many downloads.
LAG_COUNTED = 100_000
# The number of package ids in one notification, which can carry 8,000 bytes.
IDS_ANNOUNCED = 350
_PARTITION_NAME = "downloads_%Y_%m"

_LOCK = statement(sa.select(sa.func.pg_advisory_xact_lock(sa.literal(ADD_DOWNLOADS, sa.BigInteger))))
_BATCH = statement(sa.insert(download_batches).values(id=sa.cast(p("batch", type_=sa.Text), sa.Uuid)))
_FORGET = statement(
    sa.delete(download_batches).where(download_batches.c.created_at < sa.func.now() - sa.text("interval '90 days'"))
)
# Locks are taken in the order of ids, so that two transactions can't deadlock.
_LOCK_PACKAGES = statement(
    sa.select(packages.c.id)
    .where(packages.c.id == sa.any_(p("ids", type_=sa.ARRAY(sa.BigInteger))))
    .order_by(packages.c.id)
    .with_for_update(key_share=True)
)
_COUNT = statement(
    sa.text("""
    WITH arrived AS (
        SELECT *, date_trunc('minute', at) AS minute, row_number() OVER (
            PARTITION BY version_id, client_hash, date_trunc('minute', at)
        ) AS nth
        FROM json_to_recordset(:rows) AS r (
            version_id bigint, package text, version text, at timestamptz, address inet, user_agent text,
            client_hash text, status smallint, bytes bigint, kind text, client text, system text, country text,
            rule text, address_key bigint
        )
        -- After a restore from a backup, a journal may name versions that no longer exist. They are skipped.
        WHERE version_id IS NULL OR EXISTS (SELECT 1 FROM package_versions AS known WHERE known.id = version_id)
    ), added AS (
        INSERT INTO downloads (package_version_id, package, version, downloaded_at, ip_address, user_agent, client_hash,
                               status, bytes, kind, client, system, country, rule, address_key, is_unique)
        SELECT version_id, package, version, at, address, user_agent, client_hash, status, bytes, kind, client, system,
               country, rule, address_key, version_id IS NOT NULL AND nth = 1 AND NOT EXISTS (
                   SELECT 1 FROM downloads AS d
                   WHERE d.package_version_id = version_id AND d.client_hash = arrived.client_hash
                     AND d.downloaded_at >= minute AND d.downloaded_at < minute + interval '1 minute'
               )
        FROM arrived
        RETURNING package_version_id, downloaded_at, kind, client, system, country, is_unique
    ), counted AS (
        SELECT v.package_id, v.id AS version_id, (downloaded_at AT TIME ZONE 'UTC')::date AS day,
               kind, client, system, country, count(*) AS count, count(*) FILTER (WHERE is_unique) AS unique_count
        FROM added JOIN package_versions v ON v.id = package_version_id
        GROUP BY v.id, 3, kind, client, system, country
    ), of_packages AS (
        UPDATE packages SET download_count = download_count + total
        FROM (SELECT package_id, sum(count) AS total FROM counted GROUP BY package_id) AS s
        WHERE packages.id = s.package_id
    ), of_versions AS (
        UPDATE package_versions SET download_count = download_count + total
        FROM (SELECT version_id, sum(count) AS total FROM counted GROUP BY version_id) AS s
        WHERE package_versions.id = s.version_id
    ), of_days AS (
        INSERT INTO download_days AS d
            (package_id, package_version_id, day, kind, client, system, country, count, unique_count)
        SELECT package_id, version_id, day, kind, client, system, country, count, unique_count FROM counted
        ON CONFLICT (package_id, day, package_version_id, kind, client, system, country)
        DO UPDATE SET count = d.count + excluded.count, unique_count = d.unique_count + excluded.unique_count
    )
    INSERT INTO registry_days AS d (day, kind, client, system, country, count, unique_count)
    SELECT day, kind, client, system, country, sum(count), sum(unique_count) FROM counted
    GROUP BY day, kind, client, system, country
    ON CONFLICT (day, kind, client, system, country)
    DO UPDATE SET count = d.count + excluded.count, unique_count = d.unique_count + excluded.unique_count
    """)
)
# Prepared, because planning this statement takes as long as running it.
_ADD = together(_BATCH, _LOCK_PACKAGES, prepared("add_downloads", _COUNT))
_PARTITIONS = statement(
    sa.text("""
    SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'downloads'::regclass ORDER BY 1
    """)
)
_AFTER = statement(
    sa.select(
        downloads,
        downloads.c.id.label("seq"),
        packages.c.name.label("package_name"),
        package_versions.c.version.label("package_version"),
        package_versions.c.checksum,
        package_versions.c.tarball_size,
        package_versions.c.package_id,
    )
    .outerjoin(package_versions, package_versions.c.id == downloads.c.package_version_id)
    .outerjoin(packages, packages.c.id == package_versions.c.package_id)
    .where(downloads.c.id > p("after"))
    .order_by(downloads.c.id)
    .limit(p("count"))
)
_behind = (
    sa.select(downloads.c.downloaded_at)
    .where(
        downloads.c.id
        > sa.func.coalesce(sa.select(consumers.c.seq).where(consumers.c.name == p("consumer")).scalar_subquery(), 0)
    )
    .limit(LAG_COUNTED)
    .subquery()
)
_LAG = statement(
    sa.select(
        sa.func.count(), sa.func.extract("epoch", sa.func.now() - sa.func.min(_behind.c.downloaded_at))
    ).select_from(_behind)
)


# Frozen, it would take twice the time to create. With slots, it would take three times the time to become JSON.
@dataclass
class Download:
    """One request for a tarball. A served one has `version_id` and `package_id`, a refused one `package` and `version`
    as the client wrote them.

    `at` is in UTC. `address` is the client's network, its full address if the settings say so, or None if it is
    unknown. `bytes` is the size that the answer announced. `address_key` identifies the full address within its day.
    """

    at: datetime
    version_id: int | None
    package_id: int | None
    package: str | None
    version: str | None
    address: str | None
    user_agent: str
    client_hash: str
    status: int
    bytes: int
    kind: str
    client: str
    system: str
    country: str
    rule: str
    address_key: int | None = None


Rows = Sequence[Mapping[str, Any]]
"""Downloads as JSON has them: mappings with the fields of Download, `at` as text in RFC 3339 in UTC."""


async def lock(conn: Connection) -> None:
    """Keeps all other transactions from adding downloads until this one ends."""
    await conn.run(_LOCK)


async def lock_packages(conn: Connection, ids: Sequence[int]) -> None:
    """Locks packages before their counts change. Every writer locks a package before its versions."""
    await conn.all(_LOCK_PACKAGES, ids=list(ids))


def add(conn: Connection, batch: UUID, rows: Rows) -> None:
    """Adds at least one download and updates all counts. The statements are sent together with the commit.

    The commit raises ConstraintViolated when the batch was added before, and ValueRefused for a value that PostgreSQL
    can't store.
    """
    months = sorted({row["at"][: len("2026-01")] for row in rows})
    ids = sorted({row["package_id"] for row in rows} - {None})
    # All statements are sent in one round trip, so the lock is not held while this process does something else.
    conn.defer(together(_LOCK, *(_partition_of(date.fromisoformat(f"{month}-01")) for month in months)))
    conn.defer(_ADD, batch=str(batch), ids=ids, rows=json(rows))
    for start in range(0, len(ids), IDS_ANNOUNCED):
        conn.announce(DOWNLOADED, " ".join(map(str, ids[start : start + IDS_ANNOUNCED])))


async def make_partition(conn: Connection, month: date) -> None:
    """Creates the partition of a month, given by its first day, if it does not exist."""
    await conn.run(_partition_of(month))


@functools.cache
def _partition_of(month: date) -> Statement:
    """The statement that creates the partition of a month. It changes and locks nothing if the partition exists."""
    bounds = f"FROM ('{month} 00:00+00') TO ('{next_month(month)} 00:00+00')"
    # DDL takes no parameters. Names and bounds contain only numbers, so they are safe.
    return Statement(f"CREATE TABLE IF NOT EXISTS {_partition(month)} PARTITION OF downloads FOR VALUES {bounds}", {})


async def months(conn: Connection) -> list[date]:
    """The first days of the months that have a partition, in order."""
    return [datetime.strptime(row.name, _PARTITION_NAME).date() for row in await conn.all(_PARTITIONS)]


async def drop_before(conn: Connection, month: date) -> list[str]:
    """Drops the partitions of all months before `month` and returns their names. Counts stay."""
    kept = _partition(month)
    dropped = [row.name for row in await conn.all(_PARTITIONS) if row.name < kept]
    # While DROP TABLE waits for its lock, every download waits behind it. If it fails, the next run tries again.
    await conn.run(Statement("SET LOCAL lock_timeout = '1s'", {}))
    for name in dropped:
        await conn.run(Statement(f'DROP TABLE "{name}"', {}))
    return dropped


def next_month(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _partition(month: date) -> str:
    return month.strftime(_PARTITION_NAME)


async def read_after(conn: Connection, after: int, count: int) -> list[Row]:
    """Up to `count` downloads with an id above `after`, in order, with columns of their version. `seq` is the id."""
    return await conn.all(_AFTER, after=after, count=count)


async def lag(conn: Connection, consumer: str) -> tuple[int, float]:
    """(number of downloads that `consumer` has not handled, at most LAG_COUNTED; age of the oldest in seconds)."""
    [(behind, waited)] = await conn.all(_LAG, consumer=consumer)
    return int(behind), float(waited or 0)


async def forget_batches(conn: Connection) -> int:
    """Removes the ids of batches that are too old to be in a file. Returns how many."""
    return await conn.run(_FORGET)
