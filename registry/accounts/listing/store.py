"""The SQL of the admins' list of users."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, statement
from registry.db.tables import audit_entries, package_owners, passkeys, totp_secrets, users

_c = users.c
_text, _role = p("text", type_=sa.Text), p("role", type_=sa.Text)
_active = p("active", type_=sa.Boolean)
_LAST_SIGN_IN = (
    sa.select(audit_entries.c.at)
    .where(audit_entries.c.account_id == _c.id, audit_entries.c.action == "login.succeed")
    .order_by(audit_entries.c.id.desc())
    .limit(1)
    .scalar_subquery()
)
_SHOWN = sa.select(
    _c.id,
    _c.username,
    _c.email,
    _c.email_verified_at,
    _c.role,
    _c.is_active,
    _c.created_at,
    sa.exists()
    .where(totp_secrets.c.user_id == _c.id, totp_secrets.c.confirmed_at.is_not(None))
    .label("has_authenticator"),
    sa.select(sa.func.count()).where(passkeys.c.user_id == _c.id).scalar_subquery().label("passkeys"),
    sa.select(sa.func.count()).where(package_owners.c.user_id == _c.id).scalar_subquery().label("packages"),
    _LAST_SIGN_IN.label("last_sign_in_at"),
).where(_c.deleted_at.is_(None))


def _contains(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    return sa.func.strpos(sa.func.lower(column), sa.func.lower(_text)) > 0


_PAGE = statement(
    _SHOWN.where(
        _c.id < p("before"),
        sa.or_(sa.cast(_text, sa.Text) == "", _contains(_c.username), _contains(_c.email)),
        sa.or_(sa.cast(_role, sa.Text).is_(None), _c.role == _role),
        sa.or_(sa.cast(_active, sa.Boolean).is_(None), _c.is_active == _active),
    )
    .order_by(_c.id.desc())
    .limit(p("count"))
)
_FIND = statement(_SHOWN.where(sa.func.lower(_c.username) == sa.func.lower(p("wanted", type_=sa.Text))))


async def page(
    conn: Connection, text: str, role: str | None, active: bool | None, before: int, count: int
) -> list[Row]:
    """Up to `count` users with ids below `before`, newest first. `text` is part of the name or the address."""
    return await conn.all(_PAGE, text=text, role=role, active=active, before=before, count=count)


async def find(conn: Connection, username: str) -> Row | None:
    return await conn.one(_FIND, wanted=username)
