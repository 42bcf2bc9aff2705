"""The SQL of package owners and maintainers.

The expressions are for statements that read packages, so that roles need no extra round trip. Functions that change
roles expect that the caller has locked the package.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, statement
from registry.db.tables import package_owners, package_versions, packages, publishers, users
from registry.packages.rights import OWNER

_MEMBER_NAMES = (
    sa.select(users.c.username)
    .join(package_owners, package_owners.c.user_id == users.c.id)
    .where(package_owners.c.package_id == packages.c.id)
    .order_by(package_owners.c.since, users.c.username)
    .correlate(packages)
)
_OWNER_NAMES = _MEMBER_NAMES.where(package_owners.c.role == OWNER)
_MAINTAINER_NAMES = _MEMBER_NAMES.where(package_owners.c.role != OWNER)

OWNERS: sa.ColumnElement[Any] = sa.func.array(_OWNER_NAMES.scalar_subquery())
"""Usernames of the owners of the enclosing query's package, the first owner first."""

MAINTAINERS: sa.ColumnElement[Any] = sa.func.array(_MAINTAINER_NAMES.scalar_subquery())
"""Usernames of the maintainers of the enclosing query's package, in the same order."""

FIRST_OWNER: sa.ColumnElement[Any] = _OWNER_NAMES.limit(1).scalar_subquery()
"""Username of the user who has owned the package for the longest time; NULL when it has no owner."""


def role_of(user_id: sa.ColumnElement[int]) -> sa.ColumnElement[Any]:
    """The role of a user in the package of the enclosing query; NULL when the user has none."""
    return (
        sa.select(package_owners.c.role)
        .where(package_owners.c.package_id == packages.c.id, package_owners.c.user_id == user_id)
        .correlate(packages)
        .scalar_subquery()
    )


_OF_PACKAGE = package_owners.c.package_id == p("of_package")
_OF_USER = package_owners.c.user_id == p("of_user")
_MEMBERS = statement(
    sa.select(users.c.id, users.c.username, package_owners.c.role, package_owners.c.since)
    .join(users, users.c.id == package_owners.c.user_id)
    .where(_OF_PACKAGE)
    .order_by(package_owners.c.since, users.c.id)
)
_SET_ROLE = statement(
    insert(package_owners)
    .values(package_id=p("of_package"), user_id=p("of_user"), role=p("to_role"))
    .on_conflict_do_update(
        index_elements=["package_id", "user_id"],
        set_={"role": p("to_role"), "since": sa.func.now()},
        where=package_owners.c.role != p("to_role"),
    )
)
_REMOVE = statement(sa.delete(package_owners).where(_OF_PACKAGE, _OF_USER))
_ADOPT_PUBLISHER = statement(
    sa.update(publishers)
    .where(publishers.c.id == p("publisher"), publishers.c.package_id.is_(None))
    .values(package_id=p("of_package"), pending_name=None)
)
_REMOVE_USER = statement(sa.delete(package_owners).where(_OF_USER))
_LOCK_OF_USER = statement(
    sa.select(packages.c.id, packages.c.name, package_owners.c.role)
    .join(package_owners, package_owners.c.package_id == packages.c.id)
    .where(_OF_USER)
    .order_by(packages.c.id)
    .with_for_update(of=packages, key_share=True)
)
_OTHERS = package_owners.alias("others")
_HAS_OWNER = statement(sa.select(sa.exists().where(_OF_PACKAGE, package_owners.c.role == OWNER)))
_SOLELY_OWNED = statement(
    sa.select(packages.c.name)
    .join(package_owners, package_owners.c.package_id == packages.c.id)
    .where(
        _OF_USER,
        package_owners.c.role == OWNER,
        sa.exists().where(package_versions.c.package_id == packages.c.id, package_versions.c.deleted_at.is_(None)),
        ~sa.exists().where(
            _OTHERS.c.package_id == packages.c.id, _OTHERS.c.role == OWNER, _OTHERS.c.user_id != p("of_user")
        ),
    )
    .order_by(packages.c.name)
    .limit(p("count"))
)


async def members(conn: Connection, package_id: int) -> list[Row]:
    """(id, username, role, since) of the owners and maintainers, those of longest standing first."""
    return await conn.all(_MEMBERS, of_package=package_id)


async def set_role(conn: Connection, package_id: int, user_id: int, role: str) -> None:
    """Gives a user a role in place of any other. Nothing changes if the user has it."""
    await conn.run(_SET_ROLE, of_package=package_id, of_user=user_id, to_role=role)


async def remove(conn: Connection, package_id: int, user_id: int) -> None:
    await conn.run(_REMOVE, of_package=package_id, of_user=user_id)


async def adopt_publisher(conn: Connection, package_id: int, publisher: int) -> None:
    """Gives a pending trusted publisher to the package that it has just created."""
    await conn.run(_ADOPT_PUBLISHER, of_package=package_id, publisher=publisher)


async def has_owner(conn: Connection, package_id: int) -> bool:
    return bool(await conn.value(_HAS_OWNER, of_package=package_id))


async def remove_user(conn: Connection, user_id: int) -> None:
    """Removes a user's roles in all packages."""
    await conn.run(_REMOVE_USER, of_user=user_id)


async def lock_packages_of(conn: Connection, user_id: int) -> list[Row]:
    """Locks the packages in which the user has a role. Returns their id and name, and the role."""
    return await conn.all(_LOCK_OF_USER, of_user=user_id)


async def solely_owned(conn: Connection, user_id: int, count: int) -> list[str]:
    """Names of up to `count` packages with a version whose only owner is the user."""
    return [row.name for row in await conn.all(_SOLELY_OWNED, of_user=user_id, count=count)]
