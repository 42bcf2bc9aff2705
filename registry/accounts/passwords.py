"""Hashes passwords and decides which new passwords are good enough.

A password is normalized to NFKC before it is hashed (NIST SP 800-63B), so that `é` is one password whether a keyboard
sends one code point or two. Older releases hashed the password as it was sent. Their hashes still verify.

A hash is stored as `pbkdf2_sha256$iterations$salt$hash`, the format of Django's PBKDF2PasswordHasher: the salt is ASCII
text, the hash is base64.
"""

import asyncio
import base64
import hashlib
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import TypeVar

from registry.accounts import breaches
from registry.errors import FieldError

Result = TypeVar("Result")

MIN_LENGTH = 8
MAX_LENGTH = 1024
# Longer passwords are refused without normalizing them: NFKC joins at most four code points into one.
MAX_SENT_LENGTH = 4 * MAX_LENGTH

_ALGORITHM = "pbkdf2_sha256"
_SALT_BYTES = 16
_DUMMY = f"{'0' * 2 * _SALT_BYTES}${base64.b64encode(bytes(32)).decode()}"

# Hashing has two threads of its own, so that many logins can't occupy all threads and cores of the process.
_hashing = ThreadPoolExecutor(max_workers=2, thread_name_prefix="password")


class Match(IntEnum):
    """The result of verify_password. Only WRONG is false."""

    WRONG = 0
    RIGHT = 1
    OUTDATED = 2
    """Right, but the stored hash took fewer iterations or was made without normalization. Hash the password again."""


def forms(password: str) -> tuple[str, ...]:
    """The texts that may have been hashed for `password`: its NFKC form and, if it differs, the text itself."""
    normalized = unicodedata.normalize("NFKC", password)
    return (normalized,) if normalized == password else (normalized, password)


def is_short_enough(password: str) -> bool:
    """Whether `password` has at most MAX_LENGTH characters in one of its forms."""
    if len(password) <= MAX_LENGTH:
        return True
    return len(password) <= MAX_SENT_LENGTH and len(forms(password)[0]) <= MAX_LENGTH


async def hash_password(password: str, iterations: int) -> str:
    """A new salted hash of the normalized `password`. Works in a thread."""
    salt = secrets.token_hex(_SALT_BYTES)
    return f"{_ALGORITHM}${iterations}${salt}${await _in_thread(_digest, forms(password)[0], salt, iterations)}"


async def verify_password(password: str, stored: str | None, iterations: int) -> Match:
    """Whether `stored` is a hash of `password`. Works in a thread.

    A wrong password costs `iterations` for each of its forms, even if `stored` is None or took fewer iterations. The
    time therefore depends only on the password, and doesn't reveal whether a user exists. Raises ValueError if `stored`
    has an unknown format.
    """
    return await _in_thread(_match, password, stored, iterations)


async def is_breached(password: str, file: Path | None) -> bool:
    """Whether `file` lists one of the password's forms; False without a file. Reads in a thread."""
    return file is not None and await asyncio.to_thread(_is_listed, password, file)


def check_strength(
    password: str,
    *,
    username: str = "",
    email: str = "",
    field: str = "password",
    breached: Path | None = None,
) -> list[FieldError]:
    """What is wrong with a new password, as errors of `field`; empty if it is good enough.

    `breached` is the file of REGISTRY_BREACHED_PASSWORDS. Call this in a thread: it reads that file, and the first
    call loads the list of common passwords (about 0.1 s).
    """
    message = _weakness(password, username, email)
    if message is None and breached is not None and _is_listed(password, breached):
        message = "is known from a breach of another service; choose another"
    return [{"field": field, "message": message}] if message else []


def _weakness(password: str, username: str, email: str) -> str | None:
    normalized = forms(password)[0] if len(password) <= MAX_SENT_LENGTH else password
    if not MIN_LENGTH <= len(normalized) <= MAX_LENGTH:
        return f"must have {MIN_LENGTH} to {MAX_LENGTH} characters"
    if "\0" in normalized or any("\ud800" <= character <= "\udfff" for character in normalized):
        return "must not contain NUL or a lone surrogate"
    folded = _folded(normalized)
    if folded in {_folded(username), _folded(email)}:
        return "must not be the user name or the e-mail address"
    if folded in _common_passwords():
        return "is among the most common passwords; choose another"
    return None


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _is_listed(password: str, file: Path) -> bool:
    return any(breaches.is_listed(form, file) for form in forms(password))


@cache
def _common_passwords() -> frozenset[str]:
    # The import takes time and memory that only a process that registers users needs.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(word.casefold() for word in FREQUENCY_LISTS["passwords"])


async def _in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    return await asyncio.get_running_loop().run_in_executor(_hashing, function, *arguments)


def _match(password: str, stored: str | None, iterations: int) -> Match:
    work, salt, expected = _parts(stored or f"{_ALGORITHM}${iterations}${_DUMMY}")
    for number, form in enumerate(forms(password)):
        if secrets.compare_digest(_digest(form, salt, work), expected) and stored is not None:
            return Match.OUTDATED if number or work < iterations else Match.RIGHT
        if work < iterations:
            _digest(form, salt, iterations - work)
    return Match.WRONG


def _parts(stored: str) -> tuple[int, str, str]:
    """(iterations, salt, hash) of a stored hash."""
    algorithm, iterations, salt, digest = stored.split("$")
    if algorithm != _ALGORITHM:
        raise ValueError(f"unknown password hash {algorithm}")
    return int(iterations), salt, digest


def _digest(text: str, salt: str, iterations: int) -> str:
    # The password of a login may contain lone surrogates. Only new passwords are checked for them.
    raw = hashlib.pbkdf2_hmac("sha256", text.encode("utf-8", "surrogatepass"), salt.encode("ascii"), iterations)
    return base64.b64encode(raw).decode("ascii")
