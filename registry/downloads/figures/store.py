"""The SQL of figures: sums of the counts per package and day. Runs on the caller's connection and commits nothing."""

from collections.abc import Collection
from datetime import date

import sqlalchemy as sa

from registry.db.engine import Connection, Row, Statement, statement
from registry.packages.totals import store as totals_store


def _text(sql: str) -> Statement:
    return statement(sa.text(sql))


_WEEKLY = _text("""
    SELECT p.name, (CAST(:today AS date) - d.day) / 7 AS back, sum(d.count) AS downloads
    FROM packages AS p JOIN package_days AS d ON d.package_id = p.id
    WHERE p.name = ANY (CAST(:names AS text[]))
      AND d.day > CAST(:today AS date) - 7 * CAST(:weeks AS int) AND d.day <= CAST(:today AS date)
    GROUP BY 1, 2
""")
_WEEK = _text("""
    SELECT coalesce(sum(count), 0) AS week FROM registry_days
    WHERE day > CAST(:today AS date) - 7 AND day <= CAST(:today AS date)
""")
_WEEK_OF_VISIBLE = _text("""
    SELECT coalesce(sum(d.count), 0) AS week FROM package_days AS d JOIN packages AS p ON p.id = d.package_id
    WHERE p.name = ANY (CAST(:visible AS text[]))
      AND d.day > CAST(:today AS date) - 7 AND d.day <= CAST(:today AS date)
""")
# Only packages with enough downloads in the last week can rise, so the weeks before are read for these alone. A package
# in quarantine, or without versions, has no latest version.
_RANKED = _text("""
    WITH week AS MATERIALIZED (
        SELECT p.id, p.name, p.description, s.week
        FROM (
            SELECT package_id, CAST(sum(count) AS float8) AS week FROM package_days
            WHERE day > CAST(:today AS date) - 7 AND day <= CAST(:today AS date) GROUP BY package_id
        ) AS s JOIN packages AS p ON p.id = s.package_id
        WHERE s.week > 0 AND p.latest_version_id IS NOT NULL
          AND (CAST(:visible AS text[]) IS NULL OR p.name = ANY (CAST(:visible AS text[])))
    ), before AS (
        SELECT d.package_id, CAST(sum(d.count) AS float8) / :weeks AS mean
        FROM package_days AS d JOIN week AS w ON w.id = d.package_id AND w.week >= :floor
        WHERE d.day > CAST(:today AS date) - 7 - 7 * CAST(:weeks AS int) AND d.day <= CAST(:today AS date) - 7
        GROUP BY d.package_id
    ), risen AS (
        SELECT w.name, w.description, w.week,
               round(100 * (w.week - coalesce(b.mean, 0)) / greatest(b.mean, :floor)) AS rise
        FROM week AS w LEFT JOIN before AS b ON b.package_id = w.id WHERE w.week >= :floor
    )
    (SELECT false AS is_rising, name, description, week, 0 AS rise FROM week ORDER BY week DESC, name LIMIT :count)
    UNION ALL
    (SELECT true, * FROM risen WHERE rise >= :least ORDER BY rise DESC, week DESC, name LIMIT :count)
""")


async def weekly(conn: Connection, names: Collection[str], today: date, weeks: int) -> list[Row]:
    """(name, back, downloads) of each week with downloads. `back` is 0 for the 7 days that end `today`."""
    return await conn.all(_WEEKLY, names=list(names), today=today, weeks=weeks)


async def totals(conn: Connection, visible: Collection[str] | None, today: date) -> tuple[int, int, int]:
    """(packages, versions, downloads of the last 7 days) of all packages, or of those in `visible`."""
    packages, versions = await totals_store.packages_and_versions(conn, visible)
    names = None if visible is None else list(visible)
    week = await conn.value(_WEEK if names is None else _WEEK_OF_VISIBLE, visible=names, today=today)
    return packages, versions, int(week)


async def ranked(
    conn: Connection, visible: Collection[str] | None, today: date, weeks: int, floor: int, least: int, count: int
) -> list[Row]:
    """(is_rising, name, description, week, rise) of two lists.

    First come the `count` packages with the most downloads in the last 7 days, with a rise of 0. Then come those with
    the highest rise of `least` percent or more. Ranked explains `weeks` and `floor`.
    """
    names = None if visible is None else list(visible)
    return await conn.all(_RANKED, visible=names, today=today, weeks=weeks, floor=floor, least=least, count=count)
