"""The SQL of lists of packages and of versions. Runs on the caller's connection and commits nothing."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.accounts.store import SHOWN_NAME
from registry.db.engine import Connection, Row, Statement, statement
from registry.db.tables import package_owners, packages, totals, users
from registry.db.tables import package_versions as v
from registry.package_format.names import similarity_key
from registry.packages.rights import OWNER
from registry.packages.status.store import DEPRECATION, NOT_QUARANTINED

_LISTED = sa.select(
    packages.c.id, packages.c.name, v.c.version, packages.c.description, packages.c.author, packages.c.license,
    packages.c.keywords, packages.c.download_count, packages.c.created_at, packages.c.updated_at,
    v.c.yanked, v.c.yank_reason, *DEPRECATION,
).join(v, v.c.id == packages.c.latest_version_id)  # fmt: skip
_COUNT_WANTED = p("count", type_=sa.Integer)
_OFFSET = p("offset", type_=sa.Integer)
_COLUMN_OF_SORT = {
    "name": packages.c.name,
    "downloads": packages.c.download_count,
    "recently-updated": packages.c.updated_at,
    "recently-created": packages.c.created_at,
}
SORTS = tuple(_COLUMN_OF_SORT)


_IS_VISIBLE = packages.c.name == sa.any_(p("visible", type_=sa.ARRAY(sa.Text)))


def _list_statements(sort: str, listed: sa.Select[Any]) -> tuple[Statement, Statement]:
    """(first page, page after a cursor) of `listed` in a total order: ties are broken by name."""
    column = _COLUMN_OF_SORT[sort]
    if sort == "name":
        ordered = listed.order_by(column)
        after = ordered.where(column > p("after_name")).limit(_COUNT_WANTED)
        return statement(ordered.limit(_COUNT_WANTED).offset(_OFFSET)), statement(after)
    ordered = listed.order_by(column.desc(), packages.c.name)
    value = p("after_value", type_=column.type)
    # First the rest of the ties, then the lower values: PostgreSQL finds the start of each in the index. With one
    # condition that uses OR it would read the index from its beginning, and later pages would take longer.
    ties = listed.where(column == value, packages.c.name > p("after_name")).order_by(packages.c.name)
    lower = ordered.where(column < value)
    rest = sa.union_all(*(sa.select(part.limit(_COUNT_WANTED).subquery()) for part in (ties, lower))).subquery()
    after = sa.select(rest).order_by(rest.c[column.name].desc(), rest.c.name).limit(_COUNT_WANTED)
    return statement(ordered.limit(_COUNT_WANTED).offset(_OFFSET)), statement(after)


_OF_ALL = {sort: _list_statements(sort, _LISTED) for sort in SORTS}
_OF_VISIBLE = {sort: _list_statements(sort, _LISTED.where(_IS_VISIBLE)) for sort in SORTS}
_COUNT = statement(sa.select(sa.cast(sa.func.sum(totals.c.packages), sa.BigInteger)))
_COUNT_VISIBLE = statement(sa.select(sa.func.count()).where(_IS_VISIBLE, packages.c.latest_version_id.is_not(None)))


async def listed(
    conn: Connection, sort: str, count: int, offset: int, after: tuple[Any, str] | None, visible: Collection[str] | None
) -> tuple[list[Row], int]:
    """A page of packages that have a version, and how many such packages there are.

    `after` is (value, name) of the last row of the previous page. With `visible`, only packages with these names count.
    """
    restriction: dict[str, Any] = {} if visible is None else {"visible": list(visible)}
    first, following = (_OF_ALL if visible is None else _OF_VISIBLE)[sort]
    if after is None:
        rows = await conn.all(first, count=count, offset=offset, **restriction)
    else:
        rows = await conn.all(following, count=count, after_value=after[0], after_name=after[1], **restriction)
    return rows, int(await conn.value(_COUNT if visible is None else _COUNT_VISIBLE, **restriction))


_NEW = (
    sa.select(
        packages.c.name, v.c.version, v.c.description, v.c.published_at, v.c.yanked, SHOWN_NAME.label("publisher")
    )
    .select_from(
        v.join(packages, packages.c.id == v.c.package_id).join(users, users.c.id == v.c.published_by)
    )
    .where(v.c.deleted_at.is_(None), NOT_QUARANTINED)
    .order_by(v.c.published_at.desc(), v.c.id.desc())
    .limit(_COUNT_WANTED)
)  # fmt: skip
_NEWEST = statement(_NEW)
_NEWEST_OF_VISIBLE = statement(_NEW.where(_IS_VISIBLE))
_NEWEST_OF_PACKAGE = statement(_NEW.where(packages.c.similarity_key == p("key")))
_OWNER = sa.alias(users, "owner")
_IS_OWNED = packages.c.id.in_(
    sa.select(package_owners.c.package_id)
    .join(_OWNER, _OWNER.c.id == package_owners.c.user_id)
    .where(_OWNER.c.username == p("username"), package_owners.c.role == OWNER)
)
_NEWEST_OF_OWNER = statement(_NEW.where(_IS_OWNED))
_NEWEST_VISIBLE_OF_OWNER = statement(_NEW.where(_IS_OWNED, _IS_VISIBLE))
_ACTIVE_USERNAME = statement(
    sa.select(users.c.username).where(
        sa.func.lower(users.c.username) == sa.func.lower(p("username")), users.c.deleted_at.is_(None)
    )
)
_NAMES_AFTER = statement(
    sa.select(packages.c.name, packages.c.updated_at)
    .where(packages.c.latest_version_id.is_not(None), packages.c.name > p("after"))
    .order_by(packages.c.name)
    .limit(_COUNT_WANTED)
    .offset(_OFFSET)
)


async def newest(conn: Connection, visible: Collection[str] | None, count: int) -> list[Row]:
    """(name, version, description, published_at, yanked, publisher) of live versions, newest first."""
    if visible is None:
        return await conn.all(_NEWEST, count=count)
    return await conn.all(_NEWEST_OF_VISIBLE, count=count, visible=list(visible))


async def newest_of_package(conn: Connection, name: str, count: int) -> list[Row]:
    """The rows of newest() of one package."""
    return await conn.all(_NEWEST_OF_PACKAGE, count=count, key=similarity_key(name))


async def newest_of_owner(conn: Connection, username: str, visible: Collection[str] | None, count: int) -> list[Row]:
    """The rows of newest() of the packages that a user owns."""
    if visible is None:
        return await conn.all(_NEWEST_OF_OWNER, count=count, username=username)
    return await conn.all(_NEWEST_VISIBLE_OF_OWNER, count=count, username=username, visible=list(visible))


async def active_username(conn: Connection, username: str) -> str | None:
    """The username as it was registered; None if there is no such account or it has ended."""
    found = await conn.value(_ACTIVE_USERNAME, username=username)
    return None if found is None else str(found)


async def names_after(conn: Connection, after: str, count: int, offset: int) -> list[Row]:
    """(name, updated_at) of packages that have a version, in the order of names."""
    return await conn.all(_NAMES_AFTER, after=after, count=count, offset=offset)
