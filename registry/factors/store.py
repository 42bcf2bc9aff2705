"""The SQL of second factors. Every function runs on the caller's connection and commits nothing."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import bindparam as p

from registry.accounts.identity import User
from registry.accounts.store import user_by_id
from registry.db.engine import Connection, Row, statement
from registry.db.tables import (
    login_challenges,
    package_owners,
    passkeys,
    recovery_codes,
    spent_challenges,
    totp_secrets,
    used_totp_steps,
)

_totp, _codes, _keys, _logins = totp_secrets.c, recovery_codes.c, passkeys.c, login_challenges.c
_user = p("of_user", type_=sa.BigInteger)
_HAS_TOTP = sa.exists().where(_totp.user_id == _user, _totp.confirmed_at.is_not(None))
_KEYS_OF_USER = sa.select(sa.func.count()).where(_keys.user_id == _user).scalar_subquery()
_SUMMARY = statement(
    sa.select(
        _HAS_TOTP.label("totp"),
        _KEYS_OF_USER.label("passkeys"),
        sa.select(sa.func.count()).where(_codes.user_id == _user).scalar_subquery().label("recovery_codes"),
        sa.exists().where(package_owners.c.user_id == _user).label("is_publisher"),
    )
)

_SET_TOTP = statement(
    insert(totp_secrets)
    .values(user_id=_user, sealed=p("sealed"))
    .on_conflict_do_update(
        index_elements=[_totp.user_id],
        set_={"sealed": p("sealed"), "created_at": sa.func.now()},
        where=_totp.confirmed_at.is_(None),
    )
)
_TOTP = statement(sa.select(_totp.sealed, _totp.confirmed_at).where(_totp.user_id == _user))
_CONFIRM_TOTP = statement(
    sa.update(totp_secrets)
    .where(_totp.user_id == _user, _totp.sealed == p("seen"), _totp.confirmed_at.is_(None))
    .values(confirmed_at=sa.func.now())
)
_DELETE_TOTP = statement(sa.delete(totp_secrets).where(_totp.user_id == _user))
_ALL_TOTP = statement(
    sa.select(_totp.user_id, _totp.sealed)
    .where(_totp.user_id > p("after"))
    .order_by(_totp.user_id)
    .limit(p("count"))
)  # fmt: skip
_RESEAL = statement(
    sa.update(totp_secrets).where(_totp.user_id == _user, _totp.sealed == p("seen")).values(sealed=p("fresh"))
)
_USE_STEP = statement(insert(used_totp_steps).values(user_id=_user, step=p("step")).on_conflict_do_nothing())
_FORGET_STEPS = statement(sa.delete(used_totp_steps).where(used_totp_steps.c.user_id == _user))
_PURGE_STEPS = statement(sa.delete(used_totp_steps).where(used_totp_steps.c.step < p("before")))

_ADD_CODES = statement(
    sa.insert(recovery_codes).from_select(
        ["user_id", "hash"], sa.select(_user, sa.func.unnest(p("hashes", type_=sa.ARRAY(sa.Text))))
    )
)
_USE_CODE = statement(sa.delete(recovery_codes).where(_codes.user_id == _user, _codes.hash == p("hash")))
_DELETE_CODES = statement(sa.delete(recovery_codes).where(_codes.user_id == _user))

_ADD_KEY = statement(
    sa.insert(passkeys)
    .values(
        user_id=_user,
        credential_id=p("credential_id"),
        public_key=p("public_key"),
        sign_count=p("sign_count"),
        transports=p("transports"),
        name=p("name"),
    )
    .returning(_keys.id, _keys.name, _keys.created_at, _keys.last_used_at)
)
_KEYS = statement(
    sa.select(_keys.id, _keys.name, _keys.created_at, _keys.last_used_at, _keys.credential_id, _keys.transports)
    .where(_keys.user_id == _user, _keys.id > p("after"))
    .order_by(_keys.id)
    .limit(p("count"))
)
_KEY = statement(sa.select(passkeys).where(_keys.credential_id == p("wanted")))
_USE_KEY = statement(
    sa.update(passkeys)
    .where(_keys.id == p("key"), sa.or_(_keys.sign_count < p("sign_count"), _keys.sign_count + p("sign_count") == 0))
    .values(sign_count=p("sign_count"), last_used_at=sa.func.now())
)
_DELETE_KEY = statement(
    sa.delete(passkeys).where(_keys.user_id == _user, _keys.id == p("key")).returning(_keys.id, _keys.name)
)
_DELETE_KEYS = statement(sa.delete(passkeys).where(_keys.user_id == _user))

_ADD_LOGIN = statement(
    sa.insert(login_challenges).values(
        hash=p("hash"), user_id=_user, credentials_version=p("credentials_version"), expires_at=p("expires_at")
    )
)
_CLAIM_LOGIN = statement(
    sa.update(login_challenges)
    .where(_logins.hash == p("wanted"), _logins.expires_at > p("now"), _logins.attempts < p("most"))
    .values(attempts=_logins.attempts + 1)
    .returning(_logins.user_id, _logins.credentials_version)
)
_LOGIN = statement(
    sa.select(_logins.user_id, _logins.credentials_version).where(
        _logins.hash == p("wanted"), _logins.expires_at > p("now"), _logins.attempts < p("most")
    )
)
_END_LOGIN = statement(sa.delete(login_challenges).where(_logins.hash == p("wanted")))
_END_LOGINS = statement(sa.delete(login_challenges).where(_logins.user_id == _user))
_PURGE_LOGINS = statement(sa.delete(login_challenges).where(_logins.expires_at < p("before")))
_SPEND = statement(insert(spent_challenges).values(hash=p("hash"), expires_at=p("expires_at")).on_conflict_do_nothing())
_PURGE_SPENT = statement(sa.delete(spent_challenges).where(spent_challenges.c.expires_at < p("before")))


class Summary(NamedTuple):
    """A user's factors: whether there is an authenticator app, and how many passkeys and recovery codes.

    `is_publisher` says whether the user is an owner or a maintainer of a package.
    """

    totp: bool
    passkeys: int
    recovery_codes: int
    is_publisher: bool

    @property
    def has_factor(self) -> bool:
        return self.totp or self.passkeys > 0


async def summary(conn: Connection, user_id: int) -> Summary:
    row: Row = await conn.one(_SUMMARY, of_user=user_id)
    return Summary(row.totp, row.passkeys, row.recovery_codes, row.is_publisher)


async def set_totp(conn: Connection, user_id: int, sealed: str) -> bool:
    """Stores a secret that is not confirmed yet, in place of another such one. False if one is confirmed."""
    return await conn.run(_SET_TOTP, of_user=user_id, sealed=sealed) > 0


async def totp(conn: Connection, user_id: int) -> Row | None:
    """(sealed, confirmed_at) of the user's secret."""
    return await conn.one(_TOTP, of_user=user_id)


async def confirm_totp(conn: Connection, user_id: int, *, seen: str) -> bool:
    """Makes the secret a factor, unless it is no longer `seen` or is one already."""
    return await conn.run(_CONFIRM_TOTP, of_user=user_id, seen=seen) > 0


async def delete_totp(conn: Connection, user_id: int) -> bool:
    """Whether there was a secret."""
    await conn.run(_FORGET_STEPS, of_user=user_id)
    return await conn.run(_DELETE_TOTP, of_user=user_id) > 0


async def all_totp(conn: Connection, after: int, count: int) -> list[Row]:
    """(user_id, sealed) of up to `count` users with ids above `after`."""
    return await conn.all(_ALL_TOTP, after=after, count=count)


async def reseal(conn: Connection, user_id: int, *, seen: str, fresh: str) -> None:
    await conn.run(_RESEAL, of_user=user_id, seen=seen, fresh=fresh)


async def use_step(conn: Connection, user_id: int, step: int) -> bool:
    """Uses up the code of a time step. False if it was used before."""
    return await conn.run(_USE_STEP, of_user=user_id, step=step) > 0


async def replace_recovery_codes(conn: Connection, user_id: int, hashes: Sequence[str]) -> None:
    await conn.run(_DELETE_CODES, of_user=user_id)
    if hashes:
        await conn.run(_ADD_CODES, of_user=user_id, hashes=list(hashes))


async def use_recovery_code(conn: Connection, user_id: int, code_hash: str) -> bool:
    """Uses up a recovery code. False if the user has no such code."""
    return await conn.run(_USE_CODE, of_user=user_id, hash=code_hash) > 0


async def add_passkey(
    conn: Connection,
    user_id: int,
    *,
    credential_id: bytes,
    public_key: bytes,
    sign_count: int,
    transports: Sequence[str],
    name: str,
) -> Row:
    """Returns (id, name, created_at, last_used_at). Raises ConstraintViolated if the credential is known already."""
    return await conn.one(
        _ADD_KEY,
        of_user=user_id,
        credential_id=credential_id,
        public_key=public_key,
        sign_count=sign_count,
        transports=list(transports),
        name=name,
    )


async def passkeys_of(conn: Connection, user_id: int, after: int = 0, count: int = 1000) -> list[Row]:
    """Up to `count` passkeys of a user with ids above `after`."""
    return await conn.all(_KEYS, of_user=user_id, after=after, count=count)


async def passkey(conn: Connection, credential_id: bytes) -> Row | None:
    return await conn.one(_KEY, wanted=credential_id)


async def use_passkey(conn: Connection, key: int, sign_count: int) -> bool:
    """Records a use. False if a concurrent one had this counter or a higher one: the key may have been copied."""
    return await conn.run(_USE_KEY, key=key, sign_count=sign_count) > 0


async def delete_passkey(conn: Connection, user_id: int, key: int) -> Row | None:
    """Returns (id, name) of the deleted passkey."""
    return await conn.one(_DELETE_KEY, of_user=user_id, key=key)


async def delete_all(conn: Connection, user_id: int) -> None:
    """Deletes all factors, recovery codes and waiting logins of a user."""
    await delete_totp(conn, user_id)
    for each in (_DELETE_CODES, _DELETE_KEYS, _END_LOGINS):
        await conn.run(each, of_user=user_id)


async def add_login(conn: Connection, user: User, challenge_hash: str, expires_at: datetime) -> None:
    await conn.run(
        _ADD_LOGIN,
        hash=challenge_hash,
        of_user=user.id,
        credentials_version=user.credentials_version,
        expires_at=expires_at,
    )


async def login_user(conn: Connection, challenge_hash: str, *, now: datetime, most: int) -> User | None:
    """The user of a waiting login. None if it is over or was tried `most` times."""
    return await _login_user(conn, await conn.one(_LOGIN, wanted=challenge_hash, now=now, most=most))


async def claim_login(conn: Connection, challenge_hash: str, *, now: datetime, most: int) -> User | None:
    """Counts an attempt at a waiting login. Returns its user, None if it is over or was tried `most` times."""
    return await _login_user(conn, await conn.one(_CLAIM_LOGIN, wanted=challenge_hash, now=now, most=most))


async def end_login(conn: Connection, challenge_hash: str) -> bool:
    """False if it has ended."""
    return await conn.run(_END_LOGIN, wanted=challenge_hash) > 0


async def spend(conn: Connection, challenge_hash: str, expires_at: datetime) -> bool:
    """Uses up a challenge of WebAuthn. False if it was used before."""
    return await conn.run(_SPEND, hash=challenge_hash, expires_at=expires_at) > 0


async def purge(conn: Connection, now: datetime, oldest_step: int) -> None:
    """Deletes what has expired."""
    await conn.run(_PURGE_LOGINS, before=now)
    await conn.run(_PURGE_SPENT, before=now)
    await conn.run(_PURGE_STEPS, before=oldest_step)


async def _login_user(conn: Connection, row: Row | None) -> User | None:
    """The user, unless the password was changed or the account was deactivated since the login began."""
    found = None if row is None else await user_by_id(conn, row.user_id)
    if row is None or found is None or not found[0].is_active:
        return None
    return found[0] if found[0].credentials_version == row.credentials_version else None
