"""The SQL of dashboards: owners of packages, refused documents, and rows whose documents must exist."""

from collections.abc import Iterable, Sequence
from datetime import date

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, json, statement, together
from registry.db.tables import dashboard_failures, packages
from registry.events.log import LOST, PACKAGE
from registry.packages.owners.store import FIRST_OWNER

_OWNERS = statement(
    sa.select(packages.c.id, FIRST_OWNER.label("username")).where(
        packages.c.id == sa.any_(p("ids", type_=sa.ARRAY(sa.BigInteger)))
    )
)
_PUBLISHERS = statement(
    sa.text("""
    SELECT e.seq, coalesce(v.provenance ->> 'kind', 'user') AS kind
    FROM events AS e JOIN package_versions AS v ON v.package_id = e.package_id AND v.version = e.version
    WHERE e.seq = ANY (CAST(:seqs AS bigint[]))
    """)
)
_SAVE_OUTCOME = together(
    statement(
        sa.delete(dashboard_failures).where(
            dashboard_failures.c.document == sa.any_(p("written", type_=sa.ARRAY(sa.Text)))
        )
    ),
    statement(
        sa.text("""
        INSERT INTO dashboard_failures (document, at, reason)
        SELECT document, at, reason FROM jsonb_to_recordset(:refused) AS r (document text, at timestamptz, reason text)
        -- A consumer and a repair may record the same document at the same time.
        ON CONFLICT (document) DO UPDATE SET at = excluded.at, reason = excluded.reason, failed_at = now()
        """)
    ),
)
# Only indices of downloads are dropped. Events stay, so their failures stay, too.
_FORGET_DOWNLOADS = statement(
    sa.delete(dashboard_failures).where(
        dashboard_failures.c.document.startswith("download-"), dashboard_failures.c.at < p("month", type_=sa.Date)
    )
)
_FAILURES = statement(
    sa.select(dashboard_failures)
    .where(dashboard_failures.c.document > p("after"))
    .order_by(dashboard_failures.c.document)
    .limit(p("count"))
)
_DOWNLOAD_ENDS = statement(
    sa.text("""
    SELECT ends.id, ends.downloaded_at FROM unnest(CAST(:months AS date[])) AS m (month) CROSS JOIN LATERAL (
        (SELECT id, downloaded_at FROM downloads AS d
         WHERE downloaded_at >= m.month AND downloaded_at < m.month + interval '1 month' AND id <= :cursor
           AND NOT EXISTS (SELECT FROM dashboard_failures WHERE document = 'download-' || d.id)
         ORDER BY id LIMIT 1)
        UNION
        (SELECT id, downloaded_at FROM downloads AS d
         WHERE downloaded_at >= m.month AND downloaded_at < m.month + interval '1 month' AND id <= :cursor
           AND NOT EXISTS (SELECT FROM dashboard_failures WHERE document = 'download-' || d.id)
         ORDER BY id DESC LIMIT 1)
    ) AS ends
    """)
)
_EVENT_ENDS = statement(
    sa.text("""
    (SELECT seq, created_at FROM events AS e
     WHERE seq <= :cursor AND type <> :lost AND subject_type = :package
       AND NOT EXISTS (SELECT FROM dashboard_failures WHERE document = 'event-' || e.seq)
     ORDER BY seq LIMIT 1)
    UNION
    (SELECT seq, created_at FROM events AS e
     WHERE seq <= :cursor AND type <> :lost AND subject_type = :package
       AND NOT EXISTS (SELECT FROM dashboard_failures WHERE document = 'event-' || e.seq)
     ORDER BY seq DESC LIMIT 1)
    """).bindparams(lost=LOST, package=PACKAGE)
)


async def owners(conn: Connection, package_ids: Iterable[int]) -> dict[int | None, str]:
    """The username of each package's first owner, by package id."""
    return {row.id: row.username for row in await conn.all(_OWNERS, ids=list(package_ids))}


async def publishers(conn: Connection, seqs: Iterable[int]) -> dict[int, str]:
    """Who published the versions of these events, by seq: github, gitlab or oidc for CI jobs, otherwise user."""
    return {row.seq: row.kind for row in await conn.all(_PUBLISHERS, seqs=list(seqs))}


async def save_outcome(conn: Connection, written: Sequence[str], refused: Sequence[dict[str, object]]) -> None:
    """Deletes the failure records of the documents with the ids `written`, then inserts records of `refused`.

    Each of `refused` has document (its id), at and reason.
    """
    await conn.run(_SAVE_OUTCOME, written=list(written), refused=json(list(refused)))


async def forget_failed_downloads(conn: Connection, month: date) -> None:
    """Removes the records of refused documents of downloads before `month`, given by its first day."""
    await conn.run(_FORGET_DOWNLOADS, month=month)


async def failures(conn: Connection, after: str, count: int) -> list[Row]:
    """Up to `count` refused documents with an id above `after`: document, at, reason, failed_at."""
    return await conn.all(_FAILURES, after=after, count=count)


async def download_ends(conn: Connection, months: Sequence[date], cursor: int) -> list[Row]:
    """(id, downloaded_at) of the first and the last download of each month up to `cursor` that were not refused."""
    return await conn.all(_DOWNLOAD_ENDS, months=list(months), cursor=cursor)


async def event_ends(conn: Connection, cursor: int) -> list[Row]:
    """(seq, created_at) of the first and the last event up to `cursor` that have a document."""
    return await conn.all(_EVENT_ENDS, cursor=cursor)
