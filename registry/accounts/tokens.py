"""The two kinds of tokens: the JWT of a login (RFC 7519, HS256) and the API token.

An API token is `syn_`, 30 random base62 characters (178 bits), and the CRC-32 of those 30 as six base62 digits. The
checksum lets secret scanners recognize tokens, and a mistyped token costs no query.
"""

import hashlib
import re
import secrets
import string
import zlib
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from registry.accounts.identity import User
from registry.errors import Unauthorized
from registry.setting_parts import AccountSettings

MAX_TOKEN = 4096
API_TOKEN_PREFIX = "syn_"  # noqa: S105 - a prefix
BROWSER = "browser"
"""The audience of the tokens in browsers' cookies. The tokens of API logins have none."""

NOT_VALID = "The token is not valid. Sign in again."
EXPIRED = "The token has expired. Sign in again."

_ALGORITHM = "HS256"
# The clocks of two machines may differ by this much.
_LEEWAY = timedelta(seconds=5)

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_API_TOKEN = re.compile(rf"{API_TOKEN_PREFIX}([0-9A-Za-z]{{30}})([0-9A-Za-z]{{6}})")


class Claims(BaseModel):
    """The claims of a login token: the user, the token's own id, and the `users.credentials_version` at the sign-in."""

    model_config = ConfigDict(frozen=True)

    user_id: int = Field(alias="sub", ge=1, lt=2**63)
    jti: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    credentials_version: int = Field(alias="ver", strict=True)
    expires_at: AwareDatetime = Field(alias="exp")


def issue(user: User, settings: AccountSettings, now: datetime, audience: str | None = None) -> tuple[str, datetime]:
    """Returns (a token signed with the newest key, its expiry): that of a browser's session for the audience BROWSER.

    `settings.secret_keys` must not be empty.
    """
    valid_for = settings.session_max if audience == BROWSER else timedelta(days=settings.token_days)
    expires_at = now.replace(microsecond=0) + valid_for
    claims: dict[str, Any] = {
        "sub": str(user.id),
        "iat": now,
        "exp": expires_at,
        "jti": secrets.token_urlsafe(16),
        "ver": user.credentials_version,
    }
    if audience is not None:
        claims["aud"] = audience
    return jwt.encode(claims, settings.secret_keys[0], algorithm=_ALGORITHM), expires_at


def read(token: str, settings: AccountSettings, now: datetime | None = None, *, audience: str | None = None) -> Claims:
    """The claims of a token. Raises Unauthorized unless one of the keys signed it and it has not expired.

    `now` defaults to the current time. A token for another `audience` is not valid: the token in a browser's cookie is
    not valid in a header, nor the other way round.
    """
    if len(token) > MAX_TOKEN or not token.isascii():
        raise Unauthorized(NOT_VALID)
    try:
        claims = _claims(token, settings.secret_keys, audience)
    # RecursionError: the header is parsed before the signature is checked, and may be deeply nested.
    except (jwt.InvalidTokenError, ValidationError, RecursionError):
        raise Unauthorized(NOT_VALID) from None
    if claims.expires_at <= (now or datetime.now(UTC)) - _LEEWAY:
        raise Unauthorized(EXPIRED)
    return claims


def make_api_token() -> str:
    """A new API token."""
    secret = "".join(secrets.choice(_BASE62) for _ in range(30))
    return API_TOKEN_PREFIX + secret + _checksum(secret)


def looks_like_api_token(text: str) -> bool:
    """Whether `text` has the form of an API token rather than a login token. It may still be wrong."""
    return text.startswith(API_TOKEN_PREFIX)


def checksum_holds(token: str) -> bool:
    """Whether the checksum of an API token is right. Anyone can compute it, so this proves nothing about the token."""
    found = _API_TOKEN.fullmatch(token)
    return found is not None and _checksum(found[1]) == found[2]


def hash_api_token(token: str) -> str:
    """SHA-256 of an API token in hex, which is stored instead of the token."""
    return hashlib.sha256(token.encode()).hexdigest()


@lru_cache(maxsize=4096)
def _claims(token: str, keys: tuple[str, ...], audience: str | None) -> Claims:
    """Cached, because the claims of a signed token never change. The caller checks the expiry."""
    return Claims.model_validate(_verified(token, keys, audience))


def _verified(token: str, keys: tuple[str, ...], audience: str | None) -> dict[str, Any]:
    for key in keys:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=audience,
                # RFC 7519 doesn't reject tokens before `iat`. A clock that is set back must not end all logins.
                options={"require": ["sub", "iat", "exp", "jti"], "verify_iat": False, "verify_exp": False},
            )
        except jwt.InvalidSignatureError:
            continue
    raise jwt.InvalidSignatureError


def _checksum(secret: str) -> str:
    number = zlib.crc32(secret.encode("ascii"))
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits
