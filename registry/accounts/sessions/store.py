"""The SQL of sessions.

A session is over when its token is in `revoked_tokens`, or when the user's credentials_version is higher than its own.
Releases without sessions know both. The row only describes the session for its user.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.accounts.credential_cache import announce_change
from registry.db.engine import Connection, Row, statement
from registry.db.tables import revoked_tokens, sessions, users

_c = sessions.c
_OF_USER = _c.user_id == p("of_user")
_IS_LIVE = sa.and_(
    _c.credentials_version == users.c.credentials_version,
    _c.expires_at > sa.func.now(),
    ~sa.exists().where(revoked_tokens.c.jti == _c.jti),
    sa.or_(_c.confirmed_at.is_(None), sa.and_(_c.last_used_at > p("used_since"), _c.created_at > p("begun_since"))),
)

_ADD = statement(
    sa.insert(sessions).values(
        jti=p("jti"),
        user_id=p("user_id"),
        credentials_version=p("credentials_version"),
        ip=p("ip"),
        user_agent=p("user_agent"),
        expires_at=p("expires_at"),
        confirmed_at=p("confirmed_at"),
    )
)
_LIST = statement(
    sa.select(_c.id, _c.created_at, _c.last_used_at, _c.ip, _c.user_agent, (_c.jti == p("current")).label("is_current"))
    .join(users, users.c.id == _c.user_id)
    .where(_OF_USER, _IS_LIVE, _c.id < p("before"))
    .order_by(_c.id.desc())
    .limit(p("count"))
)
_END = statement(sa.delete(sessions).where(_OF_USER, _c.id == p("session")).returning(_c.jti, _c.expires_at))
_END_BY_TOKEN = statement(sa.delete(sessions).where(_c.jti == p("wanted")).returning(_c.id))
_MARK_USED = statement(
    sa.update(sessions)
    .where(_c.id == p("session"), _c.last_used_at < p("before"))
    .values(last_used_at=p("now"))
)  # fmt: skip
_CONFIRM = statement(sa.update(sessions).where(_c.jti == p("wanted")).values(confirmed_at=p("now")))
_END_ALL = statement(sa.delete(sessions).where(_OF_USER))
_PURGE = statement(
    sa.delete(sessions).where(
        sa.or_(
            _c.expires_at < sa.func.now(),
            sa.exists().where(users.c.id == _c.user_id, users.c.credentials_version != _c.credentials_version),
        )
    )
)


async def add(
    conn: Connection,
    user_id: int,
    *,
    jti: str,
    credentials_version: int,
    ip: str | None,
    user_agent: str,
    expires_at: datetime,
    confirmed_at: datetime | None,
) -> None:
    """`confirmed_at` is None for the session of an API login."""
    await conn.run(
        _ADD,
        user_id=user_id,
        jti=jti,
        credentials_version=credentials_version,
        ip=ip,
        user_agent=user_agent,
        expires_at=expires_at,
        confirmed_at=confirmed_at,
    )


async def of_user(
    conn: Connection,
    user_id: int,
    current: str,
    before: int,
    count: int,
    *,
    used_since: datetime,
    begun_since: datetime,
) -> list[Row]:
    """Up to `count` live sessions of a user with ids below `before`, newest first. `current` is a jti.

    Sessions of browsers are over unless they were used after `used_since` and began after `begun_since`.
    """
    return await conn.all(
        _LIST,
        of_user=user_id,
        current=current,
        before=before,
        count=count,
        used_since=used_since,
        begun_since=begun_since,
    )


async def end(conn: Connection, user_id: int, session: int) -> Row | None:
    """Deletes a session of a user. Returns its jti and expires_at."""
    return await conn.one(_END, of_user=user_id, session=session)


async def end_by_token(conn: Connection, jti: str) -> int | None:
    """Deletes a session. Returns its id, None for a login by a release without sessions."""
    ended: int | None = await conn.value(_END_BY_TOKEN, wanted=jti)
    return ended


async def end_all(conn: Connection, user_id: int) -> None:
    announce_change(conn, user_id)
    await conn.run(_END_ALL, of_user=user_id)


async def confirm(conn: Connection, user_id: int, jti: str, now: datetime) -> bool:
    """Sets when the user of a browser's session last proved who they are. Returns whether the session exists."""
    announce_change(conn, user_id)
    return await conn.run(_CONFIRM, wanted=jti, now=now) > 0


async def mark_used(conn: Connection, session: int, *, now: datetime, before: datetime) -> None:
    """Sets the last use of the session to `now`, unless it was used after `before`."""
    await conn.run(_MARK_USED, session=session, now=now, before=before)


async def purge(conn: Connection) -> int:
    """Deletes sessions that are over. Returns how many."""
    return await conn.run(_PURGE)
