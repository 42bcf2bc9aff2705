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
