"""Codes of authenticator apps (TOTP, RFC 6238), and recovery codes."""

import hashlib
import re
import secrets
from datetime import datetime

import pyotp
from pyotp.utils import strings_equal

ISSUER = "Synapse Package Registry"
STEP_SECONDS = 30
RECOVERY_CODES = 10
MAX_CODE = 64

_TOTP = re.compile(r"[0-9]{6}")
# Base 32 without letters that look like digits (Crockford).
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_GROUPS, _GROUP = 4, 4
_LOOK_ALIKES = str.maketrans("ilo", "110")


def new_secret() -> str:
    """A random secret of 160 bits for an authenticator app, in base 32."""
    return pyotp.random_base32()


def setup_uri(secret: str, username: str, host: str) -> str:
    """The otpauth:// address that apps read from a QR code. `host` tells registries apart."""
    return pyotp.TOTP(secret).provisioning_uri(name=f"{username}@{host}" if host else username, issuer_name=ISSUER)


def is_totp(code: str) -> bool:
    """Whether `code`, without its blanks, has the form of a code of an authenticator app."""
    return _TOTP.fullmatch(_compact(code)) is not None


def step_of(secret: str, code: str, now: datetime) -> int | None:
    """The time step whose code this is: the current one, the one before or the one after. None if it is wrong."""
    app, current = pyotp.TOTP(secret), int(now.timestamp()) // STEP_SECONDS
    matching = [
        step for step in (current - 1, current, current + 1) if strings_equal(_compact(code), app.generate_otp(step))
    ]
    return matching[0] if matching else None


def new_recovery_codes() -> list[str]:
    """RECOVERY_CODES random codes of 80 bits, such as `3f7k-9x2m-qw8t-0c5d`."""
    return ["-".join(_random_group() for _ in range(_GROUPS)) for _ in range(RECOVERY_CODES)]


def hash_recovery_code(code: str) -> str:
    """SHA-256 of a recovery code, in any case and with or without hyphens and blanks.

    A fast hash is enough, because nobody can try 2 to the power of 80 codes.
    """
    normal = _compact(code).replace("-", "").lower().translate(_LOOK_ALIKES)
    return hashlib.sha256(normal.encode("utf-8", "surrogatepass")).hexdigest()


def _random_group() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_GROUP))


def _compact(code: str) -> str:
    return "".join(code.split())
