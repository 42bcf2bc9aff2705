"""Password hashes and which passwords are good enough.

A hash is kept as `pbkdf2_sha256$iterations$salt$hash`, the layout of Django's PBKDF2PasswordHasher: the salt is ASCII
text used as it stands, the hash is base64.
"""

import asyncio
import base64
import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from registry.accounts import breaches
from registry.errors import FieldError

MIN_LENGTH = 8
MAX_LENGTH = 1024

_ALGORITHM = "pbkdf2_sha256"
_SALT_BYTES = 16
_NOBODY = f"{'0' * 2 * _SALT_BYTES}${base64.b64encode(bytes(32)).decode()}"

# Threads of their own, and few: a flood of logins waits here instead of taking every thread and core of the process.
_hashing = ThreadPoolExecutor(max_workers=2, thread_name_prefix="password")


async def hash_password(password: str, iterations: int) -> str:
    """A fresh salted hash of `password`, off the event loop."""
    salt = secrets.token_hex(_SALT_BYTES)
    return f"{_ALGORITHM}${iterations}${salt}${await _digest(password, salt, iterations)}"


async def verify_password(password: str, stored: str | None, iterations: int) -> bool:
    """Whether `password` made `stored`, off the event loop.

    Whenever it says no it has worked through `iterations`, without a stored hash and with one that took less, so that
    time doesn't tell which users there are. Raises ValueError when `stored` isn't a hash of ours.
    """
    work, salt, expected = _parts(stored or f"{_ALGORITHM}${iterations}${_NOBODY}")
    same = secrets.compare_digest(await _digest(password, salt, work), expected)
    if not same and work < iterations:
        await _digest(password, salt, iterations - work)
    return same and stored is not None


def needs_rehash(stored: str, iterations: int) -> bool:
    """Whether `stored` took less work than `iterations`."""
    return _parts(stored)[0] < iterations


def check_strength(
    password: str,
    *,
    username: str = "",
    email: str = "",
    field: str = "password",
    breached: Path | None = None,
) -> list[FieldError]:
    """What is wrong with a new password, as errors of `field`; empty when it will do.

    `breached` is the file of settings, if any. The first call reads the list of common passwords (some 0.1 s), and
    files are read: call it in a thread.
    """
    message = _weakness(password, username, email)
    if message is None and breached is not None and breaches.is_listed(password, breached):
        message = "is known from a breach of some other service; choose another"
    return [{"field": field, "message": message}] if message else []


def _weakness(password: str, username: str, email: str) -> str | None:
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        return f"must have {MIN_LENGTH} to {MAX_LENGTH} characters"
    if "\0" in password or any("\ud800" <= character <= "\udfff" for character in password):
        return "must not hold NUL or a lone surrogate"
    folded = password.casefold()
    if folded in {username.casefold(), email.casefold()}:
        return "must not be the user name or the e-mail address"
    if folded in _common_passwords():
        return "is among the commonest passwords; choose another"
    return None


@cache
def _common_passwords() -> frozenset[str]:
    # Importing it takes time and memory that only a process that registers users should spend.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(word.casefold() for word in FREQUENCY_LISTS["passwords"])


def _parts(stored: str) -> tuple[int, str, str]:
    """(iterations, salt, hash) of a stored hash."""
    algorithm, iterations, salt, digest = stored.split("$")
    if algorithm != _ALGORITHM:
        raise ValueError(f"unknown password hash {algorithm}")
    return int(iterations), salt, digest


async def _digest(password: str, salt: str, iterations: int) -> str:
    # A lone surrogate can't be in a stored password, but it can be in one that is tried.
    secret = password.encode("utf-8", "surrogatepass")
    raw = await asyncio.get_running_loop().run_in_executor(
        _hashing, hashlib.pbkdf2_hmac, "sha256", secret, salt.encode("ascii"), iterations
    )
    return base64.b64encode(raw).decode("ascii")
