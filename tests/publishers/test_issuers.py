"""The keys of a real issuer over HTTPS: fetched, cached, renewed, and never from where they must not come."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry.errors import IssuerUnavailable
from registry.publishers.issuers import (
    FRESH_SECONDS,
    GITHUB_ISSUER,
    GITLAB_ISSUER,
    MAX_ANSWER,
    RETRY_SECONDS,
    STALE_SECONDS,
    UNKNOWN_KEY_SECONDS,
    Issuers,
    SafeResolver,
    open_issuers,
)
from registry.setting_parts import OidcSettings
from registry.settings import Settings
from registry.web.addresses import is_public
from tests.publishers.issuer import Issuer, Key, running_issuer
from tests.web.shape import case


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def settings(issuer: Issuer, ca: str | None = None) -> OidcSettings:
    return Settings.read(
        {"REGISTRY_OIDC_ISSUERS": issuer.url, "REGISTRY_OIDC_CA": issuer.ca if ca is None else ca}
    ).oidc


@pytest.fixture
async def issuers(issuer: Issuer, clock: Clock) -> AsyncIterator[Issuers]:
    async with open_issuers(settings(issuer)) as opened:
        opened._clock = clock
        yield opened


async def key(issuers: Issuers, issuer: Issuer, kid: str, algorithm: str = "RS256") -> Any:
    known = issuers.find(issuer.url)
    assert known is not None
    return await issuers.key(known, kid, algorithm)


async def test_keys_are_fetched_once_for_many_tokens(issuers: Issuers, issuer: Issuer, clock: Clock):
    found = await asyncio.gather(*(key(issuers, issuer, "first") for _ in range(20)))
    assert all(each is not None for each in found)
    clock.now += FRESH_SECONDS - 1
    assert await key(issuers, issuer, "first") is not None
    assert issuer.fetched == 1


async def test_an_unknown_key_fetches_at_most_once_a_minute(issuers: Issuers, issuer: Issuer, clock: Clock):
    assert await key(issuers, issuer, "first") is not None
    issuer.keys.append(Key("second", "ES256"))
    assert await key(issuers, issuer, "second", "ES256") is not None
    assert issuer.fetched == 2
    issuer.keys.append(Key("third"))
    for _ in range(5):
        assert await key(issuers, issuer, "third") is None
    assert await key(issuers, issuer, "first") is not None
    assert issuer.fetched == 2
    clock.now += UNKNOWN_KEY_SECONDS
    assert await key(issuers, issuer, "third") is not None
    assert issuer.fetched == 3


async def test_a_withdrawn_key_ends(issuers: Issuers, issuer: Issuer, clock: Clock):
    assert await key(issuers, issuer, "first") is not None
    issuer.keys = [Key("second")]
    clock.now += FRESH_SECONDS
    assert await key(issuers, issuer, "first") is None
    assert await key(issuers, issuer, "second") is not None


async def test_known_keys_outlive_a_short_outage_of_the_issuer(issuers: Issuers, issuer: Issuer, clock: Clock):
    assert await key(issuers, issuer, "first") is not None
    issuer.answer = {"status": 500}
    clock.now += FRESH_SECONDS
    assert await key(issuers, issuer, "first") is not None
    assert issuer.fetched == 2
    assert await key(issuers, issuer, "first") is not None
    assert issuer.fetched == 2
    clock.now += RETRY_SECONDS
    assert await key(issuers, issuer, "first") is not None
    assert issuer.fetched == 3
    clock.now += STALE_SECONDS
    with pytest.raises(IssuerUnavailable):
        await key(issuers, issuer, "first")


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500},
        {"status": 302, "headers": {"Location": "/keys"}},
        {"text": "no JSON"},
        {"text": "[]"},
        {"text": '{"keys": {}}'},
        {"body": b" " * (MAX_ANSWER + 1)},
    ],
    ids=["500", "redirect", "no JSON", "list", "keys as object", "too large"],
)
async def test_a_wrong_key_set_is_an_outage(issuers: Issuers, issuer: Issuer, answer: dict[str, Any]):
    issuer.answer = answer
    for _ in range(3):
        with pytest.raises(IssuerUnavailable):
            await key(issuers, issuer, "first")
    assert issuer.fetched == 1


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "https://eve.example"},
        {"jwks_uri": None},
        {"jwks_uri": "http://localhost/keys"},
        {"jwks_uri": "https://127.0.0.1/keys"},
        {"jwks_uri": "https://169.254.169.254/latest"},
        {"jwks_uri": "https://[::1]/keys"},
        {"jwks_uri": "https://localhost/keys"},
        {"jwks_uri": "https://user:password@keys.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
    ],
    ids=str,
)
async def test_keys_come_from_no_wrong_address(issuers: Issuers, issuer: Issuer, discovery: dict[str, Any]):
    issuer.discovery = discovery
    with pytest.raises(IssuerUnavailable):
        await key(issuers, issuer, "first")
    assert issuer.fetched == 0


async def test_a_name_resolves_to_a_private_address_only_if_the_operator_named_it():
    assert await SafeResolver(frozenset({"localhost"})).resolve("localhost", 443)
    with pytest.raises(OSError, match="not public"):
        await SafeResolver(frozenset({"issuer.example"})).resolve("localhost", 443)


async def test_the_certificate_must_be_of_the_named_authority(issuer: Issuer, tmp_path: Path):
    async with running_issuer(tmp_path) as other, open_issuers(settings(issuer, other.ca)) as opened:
        with pytest.raises(IssuerUnavailable):
            await key(opened, issuer, "first")
    assert issuer.fetched == 0


async def test_without_a_named_authority_the_certificate_must_be_of_one_of_the_systems(issuer: Issuer):
    async with open_issuers(settings(issuer, "")) as opened:
        with pytest.raises(IssuerUnavailable):
            await key(opened, issuer, "first")
    assert issuer.fetched == 0


async def test_keys_for_other_uses_and_algorithms_are_ignored(issuers: Issuers, issuer: Issuer):
    usable = issuer.keys[0].jwk
    keys = [
        {**usable, "kid": "enc", "use": "enc"},
        {**usable, "kid": "rs512", "alg": "RS512"},
        {**usable, "kid": 7},
        {"kty": "oct", "kid": "oct", "k": "c2VjcmV0"},
        {"kty": "EC", "kid": "broken", "crv": "P-256", "x": "", "y": ""},
        "text",
        usable,
    ]
    issuer.answer = {"text": json.dumps({"keys": keys})}
    assert await key(issuers, issuer, "first") is not None
    for kid, algorithm in (("enc", "RS256"), ("rs512", "RS256"), ("oct", "RS256"), ("broken", "ES256")):
        assert await key(issuers, issuer, kid, algorithm) is None


async def test_github_and_gitlab_are_known_and_may_be_replaced(issuer: Issuer):
    async with aiohttp.ClientSession() as session:
        usual = Issuers((), session)
        assert (usual.default("github"), usual.default("gitlab")) == (GITHUB_ISSUER, GITLAB_ISSUER)
        own = Issuers((("gitlab", "https://git.example"), ("gitlab", "https://git2.example")), session)
        assert own.default("gitlab") == "https://git.example"
        for url, kind in ((GITLAB_ISSUER, "gitlab"), ("https://git2.example", "gitlab"), (GITHUB_ISSUER, "github")):
            found = own.find(url)
            assert found is not None
            assert found.kind == kind
        assert own.find("https://git.example/") is None


def test_public_addresses():
    for address in ("8.8.8.8", "2606:4700::1111"):
        assert is_public(address)
    for address in (
        "127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "100.64.0.1", "169.254.169.254", "224.0.0.1",
        "168.63.129.16",
        "::1", "fe80::1%eth0", "fd00::1", "64:ff9b::a00:1", "2002:a00:1::", "::ffff:10.0.0.1", "ff02::1", "nonsense",
    ):  # fmt: skip
        with case(address):
            assert not is_public(address)
