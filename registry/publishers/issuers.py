"""The issuers of ID tokens that the operator allows, and their keys, which are fetched and cached."""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

import aiohttp
import jwt
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from prometheus_client import Counter

from registry.errors import IssuerUnavailable
from registry.publishers.id_tokens import ALGORITHMS
from registry.publishers.matching import GITHUB, GITLAB, OIDC
from registry.setting_parts import OidcSettings
from registry.setting_types import is_loopback
from registry.web.addresses import is_ip, is_public

log = logging.getLogger(__name__)

FETCHES = Counter("registry_oidc_key_fetches_total", "Fetches of an issuer's keys", ["issuer", "result"])

GITHUB_ISSUER = "https://token.actions.githubusercontent.com"
GITLAB_ISSUER = "https://gitlab.com"
DISCOVERY = "/.well-known/openid-configuration"

# A key that its issuer has withdrawn is accepted for at most FRESH_SECONDS, or for STALE_SECONDS while the issuer is
# unavailable.
FRESH_SECONDS = 600.0
STALE_SECONDS = 3600.0
# An unknown key makes the registry fetch the keys again, but at most this often.
UNKNOWN_KEY_SECONDS = 60.0
# The pause after a failed fetch.
RETRY_SECONDS = 10.0
FETCH_SECONDS = 5.0
MAX_ANSWER = 256 * 1024
MAX_KEYS = 100


@dataclass(frozen=True, slots=True)
class Issuer:
    """`kind` is github, gitlab or oidc. `url` is the claim `iss` of its tokens."""

    kind: str
    url: str


@dataclass(slots=True)
class _Keys:
    """The cached keys of one issuer, by `kid` and algorithm. Times are those of the clock of `Issuers`."""

    keys: Mapping[tuple[str, str], jwt.PyJWK] = field(default_factory=dict)
    fetched_at: float = float("-inf")
    unknown_at: float = float("-inf")
    failed_at: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Issuers:
    """The issuers of REGISTRY_OIDC_ISSUERS, GitHub and GitLab. `clock` gives seconds and never goes backwards."""

    def __init__(
        self,
        configured: Sequence[tuple[str, str]],
        session: aiohttp.ClientSession,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        public = {GITHUB: GITHUB_ISSUER, GITLAB: GITLAB_ISSUER}
        named = [*configured, *public.items()]
        self._known = {url: Issuer(kind, url) for kind, url in reversed(named)}
        self._defaults = dict(reversed(named))
        # A publisher of the kind oidc may only name an issuer of the operator. At a public one, anybody can get a token
        # with most claims.
        self._allowed = {*named, *((OIDC, url) for _, url in configured)}
        self._cached = {url: _Keys() for url in self._known}
        self._session = session
        self._clock = clock
        for url in self._known:
            # Creates the series at 0, so that alerts see the first failure as an increase.
            FETCHES.labels(url, "failed")

    def find(self, url: str) -> Issuer | None:
        return self._known.get(url)

    def allows(self, kind: str, url: str) -> bool:
        """Whether publishers of this kind may name the issuer."""
        return (kind, url) in self._allowed

    def of_kind(self, kind: str) -> list[str]:
        """The issuers that publishers of this kind may name, the default one first."""
        allowed = sorted(url for each, url in self._allowed if each == kind)
        return sorted(allowed, key=lambda url: url != self._defaults.get(kind))

    def default(self, kind: str) -> str:
        """The issuer of a publisher of the kind github or gitlab that names none: the operator's, or the public one."""
        return self._defaults[kind]

    async def key(self, issuer: Issuer, kid: str, algorithm: str) -> jwt.PyJWK | None:
        """The issuer's key of this id, None if it has none. Raises IssuerUnavailable."""
        cached, wanted = self._cached[issuer.url], (kid, algorithm)
        if wanted in cached.keys and self._age(cached) < FRESH_SECONDS:
            return cached.keys[wanted]
        async with cached.lock:  # concurrent requests share one fetch
            if self._age(cached) >= FRESH_SECONDS:
                await self._renew(issuer, cached)
            elif wanted not in cached.keys and self._clock() - cached.unknown_at >= UNKNOWN_KEY_SECONDS:
                await self._fetch(issuer, cached)
                cached.unknown_at = self._clock()
            return cached.keys.get(wanted)

    def _age(self, cached: _Keys) -> float:
        return self._clock() - cached.fetched_at

    async def _renew(self, issuer: Issuer, cached: _Keys) -> None:
        try:
            await self._fetch(issuer, cached)
        except IssuerUnavailable:
            if self._age(cached) >= STALE_SECONDS:
                raise

    async def _fetch(self, issuer: Issuer, cached: _Keys) -> None:
        """Replaces the cached keys by the issuer's. Raises IssuerUnavailable."""
        if self._clock() - cached.failed_at < RETRY_SECONDS:
            raise _unavailable(issuer)
        try:
            async with asyncio.timeout(2 * FETCH_SECONDS):
                keys = _usable(await self._key_set(issuer))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            cached.failed_at = self._clock()
            FETCHES.labels(issuer.url, "failed").inc()
            log.warning("keys of an issuer could not be fetched", extra={"issuer": issuer.url, "reason": str(error)})
            raise _unavailable(issuer) from error
        FETCHES.labels(issuer.url, "fetched").inc()
        cached.keys, cached.fetched_at = keys, self._clock()

    async def _key_set(self, issuer: Issuer) -> Any:
        """The issuer's JSON Web Key Set, found through its discovery document."""
        found = await self._read(issuer.url.rstrip("/") + DISCOVERY)
        if not isinstance(found, dict) or found.get("issuer") != issuer.url:
            raise ValueError("the discovery document is another issuer's")
        address = str(found.get("jwks_uri"))
        _check_address(issuer, address)
        return await self._read(address)

    async def _read(self, address: str) -> Any:
        """The JSON at an address. Raises ValueError for a redirect and for more than MAX_ANSWER bytes."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with self._session.get(address, allow_redirects=False, headers=headers) as response:
            if response.status != 200:
                raise ValueError(f"status {response.status} instead of 200")
            body = bytearray()
            async for chunk in response.content.iter_chunked(1 << 14):
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise ValueError("the answer is too large")
        return orjson.loads(bytes(body))


class SafeResolver(AbstractResolver):
    """Resolves the names of issuers to any address, since the operator chose them, and other names to public ones."""

    def __init__(self, trusted: frozenset[str]) -> None:
        self._trusted = trusted
        self._resolver = ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if host not in self._trusted and not all(is_public(each["host"]) for each in found):
            raise OSError(f"{host} has an address that is not public")
        return found

    async def close(self) -> None:
        await self._resolver.close()


@contextlib.asynccontextmanager
async def open_issuers(settings: OidcSettings) -> AsyncIterator[Issuers]:
    """Does not connect to any issuer yet."""
    hosts = frozenset(urlsplit(url).hostname or "" for _, url in settings.issuers)
    # True is aiohttp's own context with the authorities of the system. Loading them again would delay each start.
    trusted: ssl.SSLContext | bool = True
    if settings.ca:
        trusted = ssl.create_default_context()
        trusted.load_verify_locations(settings.ca)
    connector = aiohttp.TCPConnector(ssl=trusted, resolver=SafeResolver(hosts), limit=20)
    timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        yield Issuers(settings.issuers, session)


def _check_address(issuer: Issuer, address: str) -> None:
    """Raises ValueError unless keys may be read from `address`: the issuer's own origin, or a public https address."""
    parts, own = urlsplit(address), urlsplit(issuer.url)
    if _origin(parts) == _origin(own) and "@" not in parts.netloc:
        return
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or is_loopback(parts.hostname):
        raise ValueError("the jwks_uri is not an https address")
    # The resolver is not asked for an IP address.
    if is_ip(parts.hostname) and not is_public(parts.hostname):
        raise ValueError("the jwks_uri is not a public address")


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def _usable(key_set: Any) -> dict[tuple[str, str], jwt.PyJWK]:
    """The keys that can verify tokens, by `kid` and algorithm. Raises ValueError for what is no key set."""
    if not isinstance(key_set, dict) or not isinstance(key_set.get("keys"), list):
        raise ValueError("the key set is malformed")  # noqa: TRY004 - the data is wrong, not a type in our code
    usable: dict[tuple[str, str], jwt.PyJWK] = {}
    for each in key_set["keys"][:MAX_KEYS]:
        if not isinstance(each, dict) or not isinstance(each.get("kid"), str) or each.get("use", "sig") != "sig":
            continue
        algorithm = {"RSA": "RS256", "EC": "ES256"}.get(str(each.get("kty")))
        if algorithm not in ALGORITHMS or each.get("alg", algorithm) != algorithm:
            continue
        with contextlib.suppress(jwt.PyJWTError):  # a key of another curve, or one that is malformed
            usable.setdefault((each["kid"], algorithm), jwt.PyJWK(each, algorithm))
    return usable


def _unavailable(issuer: Issuer) -> IssuerUnavailable:
    return IssuerUnavailable(
        f"The keys of {issuer.url} could not be fetched. Try again.", retry_after=int(RETRY_SECONDS)
    )
