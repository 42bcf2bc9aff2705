"""ID tokens that must be refused, each by its reason."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.client import Answer, Registry
from tests.publishers.issuer import AUDIENCE, Issuer, Key, github, part, sign
from tests.web.shape import case, check_error

NOW = time.time()
TRUSTED = {"kind": "github", "repository": "org/repo", "workflow": "release.yml", "environment": "production"}

Forge = Callable[[Issuer], str]


def claims(**changed: Any) -> Forge:
    """A correctly signed token whose claims are changed."""
    return lambda issuer: issuer.token(github(**changed))


def lacking(name: str) -> Forge:
    return lambda issuer: issuer.token(github(), leave_out=(name,))


def header(**changed: Any) -> Forge:
    return lambda issuer: issuer.token(github(), headers=changed)


def unsigned(issuer: Issuer, algorithm: str = "none") -> str:
    _, payload, _ = issuer.token(github()).split(".")
    return f"{part({'alg': algorithm, 'typ': 'JWT', 'kid': 'first'})}.{payload}."


def signed_with_the_public_key(issuer: Issuer) -> str:
    """HS256 with the public key as the secret."""
    public = issuer.keys[0].private.public_key()
    secret = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    payload = json.dumps({"iss": issuer.url, "aud": AUDIENCE, "exp": NOW + 10**7, "iat": NOW, "jti": "h", **github()})
    return sign(payload.encode(), Key("first", private=secret), "HS256")


def with_other_payload(issuer: Issuer) -> str:
    head, _, signature = issuer.token(github()).split(".")
    return f"{head}.{issuer.token(github(actor='eve')).split('.')[1]}.{signature}"


def with_key_in_header(issuer: Issuer) -> str:
    key = Key("first")
    return issuer.token(github(), key=key, headers={"jwk": key.jwk})


def of_weak_key(issuer: Issuer) -> str:
    weak = Key("weak", private=rsa.generate_private_key(65537, 1024))  # noqa: S505
    issuer.keys.append(weak)
    return issuer.token(github(), key=weak)


def raw_payload(payload: bytes) -> Forge:
    return lambda issuer: sign(payload, issuer.keys[0], "RS256")


FORGERIES: dict[str, tuple[str, Forge]] = {
    "algorithm none": ("signature", unsigned),
    "algorithm None": ("signature", lambda issuer: unsigned(issuer, "None")),
    "HS256 with the public key": ("signature", signed_with_the_public_key),
    "RS384": ("signature", lambda issuer: issuer.token(github(), algorithm="RS384")),
    "PS256": ("signature", lambda issuer: issuer.token(github(), algorithm="PS256")),
    "ES256 with the kid of an RSA key": (
        "signature", lambda issuer: issuer.token(github(), key=Key("first", "ES256"))
    ),
    "another key with the same kid": ("signature", lambda issuer: issuer.token(github(), key=Key("first"))),
    "a key in the header": ("signature", with_key_in_header),
    "an address of keys in the header": (
        "signature", lambda issuer: issuer.token(github(), key=Key("eve"), headers={"jku": "https://eve.example/keys"})
    ),
    "a kid with a path": ("signature", header(kid="../../dev/null")),
    "a kid with SQL": ("signature", header(kid="first' OR '1'='1")),
    "a kid that is a number": ("signature", header(kid=1)),
    "a critical extension": ("signature", header(crit=["exp"], exp=0)),
    "a changed payload": ("signature", with_other_payload),
    "no signature": ("signature", lambda issuer: issuer.token(github()).rsplit(".", 1)[0] + "."),
    "a weak key": ("signature", of_weak_key),
    "two parts": ("signature", lambda issuer: issuer.token(github()).rsplit(".", 1)[0]),
    "no token at all": ("signature", lambda _: "hello"),
    "an empty token": ("signature", lambda _: ""),
    "a token outside ASCII": ("signature", lambda issuer: issuer.token(github()) + "é"),
    "more than 16 KiB": ("signature", claims(actor="x" * 16_384)),
    "a nested payload": ("signature", raw_payload(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}")),
    "half a surrogate": ("signature", claims(sha="\ud800")),
    "a list as payload": ("signature", raw_payload(b"[]")),
    "a NUL in a claim": ("signature", claims(sha="a\0b")),
    "exp as text": ("signature", claims(exp=str(int(NOW + 10**7)))),
    "exp as true": ("signature", claims(exp=True)),
    "exp as infinity": ("signature", claims(exp=float("inf"))),
    "exp after all time": ("signature", claims(exp=10**30)),
    "nbf as text": ("signature", claims(nbf="0")),
    "jti as a number": ("signature", claims(jti=7)),
    "an empty jti": ("signature", claims(jti="")),
    "aud as an object": ("signature", claims(aud={AUDIENCE: True})),
    **{f"no {name}": ("signature", lacking(name)) for name in ("exp", "iat", "jti", "aud", "iss")},
    "another issuer": ("issuer", claims(iss="https://eve.example")),
    "the issuer with a slash": ("issuer", lambda issuer: issuer.token(github(iss=issuer.url + "/"))),
    "the issuer in capitals": ("issuer", lambda issuer: issuer.token(github(iss=issuer.url.upper()))),
    "the issuer as a prefix": ("issuer", lambda issuer: issuer.token(github(iss=issuer.url + ".eve.example"))),
    "another audience": ("audience", claims(aud="https://other.example")),
    "the audience with a slash": ("audience", claims(aud=f"{AUDIENCE}/")),
    "the audience in capitals": ("audience", claims(aud=AUDIENCE.upper())),
    "the audience among others": ("audience", claims(aud=[AUDIENCE, "https://other.example"])),
    "no audience in the list": ("audience", claims(aud=[])),
    "expired": ("expired", claims(exp=NOW - 61)),
    "issued in the future": ("expired", claims(iat=NOW + 10**7)),
    "not yet valid": ("expired", claims(nbf=NOW + 10**7)),
    "another repository": ("claims", claims(repository="org/other")),
    "a repository with the same prefix": ("claims", claims(repository="org/repo2")),
    "a repository with the same suffix": ("claims", claims(repository="eve-org/repo")),
    "a repository in other case": ("claims", claims(repository="Org/Repo")),
    "a repository with a blank": ("claims", claims(repository="org/repo ")),
    "a repository with a look-alike letter": ("claims", claims(repository="оrg/repo")),
    "a list of repositories": ("claims", claims(repository=["org/repo"])),
    "no repository": ("claims", claims(repository=None)),
    "another workflow": ("claims", claims(workflow_ref="org/repo/.github/workflows/test.yml@refs/heads/main")),
    "a workflow of another repository": (
        "claims", claims(workflow_ref="eve/repo/.github/workflows/release.yml@refs/heads/main")
    ),
    "a workflow whose branch looks like it": (
        "claims",
        claims(workflow_ref="org/repo/.github/workflows/x.yml@refs/heads/y/.github/workflows/release.yml@z"),
    ),
    "a workflow outside the folder": ("claims", claims(workflow_ref="org/repo/release.yml@refs/heads/main")),
    "only the reusable workflow fits": (
        "claims",
        claims(
            workflow_ref="org/repo/.github/workflows/x.yml@refs/heads/main",
            job_workflow_ref="org/repo/.github/workflows/release.yml@refs/heads/main",
        ),
    ),
    "another environment": ("claims", claims(environment="staging")),
    "no environment": ("claims", claims(environment=None)),
    "a fork": (
        "claims",
        claims(repository="eve/repo", workflow_ref="eve/repo/.github/workflows/release.yml@refs/heads/main"),
    ),
    "a pull request": ("claims", claims(event_name="pull_request", ref="refs/pull/7/merge")),
    "a pull request with the rights of its target": (
        "claims", claims(event_name="pull_request_target", ref="refs/heads/main")
    ),
    "the ref of a pull request": ("claims", claims(event_name="push", ref="refs/pull/7/merge")),
    "no number of the repository": ("claims", claims(repository_id=None)),
    "no number of the owner": ("claims", claims(repository_owner_id="")),
}  # fmt: skip


async def exchange(registry: Registry, token: str, package: str = "demo") -> Answer:
    return await registry.call("POST", "/auth/oidc/token", json={"token": token, "package": package})


async def test_each_forgery_is_refused_by_its_reason_and_the_right_token_is_not(trusting: Registry, issuer: Issuer):
    ada = await trusting.user("ada")
    await ada.publish("demo")
    assert (await ada.call("POST", "/packages/demo/publishers", json=TRUSTED)).status == 201
    assert len(FORGERIES) >= 30
    for name, (reason, forge) in FORGERIES.items():
        with case(name):
            answer = await exchange(trusting, forge(issuer))
            check_error(answer, 401)
            assert (answer.json["code"], answer.json["reason"]) == ("oidc_refused", reason)
    right = issuer.token(github())
    assert (await exchange(trusting, right)).status == 200
    again = await exchange(trusting, right)
    assert (again.status, again.json["reason"]) == (401, "replayed")


async def test_the_clocks_of_issuer_and_registry_may_differ_by_a_minute(trusting: Registry, issuer: Issuer):
    ada = await trusting.user("ada")
    await ada.publish("demo")
    assert (await ada.call("POST", "/packages/demo/publishers", json=TRUSTED)).status == 201
    now = int(time.time())
    for times in ({"exp": now - 20}, {"iat": now + 40}, {"nbf": now + 40}):
        with case(times):
            answer = await exchange(trusting, issuer.token(github(**times)))
            assert answer.status == 200, answer.body
            left = datetime.fromisoformat(answer.json["expires_at"]) - datetime.now(UTC)
            assert timedelta(minutes=14) < left <= timedelta(minutes=15)


async def test_no_forgery_fits_an_elliptic_key_of_the_same_name(trusting: Registry, issuer: Issuer):
    ada = await trusting.user("ada")
    await ada.publish("demo")
    assert (await ada.call("POST", "/packages/demo/publishers", json=TRUSTED)).status == 201
    issuer.keys = [Key("first", "ES256")]
    assert (await exchange(trusting, issuer.token(github()))).status == 200
    other = Key("first", "ES256", ec.generate_private_key(ec.SECP256R1()))
    assert (await exchange(trusting, issuer.token(github(), key=other))).json["reason"] == "signature"


async def test_claims_tell_what_differs_but_not_the_wanted_values(trusting: Registry, issuer: Issuer):
    ada = await trusting.user("ada")
    await ada.publish("demo")
    await ada.call("POST", "/packages/demo/publishers", json={**TRUSTED, "environment": "hush"})
    answer = await exchange(trusting, issuer.token(github(repository="org/repo2")))
    assert answer.json["differs"] == ["repository", "workflow", "environment"]
    assert answer.json["claims"]["repository"] == "org/repo2"
    assert "hint" not in answer.json
    assert b"hush" not in answer.body
    cased = github(
        repository="Org/repo", environment="HUSH", workflow_ref="Org/repo/.github/workflows/release.yml@refs/heads/main"
    )
    answer = await exchange(trusting, issuer.token(cased))
    assert (answer.json["differs"], answer.json["hint"]) == (["repository", "environment"], "case")
    for package in ("unknown", "Demo!", "x" * 300):
        answer = await exchange(trusting, issuer.token(github()), package)
        assert answer.json["reason"] == "claims"
        assert "differs" not in answer.json
        assert answer.json["claims"]["workflow"] == "release.yml"
