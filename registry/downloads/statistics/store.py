"""The SQL of statistics: sums of the daily roll-ups."""

from collections.abc import Collection, Mapping
from datetime import date

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, Statement, statement
from registry.db.tables import download_days, package_versions, packages, registry_days

# Only the groups with the most downloads are listed. All other groups are added up as OTHERS.
MAX_GROUPS = 50
OTHERS = "(others)"
TRAITS = {"client": "client", "kind": "kind", "country": "country", "os": "system"}


def _series(days: sa.Table, group: str | None) -> Statement:
    within: list[sa.ColumnElement[bool]] = [days.c.day.between(p("first"), p("last"))]
    source: sa.FromClause = days
    if days is download_days:
        named = sa.select(packages.c.id).where(packages.c.name == sa.any_(p("names", type_=sa.ARRAY(sa.Text))))
        within.append(days.c.package_id == sa.any_(sa.func.array(named.scalar_subquery())))
    if group == "version":
        source = days.join(package_versions, package_versions.c.id == days.c.package_version_id)
    start = sa.cast(sa.func.date_trunc(p("interval"), sa.cast(days.c.day, sa.DateTime)), sa.Date).label("start")
    downloads = sa.func.sum(days.c.count).label("downloads")
    label: sa.ColumnElement[str] = sa.literal("")
    if group is not None:
        value = package_versions.c.version if group == "version" else days.c[TRAITS[group]]
        most = sa.select(value.label("value")).select_from(source).where(*within).group_by(value)
        most = most.order_by(sa.func.sum(days.c.count).desc(), value).limit(MAX_GROUPS)
        label = sa.case((value.in_(sa.select(most.cte("most").c.value)), value), else_=OTHERS)
    sums = sa.select(start, label.label("label"), downloads, sa.func.sum(days.c.unique_count).label("unique"))
    return statement(sums.select_from(source).where(*within).group_by(sa.text("1, 2")).order_by(sa.text("1, 2")))


_OF_PACKAGE: Mapping[str | None, Statement] = {
    group: _series(download_days, group) for group in (None, "version", *TRAITS)
}
_OF_REGISTRY: Mapping[str | None, Statement] = {group: _series(registry_days, group) for group in (None, *TRAITS)}


async def series(
    conn: Connection, names: Collection[str] | None, first: date, last: date, interval: str, group: str | None
) -> list[Row]:
    """(start, label, downloads, unique) of each interval and group with downloads.

    `names` are the packages whose downloads are summed up; None means all.
    """
    of, values = (_OF_REGISTRY, {}) if names is None else (_OF_PACKAGE, {"names": list(names)})
    return await conn.all(of[group], first=first, last=last, interval=interval, **values)


def _shares(source: str) -> Statement:
    """The sums of each trait, from one scan. GROUPING() has a bit for each column that a row is not grouped by."""
    return statement(
        sa.text(f"""
        SELECT CASE bits WHEN 15 THEN 'kind' WHEN 23 THEN 'client' WHEN 27 THEN 'country' WHEN 29 THEN 'os'
                         ELSE 'version' END AS trait,
               coalesce(v.version, s.kind, s.client, s.country, s.system) AS label, s.downloads, s.unique
        FROM (
            SELECT GROUPING(kind, client, country, system, version_id) AS bits, kind, client, country, system,
                   version_id, sum(count) AS downloads, sum(unique_count) AS unique
            FROM ({source}) AS d WHERE day BETWEEN CAST(:first AS date) AND CAST(:last AS date)
            GROUP BY GROUPING SETS ((kind), (client), (country), (system), (version_id))
        ) AS s LEFT JOIN package_versions AS v ON v.id = s.version_id
        WHERE s.bits <> 30 OR v.id IS NOT NULL
        ORDER BY s.downloads DESC, label
        """)  # noqa: S608 - both parts are constants of this module
    )


_SHARES_OF_PACKAGE = _shares(
    "SELECT *, package_version_id AS version_id FROM download_days "
    "WHERE package_id = (SELECT id FROM packages WHERE name = :name)"
)
_SHARES_OF_REGISTRY = _shares("SELECT *, NULL::bigint AS version_id FROM registry_days")


async def shares(conn: Connection, name: str | None, first: date, last: date) -> list[Row]:
    """(trait, label, downloads, unique) of each value of each trait, the most downloads first.

    `name` is a package; None means the registry.
    """
    if name is None:
        return await conn.all(_SHARES_OF_REGISTRY, first=first, last=last)
    return await conn.all(_SHARES_OF_PACKAGE, name=name, first=first, last=last)
