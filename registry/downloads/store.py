"""The SQL of counting downloads. Runs on the caller's connection and commits nothing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, statement
from registry.db.tables import download_batches, packages

_BATCH = statement(sa.insert(download_batches).values(id=sa.cast(p("batch", type_=sa.Text), sa.Uuid)))
_FORGET = statement(
    sa.delete(download_batches).where(download_batches.c.created_at < sa.func.now() - sa.text("interval '90 days'"))
)
# In the order of ids, so that two commits at once wait for each other instead of dying in a deadlock.
_LOCK = statement(
    sa.select(packages.c.id)
    .where(packages.c.id == sa.any_(p("ids", type_=sa.ARRAY(sa.BigInteger))))
    .order_by(packages.c.id)
    .with_for_update(key_share=True)
)
_COUNT = statement(
    sa.text("""
    WITH counted AS (
        SELECT * FROM unnest(
            CAST(:packages AS bigint[]), CAST(:versions AS bigint[]), CAST(:days AS date[]), CAST(:counts AS bigint[])
        ) AS c (package_id, version_id, day, count)
    ), of_packages AS (
        UPDATE packages SET download_count = download_count + total
        FROM (SELECT package_id, sum(count) AS total FROM counted GROUP BY package_id) AS s
        WHERE packages.id = s.package_id
    ), of_versions AS (
        UPDATE package_versions SET download_count = download_count + total
        FROM (SELECT version_id, sum(count) AS total FROM counted GROUP BY version_id) AS s
        WHERE package_versions.id = s.version_id
    ), of_days AS (
        INSERT INTO download_days (package_id, package_version_id, day, count)
        SELECT package_id, version_id, day, count FROM counted
        ON CONFLICT (package_id, day, package_version_id) DO UPDATE SET count = download_days.count + excluded.count
    )
    INSERT INTO registry_days (day, count) SELECT day, sum(count) FROM counted GROUP BY day
    ON CONFLICT (day) DO UPDATE SET count = registry_days.count + excluded.count
    """)
)
_EVENTS = statement(
    sa.text("""
    INSERT INTO downloads (package_version_id, ip_address, downloaded_at, user_agent)
    SELECT * FROM unnest(
        CAST(:versions AS bigint[]), CAST(:addresses AS inet[]), CAST(:times AS timestamptz[]), CAST(:agents AS text[])
    )
    """)
)


@dataclass(frozen=True, slots=True)
class Download:
    """One download that counts. `address` is cut to its network, "" when unknown; `at` is aware."""

    version_id: int
    package_id: int
    at: datetime
    address: str
    user_agent: str


async def add(conn: Connection, batch: UUID, downloads: Sequence[Download]) -> None:
    """Adds events and every count of theirs. ConstraintViolated when the batch was added before."""
    await conn.run(_BATCH, batch=str(batch))
    await conn.all(_LOCK, ids=sorted({d.package_id for d in downloads}))
    sums = Counter((d.package_id, d.version_id, d.at.astimezone(UTC).date()) for d in downloads)
    await conn.run(
        _COUNT,
        packages=[key[0] for key in sums],
        versions=[key[1] for key in sums],
        days=[key[2] for key in sums],
        counts=list(sums.values()),
    )
    await conn.run(
        _EVENTS,
        versions=[d.version_id for d in downloads],
        addresses=[d.address or None for d in downloads],
        times=[d.at for d in downloads],
        agents=[d.user_agent for d in downloads],
    )


async def forget_batches(conn: Connection) -> int:
    """Removes the ids of batches that no spool file can still hold."""
    return await conn.run(_FORGET)
