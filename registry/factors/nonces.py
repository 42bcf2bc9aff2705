"""The challenges that passkeys sign. They carry a signature of the registry instead of being stored.

So asking for a challenge, which anyone may do, writes nothing. Only challenges that were answered are stored, until
they expire, so that each is answered once.
"""

import hashlib
import hmac
import secrets
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

VALID_FOR = timedelta(minutes=5)

LOGIN = "login"

_RANDOM = 16
_TIME = struct.Struct(">Q")
_SIZE = _RANDOM + _TIME.size + hashlib.sha256().digest_size


def registration_of(user_id: int) -> str:
    """The purpose of a challenge for a new passkey of this user."""
    return f"registration of {user_id}"


def make(secret_keys: Sequence[str], purpose: str, now: datetime) -> bytes:
    """A new challenge that is valid for VALID_FOR."""
    body = secrets.token_bytes(_RANDOM) + _TIME.pack(int((now + VALID_FOR).timestamp()))
    return body + _signature(secret_keys[0], purpose, body)


def expiry(secret_keys: Sequence[str], purpose: str, challenge: bytes, now: datetime) -> datetime | None:
    """When a challenge expires. None if it has expired, has another purpose, or is not of this registry."""
    if len(challenge) != _SIZE:
        return None
    body, signature = challenge[: _RANDOM + _TIME.size], challenge[_RANDOM + _TIME.size :]
    if not any(hmac.compare_digest(signature, _signature(key, purpose, body)) for key in secret_keys):
        return None
    expires_at = datetime.fromtimestamp(_TIME.unpack(body[_RANDOM:])[0], UTC)
    return expires_at if expires_at > now else None


def _signature(key: str, purpose: str, body: bytes) -> bytes:
    return hmac.new(key.encode(), f"passkey challenge: {purpose}\0".encode() + body, hashlib.sha256).digest()
