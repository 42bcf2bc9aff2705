"""The SQL of the checks and repairs. Each check is one statement, so it sees one moment of the database."""

from collections.abc import Iterable, Sequence
from datetime import date

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, Statement, statement
from registry.db.tables import package_versions, packages
from registry.doctor.check import EXAMPLES, Found
from registry.events import log as event_log
from registry.packages import store as packages_store
from registry.packages.rights import OWNER

v = package_versions


def first_of(differences: str) -> Statement:
    """A statement for `found()`. `differences` selects a text `what` for each fault."""
    return statement(sa.text(f"SELECT what, count(*) OVER () AS total FROM ({differences}) AS d LIMIT {EXAMPLES}"))


# The rows of packages and versions

_CHOSEN = packages_store.latest_of(packages.c.id).lateral("chosen")
_OUTDATED = (
    sa.select(packages.c.id, packages.c.name)
    .select_from(packages.outerjoin(_CHOSEN, sa.true()))
    .where(
        sa.or_(
            sa.and_(_CHOSEN.c.id.is_(None), packages.c.latest_version_id.is_not(None)),
            sa.and_(
                _CHOSEN.c.id.is_not(None),
                sa.or_(
                    *(packages.c[name].is_distinct_from(value) for name, value in packages_store.shown(_CHOSEN).items())
                ),
            ),
        )
    )
)
_OUTDATED_AFTER = statement(_OUTDATED.where(packages.c.id > p("after")).order_by(packages.c.id).limit(p("count")))
_LOCK = statement(
    sa.select(packages.c.id)
    .where(packages.c.id == sa.any_(p("ids", type_=sa.ARRAY(sa.BigInteger))))
    .order_by(packages.c.id)
    .with_for_update()
)
_NAMES = statement(
    sa.select(packages.c.id, packages.c.name, packages.c.similarity_key)
    .where(packages.c.id > p("after"))
    .order_by(packages.c.id)
    .limit(p("count"))
)
_RENAME = statement(sa.update(packages).where(packages.c.id == p("of")).values(similarity_key=p("key")))
_VERSIONS = statement(
    sa.select(v.c.id, packages.c.name, v.c.version, v.c.canonical, v.c.sort_key, v.c.is_prerelease)
    .join(packages, packages.c.id == v.c.package_id)
    .where(v.c.id > p("after"))
    .order_by(v.c.id)
    .limit(p("count"))
)
_REORDER = statement(
    sa.update(v)
    .where(v.c.id == p("of"))
    .values(canonical=p("to_canonical"), sort_key=p("to_sort_key"), is_prerelease=p("to_is_prerelease"))
)
_WITHOUT_OWNER = first_of(f"""
    SELECT p.name AS what FROM packages p
    WHERE EXISTS (SELECT FROM package_versions v WHERE v.package_id = p.id AND v.deleted_at IS NULL)
    AND NOT EXISTS (SELECT FROM package_owners o WHERE o.package_id = p.id AND o.role = '{OWNER}')
""")

# Tarballs

_KEEPS_TARBALL = sa.or_(v.c.swept_at.is_(None), packages_store.LIVE)
_LISTED = Statement('CREATE TEMP TABLE listed_blobs (key text COLLATE "C" PRIMARY KEY, size bigint NOT NULL)', {})
_LIST = statement(
    sa.text("""
    INSERT INTO listed_blobs SELECT * FROM unnest(CAST(:keys AS text[]), CAST(:sizes AS bigint[]))
    ON CONFLICT DO NOTHING
    """)
)
_ANALYZE = Statement("ANALYZE listed_blobs", {})
_NOT_LISTED = statement(
    sa.text("""
    SELECT v.id, p.name, v.version, v.tarball_path, v.tarball_size
    FROM package_versions v JOIN packages p ON p.id = v.package_id
    LEFT JOIN listed_blobs b ON b.key = v.tarball_path
    WHERE (v.swept_at IS NULL OR v.deleted_at IS NULL) AND b.size IS DISTINCT FROM v.tarball_size AND v.id > :after
    ORDER BY v.id LIMIT :count
    """)
)
_UNSWEPT = statement(
    sa.select(v.c.id).where(v.c.id == sa.any_(p("ids", type_=sa.ARRAY(sa.BigInteger))), _KEEPS_TARBALL)
)
_TARBALLS = statement(
    sa.select(v.c.id, packages.c.name, v.c.version, v.c.tarball_path, v.c.checksum)
    .ext(distinct_on(v.c.tarball_path))
    .join(packages, packages.c.id == v.c.package_id)
    .where(v.c.tarball_path > p("after"), _KEEPS_TARBALL)
    .order_by(v.c.tarball_path)
    .limit(p("count"))
)
_TOMBSTONES = first_of("""
    SELECT p.name || ' ' || v.version || ' was deleted ' || v.deleted_at::timestamptz(0) AS what
    FROM package_versions v JOIN packages p ON p.id = v.package_id
    WHERE v.swept_at IS NULL AND v.deleted_at < now() - CAST(:grace AS interval)
""")

# Dashboards

_EVENTS_WRITTEN = statement(
    sa.text(f"""
    SELECT count(*) FILTER (WHERE type <> '{event_log.LOST}' AND subject_type = '{event_log.PACKAGE}'
           AND seq <= coalesce((SELECT seq FROM consumers WHERE name = :consumer), 0))
           - (SELECT count(*) FROM dashboard_failures WHERE starts_with(document, 'event-')) AS least,
           count(*) AS most
    FROM events
    """)
)
_DOWNLOADS_WRITTEN = statement(
    sa.text("""
    SELECT count(*) FILTER (WHERE id <= coalesce((SELECT seq FROM consumers WHERE name = :consumer), 0))
           - (SELECT count(*) FROM dashboard_failures WHERE starts_with(document, 'download-')
              AND at >= CAST(:month AS date) AND at < CAST(:next_month AS date)) AS least,
           count(*) AS most
    FROM downloads WHERE downloaded_at >= CAST(:month AS date) AND downloaded_at < CAST(:next_month AS date)
    """)
)


async def found(conn: Connection, differences: Statement, **values: object) -> Found:
    """Runs a statement made by `first_of()`."""
    rows = await conn.all(differences, **values)
    return Found(rows[0].total if rows else 0, [row.what for row in rows])


async def outdated_packages(conn: Connection, after: int, count: int) -> list[Row]:
    """id and name of up to `count` packages above the id `after` that don't show their latest version's metadata."""
    return await conn.all(_OUTDATED_AFTER, after=after, count=count)


async def refresh_packages(conn: Connection, ids: Sequence[int]) -> None:
    """Makes these packages show their latest version's metadata."""
    await conn.all(_LOCK, ids=list(ids))
    for id_ in ids:
        await packages_store.refresh(conn, id_)


async def names_after(conn: Connection, after: int, count: int) -> list[Row]:
    """id, name and similarity_key of up to `count` packages with an id above `after`, by id."""
    return await conn.all(_NAMES, after=after, count=count)


async def set_similarity_key(conn: Connection, package_id: int, key: str) -> None:
    """Sets the key for similar names. Raises ConstraintViolated if another package has it."""
    await conn.run(_RENAME, of=package_id, key=key)


async def versions_after(conn: Connection, after: int, count: int) -> list[Row]:
    """id, name, version, canonical, sort_key and is_prerelease of up to `count` versions above `after`, by id."""
    return await conn.all(_VERSIONS, after=after, count=count)


async def set_order(conn: Connection, version_id: int, canonical: str, sort_key: str, is_prerelease: bool) -> None:
    """Sets the order of a version. Raises ConstraintViolated if another version differs only in build metadata."""
    await conn.run(
        _REORDER, of=version_id, to_canonical=canonical, to_sort_key=sort_key, to_is_prerelease=is_prerelease
    )


async def packages_without_owner(conn: Connection) -> Found:
    """Packages that have a version and no owner."""
    return await found(conn, _WITHOUT_OWNER)


async def begin_list(conn: Connection) -> None:
    """Creates an empty list of blobs. It ends with the session of `conn`."""
    await conn.run(_LISTED)


async def list_blobs(conn: Connection, keys: Iterable[str], sizes: Iterable[int]) -> None:
    """Adds blobs to the list."""
    await conn.run(_LIST, keys=list(keys), sizes=list(sizes))


async def end_list(conn: Connection) -> None:
    """Updates the statistics of the list, so that PostgreSQL plans queries on it well."""
    await conn.run(_ANALYZE)


async def not_listed(conn: Connection, after: int, count: int) -> list[Row]:
    """Up to `count` unswept versions above the id `after` whose blob is not in the list with the right size.

    Rows have id, name, version, tarball_path and tarball_size and are ordered by id.
    """
    return await conn.all(_NOT_LISTED, after=after, count=count)


async def unswept(conn: Connection, ids: Sequence[int]) -> set[int]:
    """The ids of those versions among `ids` whose blob must stay."""
    return {row.id for row in await conn.all(_UNSWEPT, ids=list(ids))}


async def tarballs_after(conn: Connection, after: str, count: int) -> list[Row]:
    """Up to `count` unswept versions with a tarball_path above `after`, one for each path, ordered by it.

    Rows have id, name, version, tarball_path and checksum.
    """
    return await conn.all(_TARBALLS, after=after, count=count)


async def overdue_tombstones(conn: Connection, grace: object) -> Found:
    """Versions that were deleted longer ago than `grace` (a timedelta) and are not swept."""
    return await found(conn, _TOMBSTONES, grace=grace)


async def events_written(conn: Connection, consumer: str) -> Row:
    """least: events that `consumer` has handled and that were not refused; most: all events, lost ones included."""
    return await conn.one(_EVENTS_WRITTEN, consumer=consumer)


async def downloads_written(conn: Connection, consumer: str, month: date, next_month: date) -> Row:
    """least: downloads of the month that `consumer` has handled and that were not refused; most: all of the month."""
    return await conn.one(_DOWNLOADS_WRITTEN, consumer=consumer, month=month, next_month=next_month)
