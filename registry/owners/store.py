"""The SQL of invitations. Every function runs on the caller's connection and commits nothing."""

from collections.abc import Collection
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, statement
from registry.db.tables import invitations, packages, users

_c = invitations.c
_open = _c.expires_at > sa.func.now()
_inviter = users.alias("inviter")

_ADD = statement(
    sa.insert(invitations)
    .values(
        package_id=p("package_id"),
        user_id=p("user_id"),
        email=p("email"),
        role=p("role"),
        is_transfer=p("is_transfer"),
        inviter_id=p("inviter_id"),
        expires_at=sa.func.now() + p("valid_for", type_=sa.Interval),
    )
    .returning(_c.id, _c.expires_at)
)
_SHOWN = (
    sa.select(
        _c.id, _c.package_id, packages.c.name.label("package"), _c.user_id, users.c.username, _c.email, _c.role,
        _c.is_transfer, _c.inviter_id, _inviter.c.username.label("inviter"), _c.created_at, _c.expires_at,
    )
    .join(packages, packages.c.id == _c.package_id)
    .join(_inviter, _inviter.c.id == _c.inviter_id)
    .outerjoin(users, users.c.id == _c.user_id)
    .where(_open)
    .order_by(_c.id)
)  # fmt: skip
_after = _c.id > p("after")
_verified_email = (
    sa.select(sa.func.lower(users.c.email))
    .where(users.c.id == p("invited"), users.c.email_verified_at.is_not(None))
    .scalar_subquery()
)
_within = sa.cast(p("within"), sa.ARRAY(sa.Text))
_FOR_USER = statement(
    _SHOWN.where(
        sa.or_(_c.user_id == p("invited"), sa.func.lower(_c.email) == _verified_email),
        sa.or_(_within.is_(None), packages.c.name == sa.any_(_within)),
        _after,
    ).limit(p("count"))
)
_OF_PACKAGE = statement(_SHOWN.where(_c.package_id == p("of_package"), _after).limit(p("count")))
_FIND = statement(_SHOWN.where(_c.id == p("invitation")))
_END = statement(sa.delete(invitations).where(_c.id == p("invitation")))
_END_OF_INVITER = statement(
    sa.delete(invitations).where(_c.package_id == p("of_package"), _c.inviter_id == p("of_inviter"))
)
_same_user = sa.or_(
    _c.user_id == p("of_user"),
    sa.func.lower(_c.email) == sa.func.lower(sa.cast(p("of_email", type_=sa.Text), sa.Text)),
)
_END_OF_INVITED = statement(
    sa.delete(invitations).where(_c.package_id == p("of_package"), _same_user, _c.role == sa.any_(p("roles")))
)
_END_OF_ACCOUNT = statement(sa.delete(invitations).where(sa.or_(_same_user, _c.inviter_id == p("of_user"))))
_COUNT = statement(sa.select(sa.func.count()).select_from(invitations).where(_c.package_id == p("of_package"), _open))
_PURGE = statement(sa.delete(invitations).where(_c.expires_at < sa.func.now()))


async def add(
    conn: Connection,
    package_id: int,
    *,
    user_id: int | None,
    email: str | None,
    role: str,
    is_transfer: bool,
    inviter_id: int,
    valid_for: timedelta,
) -> Row:
    """Adds an invitation of a user or an address. Returns its id and expires_at."""
    return await conn.one(
        _ADD,
        package_id=package_id,
        user_id=user_id,
        email=email,
        role=role,
        is_transfer=is_transfer,
        inviter_id=inviter_id,
        valid_for=valid_for,
    )


async def find(conn: Connection, invitation: int) -> Row | None:
    """An open invitation with the names of its package, of the invited user and of the inviter."""
    return await conn.one(_FIND, invitation=invitation)


async def for_user(
    conn: Connection, user_id: int, after: int, count: int, *, within: Collection[str] | None = None
) -> list[Row]:
    """Open invitations of a user, or of the user's verified address, with ids above `after`.

    With `within`, only those to packages with these names.
    """
    names = None if within is None else list(within)
    return await conn.all(_FOR_USER, invited=user_id, after=after, count=count, within=names)


async def of_package(conn: Connection, package_id: int, after: int, count: int) -> list[Row]:
    """Open invitations to a package with ids above `after`."""
    return await conn.all(_OF_PACKAGE, of_package=package_id, after=after, count=count)


async def count(conn: Connection, package_id: int) -> int:
    """The number of open invitations to a package."""
    return int(await conn.value(_COUNT, of_package=package_id))


async def end(conn: Connection, invitation: int) -> None:
    await conn.run(_END, invitation=invitation)


async def end_of_inviter(conn: Connection, package_id: int, user_id: int) -> None:
    """Ends the invitations to a package that a user sent."""
    await conn.run(_END_OF_INVITER, of_package=package_id, of_inviter=user_id)


async def end_of_invited(
    conn: Connection, package_id: int, user_id: int | None, email: str | None, roles: list[str]
) -> None:
    """Ends the invitations of a user or an address to one of `roles` in a package."""
    await conn.run(_END_OF_INVITED, of_package=package_id, of_user=user_id, of_email=email, roles=roles)


async def end_of_account(conn: Connection, user_id: int, email: str | None) -> None:
    """Ends the invitations of a user or an address, and those that the user sent."""
    await conn.run(_END_OF_ACCOUNT, of_user=user_id, of_email=email)


async def purge(conn: Connection) -> int:
    """Deletes invitations that have expired. Returns how many."""
    return await conn.run(_PURGE)
