"""Finds the user and the rights of a token, and reads tokens from the header Authorization (RFC 6750)."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from registry.accounts import store, tokens
from registry.accounts.identity import Principal, User
from registry.accounts.sessions import store as sessions
from registry.db.engine import Database, Row
from registry.errors import DatabaseUnavailable, Unauthorized
from registry.setting_parts import AccountSettings

log = logging.getLogger(__name__)

# The last use of a session or an API token is recorded at most this often.
USE_PRECISION = timedelta(minutes=1)

REVOKED = "The token was revoked. Sign in again."
API_TOKEN_NOT_VALID = "The API token is not valid. It may have been deleted."  # noqa: S105 - a message
API_TOKEN_LEAKED = "The API token was found in public and revoked. Create another one."  # noqa: S105 - a message
API_TOKEN_EXPIRED = "The API token has expired. Create another one."  # noqa: S105 - a message


async def authenticate(db: Database, settings: AccountSettings, token: str) -> Principal:
    """The principal of a login token or an API token.

    Raises Unauthorized if the token is malformed, forged, expired or revoked, or its user is deactivated.
    """
    return (await _find_holder(db, settings, token))[1]


def is_signed(settings: AccountSettings, token: str) -> bool:
    """Whether `token` is a login token that this registry signed and that has not expired. Does no I/O."""
    return _is_valid(settings, token, None)


async def authenticate_browser(db: Database, settings: AccountSettings, token: str) -> Principal:
    """The principal of the token in a browser's cookie.

    Raises Unauthorized as authenticate() does, and if the session was idle for too long or began too long ago.
    """
    claims = tokens.read(token, settings, audience=tokens.BROWSER)
    user, row = await _find_login(db, claims)
    now = datetime.now(UTC)
    if row.confirmed_at is None:
        raise Unauthorized(tokens.NOT_VALID)
    if now - row.last_used_at > settings.session_idle or now - row.began_at > settings.session_max:
        raise Unauthorized(tokens.EXPIRED)
    # A short limit needs a precise time.
    await _note_use(db, row, now, min(USE_PRECISION, settings.session_idle / 10))
    return replace(_of_login(user, claims), confirmed_at=row.confirmed_at)


def is_signed_browser(settings: AccountSettings, token: str) -> bool:
    """Like `is_signed`, for the token in a browser's cookie."""
    return _is_valid(settings, token, tokens.BROWSER)


async def find_user(db: Database, settings: AccountSettings, token: str) -> User:
    """The user of a login token or an API token. Raises Unauthorized as authenticate() does."""
    return (await _find_holder(db, settings, token))[0]


async def verify(db: Database, settings: AccountSettings, token: str) -> User | None:
    """The user of a login token or an API token; None if it isn't valid."""
    try:
        return await find_user(db, settings, token)
    except Unauthorized:
        return None


def bearer_token(header_value: str | None) -> str | None:
    """The token of an Authorization header: "" if no token follows `Bearer`, None if the scheme isn't Bearer."""
    scheme, *token = (header_value or "").split(None, 1) or [""]
    return "".join(token).strip() if scheme.lower() == "bearer" else None


async def _find_holder(db: Database, settings: AccountSettings, token: str) -> tuple[User, Principal]:
    if tokens.looks_like_api_token(token):
        return await _find_api_token_holder(db, token)
    return await _find_login_holder(db, settings, token)


async def _find_login_holder(db: Database, settings: AccountSettings, token: str) -> tuple[User, Principal]:
    claims = tokens.read(token, settings)
    user, row = await _find_login(db, claims)
    await _note_use(db, row, datetime.now(UTC), USE_PRECISION)
    return user, _of_login(user, claims)


async def _find_login(db: Database, claims: tokens.Claims) -> tuple[User, Row]:
    """(the user, the row of `store.login`). Raises Unauthorized if the login has ended."""
    async with db.read() as conn:
        found = await store.login(conn, claims.user_id, claims.jti)
    if found is None:
        raise Unauthorized(tokens.NOT_VALID)
    user, row = found
    if row.revoked or not user.is_active or user.credentials_version != claims.credentials_version:
        raise Unauthorized(REVOKED)
    return user, row


async def _note_use(db: Database, row: Row, now: datetime, precision: timedelta) -> None:
    if row.session is not None and row.last_used_at < now - precision:
        await _record_use(db, partial(sessions.mark_used, session=row.session), now, precision)


def _of_login(user: User, claims: tokens.Claims) -> Principal:
    return Principal(
        user_id=user.id,
        username=user.username,
        role=user.role,
        credentials_version=user.credentials_version,
        jti=claims.jti,
        expires_at=claims.expires_at,
    )


async def _find_api_token_holder(db: Database, token: str) -> tuple[User, Principal]:
    if not tokens.checksum_holds(token):
        raise Unauthorized(API_TOKEN_NOT_VALID)
    async with db.read() as conn:
        found = await store.api_token_by_hash(conn, tokens.hash_api_token(token))
    if found is None or not found[0].is_active:
        raise Unauthorized(API_TOKEN_NOT_VALID)
    user, kept = found
    if kept.reported_at is not None:
        raise Unauthorized(API_TOKEN_LEAKED)
    now = datetime.now(UTC)
    if kept.expires_at is not None and kept.expires_at <= now:
        raise Unauthorized(API_TOKEN_EXPIRED)
    if kept.last_used_at is None or kept.last_used_at < now - USE_PRECISION:
        await _record_use(db, partial(store.mark_used, token_id=kept.id), now)
    return user, Principal(
        user_id=user.id,
        username=user.username,
        role=user.role,
        credentials_version=user.credentials_version,
        scopes=frozenset(kept.scopes),
        packages=None if kept.packages is None else frozenset(kept.packages),
        token_id=kept.id,
        token_name=kept.name,
        publisher=kept.publisher,
        expires_at=kept.expires_at,
    )


async def _record_use(
    db: Database, mark_used: Callable[..., Awaitable[None]], now: datetime, precision: timedelta = USE_PRECISION
) -> None:
    try:
        async with db.transaction() as conn:
            await mark_used(conn, now=now, before=now - precision)
    except DatabaseUnavailable:
        # The request need not fail for this. The next one records the use.
        log.warning("last use of a token not recorded")


def _is_valid(settings: AccountSettings, token: str, audience: str | None) -> bool:
    try:
        tokens.read(token, settings, audience=audience)
    except Unauthorized:
        return False
    return True
