import asyncio
import base64
import hashlib

import pytest

from registry.accounts import passwords
from registry.accounts.passwords import Match, check_strength, hash_password, verify_password
from tests.background import in_background

WORK = 100_000
COMPOSED = "Caf\u00e9-Horse-42"
DECOMPOSED = "Cafe\u0301-Horse-42"


async def test_a_hash_contains_its_parameters_and_matches_only_its_password():
    stored = await hash_password("Correct-Horse-42", WORK)
    algorithm, iterations, salt, digest = stored.split("$")
    assert (algorithm, iterations) == ("pbkdf2_sha256", "100000")
    assert len(salt) == 32
    assert len(digest) == 44
    assert await verify_password("Correct-Horse-42", stored, WORK)
    assert not await verify_password("correct-horse-42", stored, WORK)


async def test_the_same_password_hashes_differently_each_time():
    assert await hash_password("Correct-Horse-42", WORK) != await hash_password("Correct-Horse-42", WORK)


async def test_a_hash_made_by_django_verifies():
    # make_password("Correct-Horse-42", "NaClNaClNaCl", "pbkdf2_sha256") is this computation.
    raw = hashlib.pbkdf2_hmac("sha256", b"Correct-Horse-42", b"NaClNaClNaCl", 1000)
    stored = f"pbkdf2_sha256$1000$NaClNaClNaCl${base64.b64encode(raw).decode()}"
    assert await verify_password("Correct-Horse-42", stored, WORK) is Match.OUTDATED
    assert await verify_password("Correct-Horse-42", stored, 1000) is Match.RIGHT
    assert await verify_password("Correct-Horse-42", stored, 999) is Match.RIGHT


async def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="unknown password hash md5"):
        await verify_password("Correct-Horse-42", "md5$1$salt$hash", WORK)


async def test_no_password_matches_a_missing_hash():
    assert not await verify_password("", None, WORK)


@pytest.mark.parametrize("password", ["\ud800" * 8, "a\0" * 8, "\x00", "", "x" * 1_000_000])
async def test_any_text_can_be_verified(password: str):
    assert not await verify_password(password, await hash_password("Correct-Horse-42", WORK), WORK)


@pytest.mark.parametrize("tried", [COMPOSED, DECOMPOSED, "\uff23afé-Horse-42"])
@pytest.mark.parametrize("chosen", [COMPOSED, DECOMPOSED])
async def test_all_unicode_forms_of_a_password_match(chosen: str, tried: str):
    assert await verify_password(tried, await hash_password(chosen, WORK), WORK) is Match.RIGHT
    assert not await verify_password("Cafe-Horse-42", await hash_password(chosen, WORK), WORK)


async def test_a_hash_from_before_normalization_verifies_and_is_outdated():
    raw = hashlib.pbkdf2_hmac("sha256", DECOMPOSED.encode(), b"NaClNaClNaCl", WORK)
    stored = f"pbkdf2_sha256${WORK}$NaClNaClNaCl${base64.b64encode(raw).decode()}"
    assert await verify_password(DECOMPOSED, stored, WORK) is Match.OUTDATED
    assert await verify_password(COMPOSED, stored, WORK) is Match.WRONG


def test_normalization_is_bounded():
    assert passwords.is_short_enough("e\u0301" * passwords.MAX_LENGTH)
    assert not passwords.is_short_enough("e\u0301" * (passwords.MAX_LENGTH + 1))
    assert passwords.is_short_enough("\ufdfa" * passwords.MAX_LENGTH)  # an older release took it
    assert not passwords.is_short_enough("\u0301" * (passwords.MAX_SENT_LENGTH + 1))


async def test_hashing_leaves_the_event_loop_free():
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.001)
            beats += 1

    async with in_background(beat()):
        await hash_password("Correct-Horse-42", 1_000_000)
    assert beats > 20


@pytest.mark.parametrize(
    "password", ["x7#Kq9zP", "SecurePassword123!", "é" * 8, "z9" * 512, "e\u0301" * 1024, "        "]
)
def test_good_passwords_are_accepted(password: str):
    assert check_strength(password, username="ada", email="ada@example.com") == []


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("", "8 to 1024"),
        ("x7#Kq9z", "8 to 1024"),
        ("z" * 1025, "8 to 1024"),
        ("12345678", "most common"),
        ("PassWord1", "most common"),
        ("\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44\uff11", "most common"),
        ("Ada-Lovelace", "user name"),
        ("\uff21da-Lovelace", "user name"),
        ("e\u0301" * 7, "8 to 1024"),
        ("\ufdfa" * 100, "8 to 1024"),
        ("e\u0301" * 1025, "8 to 1024"),
        ("ADA@example.COM", "user name"),
        ("x7#Kq9zP\0", "NUL"),
        ("x7#Kq9zP\udcff", "surrogate"),
    ],
)
def test_bad_passwords_are_refused(password: str, message: str):
    (error,) = check_strength(password, username="ada-lovelace", email="ada@example.com", field="new_password")
    assert error["field"] == "new_password"
    assert message in error["message"]
