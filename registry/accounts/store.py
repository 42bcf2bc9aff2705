"""SQL of users, revoked logins and API tokens.

Whatever decides whether credentials are valid, or is cached with them, is changed here or in sessions/store.py. Each
change announces its user (see credential_cache.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import bindparam as p

from registry.accounts.credential_cache import announce_change
from registry.accounts.identity import ApiToken, User
from registry.db.engine import Connection, Row, json, prepared, statement
from registry.db.tables import api_tokens, revoked_tokens, sessions, users

USERNAME_TAKEN = "users_username_key"
EMAIL_TAKEN = "users_email_key"

DELETED = "deleted"
"""Nobody may register this name, since others see it instead of the name of an account that has ended."""

SHOWN_NAME: sa.ColumnElement[str] = sa.case((users.c.deleted_at.is_(None), users.c.username), else_=DELETED)
"""The name of a user as others see it: `deleted` once the account has ended."""

_USER = tuple(users.c[name] for name in User.__slots__)
_API_TOKEN = tuple(api_tokens.c[name] for name in ApiToken.__slots__)
# The row of an account that has ended keeps its name, which is thus never given to anybody else.
_BY_USERNAME = sa.and_(
    sa.func.lower(users.c.username) == sa.func.lower(p("wanted", type_=sa.Text)), users.c.deleted_at.is_(None)
)
_BY_EMAIL = sa.func.lower(users.c.email) == sa.func.lower(p("wanted", type_=sa.Text))
_BY_ID = users.c.id == p("user")
_OF_USER = api_tokens.c.user_id == p("user")
# Tokens of CI jobs are not the user's own: they are neither listed nor counted.
_OWN = sa.and_(_OF_USER, api_tokens.c.publisher_id.is_(None))

_ADD_USER = statement(
    sa.insert(users)
    .values(username=p("username"), email=p("email"), password_hash=p("password_hash"), role=p("role"))
    .returning(*_USER)
)
_USER_BY_ID = statement(sa.select(*_USER, users.c.password_hash).where(_BY_ID))
_USER_BY_USERNAME = statement(sa.select(*_USER, users.c.password_hash).where(_BY_USERNAME))
_USER_BY_EMAIL = statement(sa.select(*_USER, users.c.password_hash).where(_BY_EMAIL))
_NAMES = statement(
    sa.select(users.c.id, SHOWN_NAME.label("name")).where(
        users.c.id == sa.any_(p("ids", type_=sa.ARRAY(sa.BigInteger)))
    )
)
_LOCK_USER = statement(
    sa.select(users.c.credentials_version).where(_BY_ID, users.c.is_active).with_for_update(key_share=True)
)
_LOCK_FOR_END = statement(sa.select(users.c.id).where(_BY_ID).with_for_update())
_REHASH = statement(sa.update(users).where(_BY_ID, users.c.password_hash == p("seen")).values(password_hash=p("fresh")))
_CHANGE_PASSWORD = statement(
    sa.update(users)
    .where(_BY_ID, users.c.is_active, users.c.password_hash == p("seen"))
    .values(password_hash=p("fresh"), credentials_version=users.c.credentials_version + 1)
    .returning(*_USER)
)
_SET_PASSWORD = statement(
    sa.update(users).where(_BY_ID).values(password_hash=p("fresh"), credentials_version=users.c.credentials_version + 1)
)
_SET_ROLE = statement(sa.update(users).where(_BY_USERNAME).values(role=p("role")).returning(*_USER))
_SET_ACTIVE = statement(
    sa.update(users)
    .where(_BY_USERNAME)
    .values(is_active=p("active", type_=sa.Boolean), credentials_version=users.c.credentials_version + 1)
    .returning(*_USER)
)

_VERIFY_EMAIL = statement(
    sa.update(users)
    .where(_BY_ID, users.c.email.is_not(None), users.c.email_verified_at.is_(None))
    .values(email_verified_at=sa.func.now())
)
_END_ACCOUNT = statement(
    sa.update(users)
    .where(_BY_ID)
    .values(
        deleted_at=sa.func.now(),
        email=None,
        email_verified_at=None,
        password_hash="",
        role="user",
        is_active=False,
        credentials_version=users.c.credentials_version + 1,
    )
)

_LOGIN = prepared(
    "login",
    statement(
        sa.select(
            *_USER,
            sa.exists().where(revoked_tokens.c.jti == p("jti")).label("revoked"),
            sessions.c.id.label("session"),
            sessions.c.created_at.label("began_at"),
            sessions.c.last_used_at,
            sessions.c.confirmed_at,
        )
        .outerjoin(sessions, sessions.c.jti == p("jti"))
        .where(_BY_ID)
    ),
)
_REVOKE = statement(insert(revoked_tokens).values(jti=p("jti"), expires_at=p("expires_at")).on_conflict_do_nothing())
_PURGE_REVOKED = statement(sa.delete(revoked_tokens).where(revoked_tokens.c.expires_at < p("before")))

_ADD_API_TOKEN = statement(
    sa.insert(api_tokens)
    .values(
        user_id=p("user_id"),
        name=p("name"),
        hash=p("hash"),
        scopes=p("scopes"),
        packages=p("packages"),
        expires_at=p("expires_at"),
        publisher_id=p("publisher_id"),
        publisher=p("publisher"),
    )
    .returning(*_API_TOKEN)
)
_API_TOKENS = statement(sa.select(*_API_TOKEN).where(_OWN).order_by(api_tokens.c.id))
_COUNT_API_TOKENS = statement(sa.select(sa.func.count()).where(_OWN))
_DELETE_API_TOKEN = statement(sa.delete(api_tokens).where(_OF_USER, api_tokens.c.id == p("token")))
_DELETE_API_TOKENS = statement(sa.delete(api_tokens).where(_OF_USER))
_API_TOKEN_BY_HASH = prepared(
    "api_token_by_hash",
    statement(
        sa.select(*_USER, *(column.label(f"token_{column.name}") for column in _API_TOKEN))
        .join_from(api_tokens, users)
        .where(api_tokens.c.hash == p("hash"))
    ),
)
_REPORT_API_TOKEN = statement(
    sa.update(api_tokens)
    .where(api_tokens.c.hash == p("wanted"), api_tokens.c.reported_at.is_(None), users.c.id == api_tokens.c.user_id)
    .values(reported_at=sa.func.now(), reported_url=p("url"), reported_source=p("source"))
    .returning(*_USER, *(column.label(f"token_{column.name}") for column in _API_TOKEN))
)
_MARK_USED = statement(
    sa.update(api_tokens)
    .where(
        api_tokens.c.id == p("token"),
        sa.or_(api_tokens.c.last_used_at.is_(None), api_tokens.c.last_used_at < p("before")),
    )
    .values(last_used_at=p("now"))
)


async def add_user(conn: Connection, *, username: str, email: str | None, password_hash: str, role: str) -> User:
    """Raises ConstraintViolated with USERNAME_TAKEN or EMAIL_TAKEN."""
    return _user(await conn.one(_ADD_USER, username=username, email=email, password_hash=password_hash, role=role))


async def user_by_id(conn: Connection, user_id: int) -> tuple[User, str] | None:
    """(the user, the password hash). The user may be deactivated."""
    return _with_hash(await conn.one(_USER_BY_ID, user=user_id))


async def user_by_username(conn: Connection, username: str) -> User | None:
    row = await conn.one(_USER_BY_USERNAME, wanted=username)
    return row and _user(row)


async def user_by_login(conn: Connection, name_or_email: str) -> tuple[User, str] | None:
    """(the user, the password hash). The user may be deactivated.

    Only e-mail addresses contain an @, so a user name never equals an e-mail address.
    """
    by = _USER_BY_EMAIL if "@" in name_or_email else _USER_BY_USERNAME
    return _with_hash(await conn.one(by, wanted=name_or_email))


async def names(conn: Connection, user_ids: Iterable[int]) -> dict[int, str]:
    """The names of users by id. That of an ended account is `deleted`."""
    return {row.id: row.name for row in await conn.all(_NAMES, ids=list(user_ids))}


async def lock_user(conn: Connection, user_id: int) -> int | None:
    """Locks the user until the transaction ends. Returns credentials_version, None if there is no such active user."""
    version: int | None = await conn.value(_LOCK_USER, user=user_id)
    return version


async def lock_for_end(conn: Connection, user_id: int) -> None:
    """Like `lock_user`, but also waits for transactions that give the user a role or a package, and holds up new ones.

    The check of their foreign keys locks the user's row. `lock_user` does not conflict with that lock.
    """
    await conn.run(_LOCK_FOR_END, user=user_id)


async def rehash(conn: Connection, user_id: int, *, seen: str, fresh: str) -> None:
    """Stores `fresh`, another hash of the same password, unless the stored hash is no longer `seen`."""
    await conn.run(_REHASH, user=user_id, seen=seen, fresh=fresh)


async def change_password(conn: Connection, user_id: int, *, seen: str, fresh: str) -> User | None:
    """Stores a hash and raises credentials_version. Returns the user, None if the stored hash is no longer `seen`."""
    announce_change(conn, user_id)
    row = await conn.one(_CHANGE_PASSWORD, user=user_id, seen=seen, fresh=fresh)
    return row and _user(row)


async def set_password(conn: Connection, user_id: int, fresh: str) -> None:
    """Stores a new hash and raises credentials_version."""
    announce_change(conn, user_id)
    await conn.run(_SET_PASSWORD, user=user_id, fresh=fresh)


async def set_role(conn: Connection, username: str, role: str) -> User | None:
    return _announced(conn, await conn.one(_SET_ROLE, wanted=username, role=role))


async def set_active(conn: Connection, username: str, active: bool) -> User | None:
    """Sets is_active and raises credentials_version, so that old logins stay invalid after a reactivation."""
    return _announced(conn, await conn.one(_SET_ACTIVE, wanted=username, active=active))


async def verify_email(conn: Connection, user_id: int) -> bool:
    """Marks the user's address as verified. Returns whether it was not."""
    announce_change(conn, user_id)
    return await conn.run(_VERIFY_EMAIL, user=user_id) > 0


async def end_account(conn: Connection, user_id: int) -> None:
    """Ends an account: it can't sign in, its tokens end, its address is free. Its name stays taken."""
    announce_change(conn, user_id)
    await conn.run(_END_ACCOUNT, user=user_id)
    await delete_api_tokens(conn, user_id)


async def login(conn: Connection, user_id: int, jti: str) -> tuple[User, Row] | None:
    """(the user, a row about the login `jti`: revoked, session, began_at, last_used_at, confirmed_at).

    `session` is the id of its session, None for a login by a release without sessions. `confirmed_at` is None unless
    the session is a browser's.
    """
    row = await conn.one(_LOGIN, user=user_id, jti=jti)
    return row and (_user(row), row)


async def revoke(conn: Connection, user_id: int, jti: str, expires_at: datetime) -> bool:
    """Ends a login of a user. Returns whether it was not revoked before."""
    announce_change(conn, user_id)
    return await conn.run(_REVOKE, jti=jti, expires_at=expires_at) > 0


async def purge_revoked(conn: Connection, before: datetime) -> int:
    """Deletes revoked logins that expired before `before`. Returns how many."""
    return await conn.run(_PURGE_REVOKED, before=before)


async def add_api_token(
    conn: Connection,
    user_id: int,
    *,
    name: str,
    token_hash: str,
    scopes: Sequence[str],
    packages: Sequence[str] | None,
    expires_at: datetime | None,
    publisher: Mapping[str, Any] | None = None,
) -> ApiToken:
    """`publisher` is that of a CI job: see Principal."""
    row = await conn.one(
        _ADD_API_TOKEN,
        user_id=user_id,
        name=name,
        hash=token_hash,
        scopes=list(scopes),
        packages=None if packages is None else list(packages),
        expires_at=expires_at,
        publisher_id=publisher and publisher["id"],
        publisher=publisher and json(dict(publisher)),
    )
    return _api_token(row)


async def api_tokens_of(conn: Connection, user_id: int) -> list[ApiToken]:
    """Oldest first."""
    return [_api_token(row) for row in await conn.all(_API_TOKENS, user=user_id)]


async def count_api_tokens(conn: Connection, user_id: int) -> int:
    return int(await conn.value(_COUNT_API_TOKENS, user=user_id))


async def delete_api_token(conn: Connection, user_id: int, token_id: int) -> bool:
    """Whether the user had such a token."""
    announce_change(conn, user_id)
    return await conn.run(_DELETE_API_TOKEN, user=user_id, token=token_id) > 0


async def delete_api_tokens(conn: Connection, user_id: int) -> None:
    announce_change(conn, user_id)
    await conn.run(_DELETE_API_TOKENS, user=user_id)


async def api_token_by_hash(conn: Connection, token_hash: str) -> tuple[User, ApiToken] | None:
    """(the user, the token). The token may be expired."""
    row = await conn.one(_API_TOKEN_BY_HASH, hash=token_hash)
    return row and (_user(row), _api_token(row, "token_"))


async def report_api_token(conn: Connection, token_hash: str, *, url: str, source: str) -> tuple[User, ApiToken] | None:
    """Marks a token as found in public. Returns (the user, the token), None if it is unknown or already marked."""
    row = await conn.one(_REPORT_API_TOKEN, wanted=token_hash, url=url, source=source)
    user = _announced(conn, row)
    return None if user is None else (user, _api_token(row, "token_"))


async def mark_used(conn: Connection, token_id: int, *, now: datetime, before: datetime) -> None:
    """Sets the last use of the token to `now`, unless it was used after `before`."""
    await conn.run(_MARK_USED, token=token_id, now=now, before=before)


def _user(row: Row) -> User:
    return User(**{name: getattr(row, name) for name in User.__slots__})


def _announced(conn: Connection, row: Row | None) -> User | None:
    """The user of `row`, which has just changed."""
    if row is not None:
        announce_change(conn, row.id)
    return row and _user(row)


def _with_hash(row: Row | None) -> tuple[User, str] | None:
    return None if row is None else (_user(row), row.password_hash)


def _api_token(row: Row, prefix: str = "") -> ApiToken:
    values = {name: getattr(row, prefix + name) for name in ApiToken.__slots__}
    for name in ("scopes", "packages"):
        values[name] = values[name] and tuple(values[name])
    return ApiToken(**values)
