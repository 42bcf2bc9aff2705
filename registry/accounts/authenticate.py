"""Finds the user and the rights of a token, and reads tokens from the header Authorization (RFC 6750)."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from registry.accounts import store, tokens
from registry.accounts.credential_cache import CredentialCache, Found
from registry.accounts.identity import Principal, User
from registry.accounts.sessions import store as sessions
from registry.db.engine import Database
from registry.errors import DatabaseUnavailable, Unauthorized
from registry.setting_parts import AccountSettings

log = logging.getLogger(__name__)

# The last use of a session or an API token is recorded at most this often.
USE_PRECISION = timedelta(minutes=1)

REVOKED = "The token was revoked. Sign in again."
API_TOKEN_NOT_VALID = "The API token is not valid. It may have been deleted."  # noqa: S105 - a message
API_TOKEN_LEAKED = "The API token was found in public and revoked. Create another one."  # noqa: S105 - a message
API_TOKEN_EXPIRED = "The API token has expired. Create another one."  # noqa: S105 - a message


class Authenticator:
    """Finds the users of tokens. `cache` saves most requests the query."""

    def __init__(self, db: Database, settings: AccountSettings, cache: CredentialCache) -> None:
        self._db = db
        self._settings = settings
        self._cache = cache

    async def authenticate(self, token: str) -> Principal:
        """The principal of a login token or an API token.

        Raises Unauthorized if the token is malformed, forged, expired or revoked, or its user is deactivated.
        """
        if tokens.looks_like_api_token(token):
            return _of_api_token(await self._find_api_token(token))
        claims = tokens.read(token, self._settings)
        return _of_login((await self._find_login(claims)).user, claims)

    async def authenticate_browser(self, token: str) -> Principal:
        """The principal of the token in a browser's cookie.

        Raises Unauthorized as authenticate() does, and if the session was idle for too long or began too long ago.
        """
        claims = tokens.read(token, self._settings, audience=tokens.BROWSER)
        now, idle, longest = datetime.now(UTC), self._settings.session_idle, self._settings.session_max

        def check(found: Found | None) -> Found:
            login = _checked_login(found, claims)
            if login.row.confirmed_at is None or login.last_used_at is None:
                raise Unauthorized(tokens.NOT_VALID)
            if now - login.last_used_at > idle or now - login.row.began_at > longest:
                raise Unauthorized(tokens.EXPIRED)
            return login

        # A short limit needs a precise time.
        found = await self._find_login(claims, check, min(USE_PRECISION, idle / 10))
        return replace(_of_login(found.user, claims), confirmed_at=found.row.confirmed_at)

    async def find_user(self, token: str) -> User:
        """The user of a login token or an API token. Raises Unauthorized as authenticate() does."""
        if tokens.looks_like_api_token(token):
            return (await self._find_api_token(token)).user
        return (await self._find_login(tokens.read(token, self._settings))).user

    async def verify(self, token: str) -> User | None:
        """The user of a login token or an API token; None if it isn't valid."""
        try:
            return await self.find_user(token)
        except Unauthorized:
            return None

    async def _find_login(
        self,
        claims: tokens.Claims,
        check: Callable[[Found | None], Found] | None = None,
        precision: timedelta = USE_PRECISION,
    ) -> Found:
        async def read() -> Found | None:
            async with self._db.read() as conn:
                login = await store.login(conn, claims.user_id, claims.jti)
            # A login by a release without sessions has no row whose end could be announced.
            return login and Found(login[0], login[1], login[1].last_used_at, may_be_kept=login[1].session is not None)

        key = "login", claims.user_id, claims.jti
        found = await self._cache.judge(key, read, check or partial(_checked_login, claims=claims))
        if found.row.session is not None:
            await self._note_use(found, partial(sessions.mark_used, session=found.row.session), precision)
        return found

    async def _find_api_token(self, token: str) -> Found:
        if not tokens.checksum_holds(token):
            raise Unauthorized(API_TOKEN_NOT_VALID)
        token_hash = tokens.hash_api_token(token)

        async def read() -> Found | None:
            async with self._db.read() as conn:
                kept = await store.api_token_by_hash(conn, token_hash)
            return kept and Found(*kept, kept[1].last_used_at)

        found = await self._cache.judge(("token", token_hash), read, _checked_api_token)
        await self._note_use(found, partial(store.mark_used, token_id=found.row.id), USE_PRECISION)
        return found

    async def _note_use(self, found: Found, mark_used: Callable[..., Awaitable[None]], precision: timedelta) -> None:
        now, before = datetime.now(UTC), found.last_used_at
        if before is not None and before >= now - precision:
            return
        found.last_used_at = now  # other requests must not store the same use
        try:
            async with self._db.transaction() as conn:
                await mark_used(conn, now=now, before=now - precision)
        except DatabaseUnavailable:
            # The request need not fail for this. The next one records the use.
            found.last_used_at = before
            log.warning("last use of a token not recorded")


def is_signed(settings: AccountSettings, token: str) -> bool:
    """Whether `token` is a login token that this registry signed and that has not expired. Does no I/O."""
    return _is_valid(settings, token, None)


def is_signed_browser(settings: AccountSettings, token: str) -> bool:
    """Like `is_signed`, for the token in a browser's cookie."""
    return _is_valid(settings, token, tokens.BROWSER)


def bearer_token(header_value: str | None) -> str | None:
    """The token of an Authorization header: "" if no token follows `Bearer`, None if the scheme isn't Bearer."""
    scheme, *token = (header_value or "").split(None, 1) or [""]
    return "".join(token).strip() if scheme.lower() == "bearer" else None


def _checked_login(found: Found | None, claims: tokens.Claims) -> Found:
    """Raises Unauthorized if the login has ended."""
    if found is None:
        raise Unauthorized(tokens.NOT_VALID)
    user = found.user
    if found.row.revoked or not user.is_active or user.credentials_version != claims.credentials_version:
        raise Unauthorized(REVOKED)
    return found


def _checked_api_token(found: Found | None) -> Found:
    if found is None or not found.user.is_active:
        raise Unauthorized(API_TOKEN_NOT_VALID)
    if found.row.reported_at is not None:
        raise Unauthorized(API_TOKEN_LEAKED)
    if found.row.expires_at is not None and found.row.expires_at <= datetime.now(UTC):
        raise Unauthorized(API_TOKEN_EXPIRED)
    return found


def _of_login(user: User, claims: tokens.Claims) -> Principal:
    return Principal(
        user_id=user.id,
        username=user.username,
        role=user.role,
        credentials_version=user.credentials_version,
        jti=claims.jti,
        expires_at=claims.expires_at,
    )


def _of_api_token(found: Found) -> Principal:
    user, kept = found.user, found.row
    return Principal(
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


def _is_valid(settings: AccountSettings, token: str, audience: str | None) -> bool:
    try:
        tokens.read(token, settings, audience=audience)
    except Unauthorized:
        return False
    return True
