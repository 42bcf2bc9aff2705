"""The SQL of mail: tokens in links, invitations that were mailed, and the packages that texts name."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.accounts.credential_cache import announce_change
from registry.db.engine import Connection, Row, statement
from registry.db.tables import invitations, mail_tokens, packages, users

_c = mail_tokens.c
_now = sa.func.now()
_same_address = sa.func.lower(_c.email) == sa.func.lower(sa.cast(p("address", type_=sa.Text), sa.Text))

_ADD_TOKEN = statement(
    sa.insert(mail_tokens).values(
        hash=p("hash"),
        purpose=p("purpose"),
        user_id=p("of_user"),
        email=p("address"),
        expires_at=_now + p("valid_for", type_=sa.Interval),
    )
)
_COUNT_TOKENS = statement(
    sa.select(sa.func.count())
    .select_from(mail_tokens)
    .where(_c.purpose == p("purpose"), _same_address, _c.created_at > _now - p("within", type_=sa.Interval))
)
_FIND_TOKEN = statement(
    sa.select(_c.user_id, users.c.username, users.c.email)
    .join(users, users.c.id == _c.user_id)
    .where(
        _c.hash == p("hash"),
        _c.purpose == p("purpose"),
        _c.used_at.is_(None),
        _c.expires_at > _now,
        users.c.is_active,
        users.c.deleted_at.is_(None),
        sa.func.lower(users.c.email) == sa.func.lower(_c.email),
    )
)
_END_TOKENS = statement(
    sa.update(mail_tokens)
    .where(_c.user_id == p("of_user"), _c.purpose == p("purpose"), _c.used_at.is_(None))
    .values(used_at=_now)
)
_DELETE_TOKEN = statement(sa.delete(mail_tokens).where(_c.hash == p("hash")))
_PURGE = statement(sa.delete(mail_tokens).where(_c.created_at < _now - p("age", type_=sa.Interval)))

_VERIFY = statement(
    sa.update(users)
    .where(users.c.id == p("of_user"))
    .values(email_verified_at=sa.func.coalesce(users.c.email_verified_at, _now))
)
_SET_EMAIL = statement(
    sa.update(users).where(users.c.id == p("of_user")).values(email=p("address"), email_verified_at=None)
)
_RESETTABLE = statement(
    sa.select(users.c.id, users.c.username, users.c.email).where(
        sa.func.lower(users.c.email) == sa.func.lower(p("address", type_=sa.Text)),
        users.c.is_active,
        users.c.deleted_at.is_(None),
    )
)

_i = invitations.c
_inviter = users.alias("inviter")
_of_invited = sa.or_(
    _i.user_id == sa.cast(p("of_user", type_=sa.BigInteger), sa.BigInteger),
    sa.func.lower(_i.email) == sa.func.lower(sa.cast(p("address", type_=sa.Text), sa.Text)),
)
_UNMAILED = statement(
    sa.select(
        _i.id, packages.c.name.label("package"), _i.role, _i.is_transfer, _i.expires_at,
        _inviter.c.username.label("inviter"),
    )
    .join(packages, packages.c.id == _i.package_id)
    .join(_inviter, _inviter.c.id == _i.inviter_id)
    .where(_i.mailed_at.is_(None), _i.expires_at > _now, _of_invited)
    .order_by(_i.id)
    .limit(p("count"))
    .with_for_update(of=invitations, skip_locked=True)
)  # fmt: skip
_MARK_MAILED = statement(
    sa.update(invitations).where(_i.id == sa.any_(p("ids", type_=sa.ARRAY(sa.BigInteger)))).values(mailed_at=_now)
)
_UNMARK_MAILED = statement(
    sa.update(invitations).where(_i.id == sa.any_(p("ids", type_=sa.ARRAY(sa.BigInteger)))).values(mailed_at=None)
)

_PACKAGE = statement(sa.select(packages.c.name).where(packages.c.id == p("package_id")))


async def add_token(
    conn: Connection, token_hash: str, purpose: str, user_id: int, address: str, valid_for: timedelta
) -> None:
    await conn.run(_ADD_TOKEN, hash=token_hash, purpose=purpose, of_user=user_id, address=address, valid_for=valid_for)


async def count_tokens(conn: Connection, purpose: str, address: str, within: timedelta) -> int:
    """The number of tokens that were sent to `address` during the last `within`."""
    return int(await conn.value(_COUNT_TOKENS, purpose=purpose, address=address, within=within))


async def find_token(conn: Connection, token_hash: str, purpose: str) -> Row | None:
    """user_id, username and email of a valid token whose user still has the address that it was sent to."""
    return await conn.one(_FIND_TOKEN, hash=token_hash, purpose=purpose)


async def end_tokens(conn: Connection, user_id: int, purpose: str) -> None:
    """Ends all tokens of a user."""
    await conn.run(_END_TOKENS, of_user=user_id, purpose=purpose)


async def delete_token(conn: Connection, token_hash: str) -> None:
    await conn.run(_DELETE_TOKEN, hash=token_hash)


async def purge(conn: Connection, age: timedelta) -> int:
    """Deletes tokens that were created longer than `age` ago. Returns how many."""
    return await conn.run(_PURGE, age=age)


async def verify(conn: Connection, user_id: int) -> None:
    """Marks the address of a user as verified."""
    announce_change(conn, user_id)
    await conn.run(_VERIFY, of_user=user_id)


async def set_email(conn: Connection, user_id: int, address: str) -> None:
    """Gives a user an address that is not verified. Raises ConstraintViolated if another user has it."""
    announce_change(conn, user_id)
    await conn.run(_SET_EMAIL, of_user=user_id, address=address)


async def user_by_email(conn: Connection, address: str) -> Row | None:
    """id, username and email of the active user with this address."""
    return await conn.one(_RESETTABLE, address=address)


async def unmailed_invitations(conn: Connection, user_id: int | None, address: str, count: int) -> Sequence[Row]:
    """Locks and returns up to `count` open invitations that were not mailed yet.

    Each row has id, package, role, is_transfer, expires_at and inviter.
    """
    return await conn.all(_UNMAILED, of_user=user_id, address=address, count=count)


async def mark_mailed(conn: Connection, ids: Iterable[int], *, mailed: bool) -> None:
    await conn.run(_MARK_MAILED if mailed else _UNMARK_MAILED, ids=list(ids))


async def package(conn: Connection, package_id: int | None) -> str:
    """The name of a package; "" if there is none."""
    name: Any = None if package_id is None else await conn.value(_PACKAGE, package_id=package_id)
    return str(name or "")
