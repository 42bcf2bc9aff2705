"""Reads and verifies ID tokens: the signed tokens (JWT) that CI services give to the jobs that they run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
import orjson

from registry.errors import OidcRefused

ALGORITHMS = ("RS256", "ES256")
MAX_BYTES = 16 * 1024
SKEW_SECONDS = 60
# The last second that a datetime can hold.
_END_OF_TIME = datetime.max.replace(tzinfo=UTC).timestamp()
_JWS = jwt.PyJWS(algorithms=list(ALGORITHMS), options={"enforce_minimum_key_length": True})

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unverified:
    """A well-formed ID token. Nothing about it is proven: `issuer` and `kid` only say which key to verify it with."""

    text: str
    issuer: str
    kid: str
    algorithm: str


@dataclass(frozen=True, slots=True)
class IdToken:
    """A verified ID token. Its use must be remembered until `uses_until`; by then it has expired."""

    issuer: str
    jti: str
    uses_until: datetime
    claims: Claims


def refused(reason: str, detail: str, **members: Any) -> OidcRefused:
    """The refusal of an ID token. `reason` is a stable word for programs. The answer also contains `members`."""
    return OidcRefused(detail, members={"reason": reason, **members})


def parse(text: str) -> Unverified:
    """Raises OidcRefused (`signature`) for a token that is too large or malformed, or lacks a required claim."""
    if len(text) > MAX_BYTES or not text.isascii():
        raise refused("signature", f"The ID token must be a signed JWT of at most {MAX_BYTES // 1024} KiB.")
    try:
        found = _JWS.decode_complete(text, options={"verify_signature": False})
    except jwt.PyJWTError:
        raise _malformed() from None
    header = found["header"]
    if header.get("alg") not in ALGORITHMS:
        raise refused("signature", f"The ID token must be signed with {' or '.join(ALGORITHMS)}.")
    if not isinstance(header.get("kid"), str):
        raise refused("signature", "The ID token's header must have a `kid`, which names the key of the signature.")
    claims = _claims(found["payload"])
    return Unverified(text, claims["iss"], header["kid"], header["alg"])


def verify(token: Unverified, key: jwt.PyJWK, audience: str | None, now: datetime) -> IdToken:
    """Checks the signature, the audience and the times. Raises OidcRefused."""
    try:
        payload = _JWS.decode(token.text, key, algorithms=[token.algorithm])
    except jwt.PyJWTError:
        raise refused("signature", "The signature of the ID token is not its issuer's.") from None
    claims = _claims(payload)
    if audience is None:
        raise refused("audience", "The operator must set REGISTRY_PUBLIC_URL or REGISTRY_OIDC_AUDIENCE first.")
    if claims["aud"] not in (audience, [audience]):
        raise refused("audience", f"The ID token is for another audience. Request one for {audience}.")
    moment = now.timestamp()
    if claims["exp"] + SKEW_SECONDS <= moment:
        raise refused("expired", "The ID token has expired. Request another one.")
    if max(claims["iat"], claims.get("nbf", 0)) - SKEW_SECONDS > moment:
        raise refused("expired", "The ID token is not valid yet. Check the clocks of the issuer and the registry.")
    until = min(claims["exp"] + 2 * SKEW_SECONDS, _END_OF_TIME)
    return IdToken(claims["iss"], claims["jti"], datetime.fromtimestamp(until, UTC), claims)


def _claims(payload: bytes) -> dict[str, Any]:
    """The claims. Raises OidcRefused unless all required ones are there and have the right types."""
    try:
        claims = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise _malformed() from None
    # PostgreSQL stores no NUL characters.
    if not isinstance(claims, dict) or b"\\u0000" in payload:
        raise _malformed()
    is_sound = (
        all(isinstance(claims.get(name), str) and claims[name] for name in ("iss", "jti"))
        and all(_is_time(claims.get(name)) for name in ("exp", "iat"))
        and ("nbf" not in claims or _is_time(claims["nbf"]))
        and _is_audience(claims.get("aud"))
    )
    if not is_sound:
        raise refused("signature", "The ID token must have the claims exp, iat, jti, aud and iss in their usual types.")
    return claims


def _malformed() -> OidcRefused:
    return refused("signature", "The ID token is not a well-formed signed JWT.")


def _is_time(value: Any) -> bool:
    """Whether `value` is a number of seconds that a datetime can hold. True is not a number in JSON."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 <= value < _END_OF_TIME
    )


def _is_audience(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))
