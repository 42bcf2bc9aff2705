"""A real issuer of ID tokens over HTTPS, with a CA of its own."""

import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import trustme
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from ephemeral_port_reserve import reserve
from jwt.algorithms import ECAlgorithm, RSAAlgorithm, get_default_algorithms

AUDIENCE = "https://registry.example"


@dataclass
class Key:
    """A signing key of an issuer."""

    kid: str
    algorithm: str = "RS256"
    private: Any = None

    def __post_init__(self) -> None:
        if self.private is None:
            is_rsa = self.algorithm == "RS256"
            self.private = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())

    @property
    def jwk(self) -> dict[str, Any]:
        kind = RSAAlgorithm if self.algorithm == "RS256" else ECAlgorithm
        return {**json.loads(kind.to_jwk(self.private.public_key())), "kid": self.kid, "use": "sig"}


def sign(payload: bytes, key: Key, algorithm: str, headers: dict[str, Any] | None = None) -> str:
    """A signed token. PyJWT's own encode() refuses the wrong headers and claims that tests need."""
    signed = f"{part({'alg': algorithm, 'typ': 'JWT', 'kid': key.kid, **(headers or {})})}.{part(payload)}"
    return f"{signed}.{part(get_default_algorithms()[algorithm].sign(signed.encode(), key.private))}"


@dataclass
class Issuer:
    """`keys` are those that it publishes. `fetched` counts the fetches of its keys.

    `answer` holds the arguments of a response that replaces the key set. `discovery` replaces members of that document.
    """

    url: str
    ca: str
    keys: list[Key] = field(default_factory=list)
    fetched: int = 0
    answer: dict[str, Any] | None = None
    discovery: dict[str, Any] = field(default_factory=dict)

    def token(
        self,
        claims: dict[str, Any],
        *,
        key: Key | None = None,
        headers: dict[str, Any] | None = None,
        algorithm: str | None = None,
        leave_out: tuple[str, ...] = (),
    ) -> str:
        """A signed token with the usual claims, which `claims` adds to or replaces."""
        now = int(time.time())
        key = key or self.keys[0]
        usual = {"iss": self.url, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 300, "jti": uuid4().hex}
        payload = {name: value for name, value in {**usual, **claims}.items() if name not in leave_out}
        return sign(json.dumps(payload).encode(), key, algorithm or key.algorithm, headers)

    async def discover(self, request: web.Request) -> web.Response:
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.discovery})

    async def key_set(self, request: web.Request) -> web.Response:
        self.fetched += 1
        if self.answer is not None:
            return web.Response(**self.answer)
        return web.json_response({"keys": [key.jwk for key in self.keys]})


@asynccontextmanager
async def running_issuer(folder: Path, *, tls: bool = True, host: str = "localhost") -> AsyncIterator[Issuer]:
    """An issuer with one key."""
    authority = trustme.CA()
    ca = folder / f"issuer-ca-{uuid4().hex}.pem"
    authority.cert_pem.write_to_path(str(ca))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(context)
    port = reserve()
    issuer = Issuer(f"{'https' if tls else 'http'}://{host}:{port}", str(ca), [Key("first")])
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", issuer.discover)
    app.router.add_get("/keys", issuer.key_set)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context if tls else None).start()
        yield issuer
    finally:
        await runner.cleanup()


def github(**claims: Any) -> dict[str, Any]:
    """The claims that GitHub gives to a job of release.yml in org/repo."""
    return {
        "sub": "repo:org/repo:environment:production",
        "repository": "org/repo",
        "repository_id": "1001",
        "repository_owner": "org",
        "repository_owner_id": "77",
        "workflow": "Release",
        "workflow_ref": "org/repo/.github/workflows/release.yml@refs/tags/v1.0.0",
        "job_workflow_ref": "other/shared/.github/workflows/publish.yml@refs/heads/main",
        "environment": "production",
        "event_name": "push",
        "ref": "refs/tags/v1.0.0",
        "sha": "a" * 40,
        "run_id": "4242",
        **claims,
    }


def gitlab(**claims: Any) -> dict[str, Any]:
    """The claims that GitLab gives to a job of group/project."""
    return {
        "sub": "project_path:group/project:ref_type:branch:ref:main",
        "project_path": "group/project",
        "project_id": "31",
        "namespace_id": "9",
        "namespace_path": "group",
        "ref": "main",
        "ref_type": "branch",
        "environment": "production",
        "pipeline_source": "push",
        "pipeline_id": "555",
        "sha": "b" * 40,
        "ci_config_ref_uri": "gitlab.example/group/project//.gitlab-ci.yml@refs/heads/main",
        **claims,
    }


def part(value: Any) -> str:
    """A part of a JWT: the JSON of `value`, or the bytes themselves."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
