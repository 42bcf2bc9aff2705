import base64
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.accounts import tokens
from registry.accounts.identity import User
from registry.errors import Unauthorized
from registry.setting_parts import AccountSettings
from registry.settings import Settings
from tests.conftest import SECRET

NOW = int(time.time())
GOOD = {"sub": "7", "iat": NOW, "exp": NOW + 3600, "jti": "abc", "ver": 1}


def encoded(**changes: object) -> str:
    """A token signed by the key; a change to None leaves the claim out."""
    return jwt.encode({k: v for k, v in {**GOOD, **changes}.items() if v is not None}, SECRET, algorithm="HS256")


def segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_an_issued_token_can_be_read(user: User, settings: AccountSettings):
    now = datetime.now(UTC)
    token, expires_at = tokens.issue(user, settings, now)
    claims = tokens.read(token, settings)
    assert (claims.user_id, claims.credentials_version, claims.expires_at) == (7, 3, expires_at)
    assert timedelta(days=30) - timedelta(seconds=1) < expires_at - now <= timedelta(days=30)
    assert set(jwt.decode(token, options={"verify_signature": False})) == {"sub", "iat", "exp", "jti", "ver"}
    assert claims.jti != tokens.read(tokens.issue(user, settings, now)[0], settings).jti


def test_the_unchanged_claims_are_valid(settings: AccountSettings):
    assert tokens.read(encoded(), settings).user_id == 7


def test_a_token_is_valid_after_the_clock_was_set_back(settings: AccountSettings):
    assert tokens.read(encoded(iat=NOW + 3600, exp=NOW + 7200), settings).user_id == 7


def test_a_token_is_valid_until_its_key_is_removed(user: User, settings: AccountSettings):
    token, _ = tokens.issue(user, settings, datetime.now(UTC))
    rotated = replace(settings, secret_keys=("n" * 40, SECRET))
    assert tokens.read(token, rotated).user_id == 7
    fresh, _ = tokens.issue(user, rotated, datetime.now(UTC))
    with pytest.raises(Unauthorized, match="not valid"):
        tokens.read(fresh, settings)
    with pytest.raises(Unauthorized, match="not valid"):
        tokens.read(token, replace(settings, secret_keys=("n" * 40,)))


def test_an_expired_token_is_refused(user: User, settings: AccountSettings):
    token, _ = tokens.issue(user, settings, datetime.now(UTC) - timedelta(days=30, minutes=1))
    with pytest.raises(Unauthorized, match="expired"):
        tokens.read(token, settings)


def test_a_cached_token_expires(settings: AccountSettings):
    token = encoded()
    assert tokens.read(token, settings).user_id == 7
    with pytest.raises(Unauthorized, match="expired"):
        tokens.read(token, settings, datetime.fromtimestamp(NOW + 3600 + 6, UTC))
    assert tokens.read(token, settings).user_id == 7


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_algorithm_is_refused(algorithm: str, settings: AccountSettings):
    with pytest.raises(Unauthorized, match="not valid"):
        tokens.read(jwt.encode(GOOD, "k" * 64, algorithm=algorithm), replace(settings, secret_keys=("k" * 64,)))


@pytest.mark.parametrize("alg", ["none", "None", "", None, [], {}, 1, "HS384", "RS256"])
def test_a_header_of_another_algorithm_is_refused_with_any_signature(alg: object, settings: AccountSettings):
    body = f"{segment(json.dumps({'alg': alg, 'typ': 'JWT'}).encode())}.{segment(json.dumps(GOOD).encode())}"
    for signature in ("", encoded().rpartition(".")[2]):
        with pytest.raises(Unauthorized, match="not valid"):
            tokens.read(f"{body}.{signature}", settings)


def test_a_token_signed_by_another_key_is_refused(settings: AccountSettings):
    with pytest.raises(Unauthorized, match="not valid"):
        tokens.read(jwt.encode(GOOD, "w" * 40, algorithm="HS256"), settings)


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": None},
        {"iat": None},
        {"exp": None},
        {"jti": None},
        {"ver": None},
        {"ver": "1"},
        {"sub": "ada"},
        {"sub": "0"},
        {"sub": str(2**63)},
        {"jti": "a\0b"},
        {"jti": "x" * 65},
        {"exp": 10**30},
        {"exp": "soon"},
    ],
)
def test_signed_claims_of_another_shape_are_refused(claims: dict[str, object], settings: AccountSettings):
    with pytest.raises(Unauthorized, match="not valid"):
        tokens.read(encoded(**claims), settings)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "\ud800.x.y",
        "\0",
        "é" * 10,
        segment(b"[" * 2900) + ".e30.e30",
        segment(b'{"alg":"HS256","crit":[[]]}') + ".e30.e30",
        segment(b'{"alg":"HS256","b64":false,"crit":["b64"]}') + "..e30",
        segment(b'{"alg":"HS256","kid":1}') + ".e30.e30",
        segment(b"\xff\xfe") + ".e30.e30",
    ],
)
def test_malformed_tokens_are_refused(token: str, settings: AccountSettings):
    with pytest.raises(Unauthorized, match="not valid"):
        tokens.read(token, settings)


def test_a_signed_token_over_the_length_limit_is_refused(settings: AccountSettings):
    assert len(encoded(more="x" * 2800)) <= tokens.MAX_TOKEN
    assert tokens.read(encoded(more="x" * 2800), settings).user_id == 7
    with pytest.raises(Unauthorized, match="not valid"):
        tokens.read(encoded(more="x" * 3000), settings)


_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5)
_HEADER = st.fixed_dictionaries({"alg": st.just("HS256") | _JSON}, optional={"crit": _JSON, "b64": _JSON, "kid": _JSON})


@given(header=_HEADER, rest=st.text(max_size=40))
def test_any_other_text_is_refused_as_unauthorized(header: dict[str, object], rest: str):
    settings = Settings.read({"REGISTRY_SECRET_KEY": SECRET}).accounts
    for token in (f"{segment(json.dumps(header).encode())}.e30.e30", rest):
        with pytest.raises(Unauthorized):
            tokens.read(token, settings)


def test_api_tokens_have_the_documented_shape_and_differ():
    made = {tokens.make_api_token() for _ in range(100)}
    assert len(made) == 100
    for token in made:
        assert len(token) == 40
        assert token.startswith("syn_")
        assert tokens.looks_like_api_token(token)
        assert tokens.checksum_holds(token)


def test_the_checksum_is_the_crc32_in_base62():
    # CRC-32 of thirty zeros is 2,011,552,642: 2 12 8 16 45 28 to base 62.
    assert tokens.checksum_holds("syn_" + "0" * 30 + "2C8GjS")


@given(position=st.integers(4, 39), replacement=st.sampled_from("0Aaz"))
def test_one_wrong_character_breaks_the_checksum(position: int, replacement: str):
    token = "syn_" + "Synapse0123456789abcdefghijklm" + tokens._checksum("Synapse0123456789abcdefghijklm")
    changed = token[:position] + replacement + token[position + 1 :]
    assert tokens.checksum_holds(changed) == (changed == token)


@pytest.mark.parametrize("text", ["", "syn_", "syn_" + "0" * 36, "syn_" + "é" * 36, "syn_" + "0" * 100_000])
def test_other_texts_have_no_valid_checksum(text: str):
    assert not tokens.checksum_holds(text)
