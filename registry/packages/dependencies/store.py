"""The SQL of dependencies between packages. Every function runs on the caller's connection and commits nothing."""

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, statement
from registry.db.tables import dependents as d
from registry.db.tables import package_versions as v
from registry.db.tables import packages
from registry.package_format.names import similarity_key
from registry.packages.status.store import NOT_QUARANTINED

_TEXTS = sa.ARRAY(sa.Text)
_OF_PACKAGE = d.c.dependency == p("key")
_IS_VISIBLE = d.c.dependent == sa.any_(p("visible", type_=_TEXTS))
_NAME = statement(
    sa.select(packages.c.id, packages.c.name).where(
        packages.c.similarity_key == p("key"), packages.c.latest_version_id.is_not(None)
    )
)
_LISTED = (
    sa.select(d.c.dependent.label("name"), v.c.version, d.c.range, packages.c.description)
    .join(packages, packages.c.id == d.c.package_id)
    .join(v, v.c.id == packages.c.latest_version_id)
    .where(_OF_PACKAGE, d.c.dependent > p("after"))
    .order_by(d.c.dependent)
    .limit(p("count"))
)
_PAGE, _PAGE_OF_VISIBLE = statement(_LISTED), statement(_LISTED.where(_IS_VISIBLE))
_COUNTED = sa.select(sa.func.count()).where(_OF_PACKAGE)
_COUNT, _COUNT_VISIBLE = statement(_COUNTED), statement(_COUNTED.where(_IS_VISIBLE))

_TARGETS = statement(
    sa.select(
        packages.c.similarity_key.label("key"), packages.c.id, packages.c.name, packages.c.description,
        packages.c.deprecated, v.c.version.label("latest_version"), v.c.yanked,
    )
    .join(v, v.c.id == packages.c.latest_version_id)
    .where(packages.c.similarity_key == sa.any_(p("keys", type_=_TEXTS)))
)  # fmt: skip
# One row for each package whose versions are searched: its id, and the sort key below which the search goes on.
_ASKED = sa.func.unnest(
    sa.cast(p("packages", type_=sa.ARRAY(sa.BigInteger)), sa.ARRAY(sa.BigInteger)),
    sa.cast(p("keys", type_=_TEXTS), _TEXTS),
).table_valued(sa.column("package_id", sa.BigInteger), sa.column("key", sa.Text), with_ordinality="position")
_asked = _ASKED.render_derived("asked")
_NEXT = (
    sa.select(v.c.version, v.c.sort_key, v.c.yanked)
    .join(packages, packages.c.id == v.c.package_id)
    .where(
        v.c.package_id == _asked.c.package_id,
        v.c.deleted_at.is_(None),
        NOT_QUARANTINED,
        v.c.sort_key < _asked.c.key,
    )
    .order_by(v.c.sort_key.desc())
    .limit(p("count"))
    .lateral("next")
)
_BELOW = statement(
    sa.select(_asked.c.position, _NEXT.c.version, _NEXT.c.sort_key, _NEXT.c.yanked).join(_NEXT, sa.true())
)


async def named(conn: Connection, name: str) -> Row | None:
    """id and name of the package with this name or a look-alike, if it is shown."""
    return await conn.one(_NAME, key=similarity_key(name))


async def dependents(conn: Connection, name: str, after: str, count: int, visible: Collection[str] | None) -> list[Row]:
    """Up to `count` dependents whose name comes after `after`, by name: (name, version, range, description).

    `visible` restricts them to packages with these names; None means all.
    """
    if visible is None:
        return await conn.all(_PAGE, key=similarity_key(name), after=after, count=count)
    return await conn.all(_PAGE_OF_VISIBLE, key=similarity_key(name), after=after, count=count, visible=list(visible))


async def count_dependents(conn: Connection, name: str, visible: Collection[str] | None) -> int:
    if visible is None:
        return int(await conn.value(_COUNT, key=similarity_key(name)))
    return int(await conn.value(_COUNT_VISIBLE, key=similarity_key(name), visible=list(visible)))


async def targets(conn: Connection, keys: Sequence[str]) -> list[Row]:
    """The shown packages with these similarity keys: key, id, name, description, deprecated, latest_version, yanked."""
    return await conn.all(_TARGETS, keys=list(keys))


async def versions_below(conn: Connection, packages: Sequence[int], keys: Sequence[str], count: int) -> list[Row]:
    """For each package up to `count` live versions whose sort key is below the one in `keys`, the highest first.

    Rows are (position, version, sort_key, yanked); `position` counts the packages from 1.
    """
    return await conn.all(_BELOW, packages=list(packages), keys=list(keys), count=count)
