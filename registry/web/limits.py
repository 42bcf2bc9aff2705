"""Rate limits by route class, shared through Redis when there is one (draft-ietf-httpapi-ratelimit-headers)."""

import asyncio
import functools
import ipaddress
import logging
import re
import time
from collections.abc import Mapping
from typing import NamedTuple

import coredis.exceptions
import limits
from aiohttp import web
from aiohttplimiter import RedisLimiter
from limits.aio.storage import Storage
from limits.errors import StorageError

from registry.errors import SettingsError, TooManyRequests
from registry.settings import WebSettings
from registry.web.windows import Windows

log = logging.getLogger(__name__)

DEFAULTS = {
    "default": "50/hour",
    "register": "5/hour",
    "login": "10/hour",
    "report": "100/hour",
    "publish": "50/hour",
    "delete": "50/hour",
    "read": "1000/minute",
    "search": "1000/minute",
    "download": "1000/minute",
}
# How long memory stands in before Redis is asked again.
REDIS_RETRY_SECONDS = 5.0
# Reading an address takes longer than counting its request.
ADDRESSES_KEPT = 10_000
# What a request waits for Redis in all: one that answers each command late holds everybody up as well.
REDIS_SECONDS = 1.0
_OVERRIDE = re.compile(r"\s*([a-z_]+)\s*[=:]\s*([0-9]{1,9}\s*(?:/|per)\s*[0-9]*\s*[a-z]+)\s*")


class _Limit(NamedTuple):
    """`quota` requests in `window` seconds, and what the answers call it."""

    item: limits.RateLimitItem
    quota: int
    window: int
    policy: str


class RateLimiter:
    """Counts requests of a client in fixed windows; without Redis each process counts for itself."""

    def __init__(self, settings: WebSettings) -> None:
        self._limits = {name: _limit(name, item) for name, item in parse_limits(settings.rate_limits).items()}
        self._memory = Windows()
        self._redis: Storage | None = None
        if settings.redis_url:
            shared = RedisLimiter(client_key, f"async+{settings.redis_url}", stream_timeout=1, connect_timeout=1)
            self._redis = shared.db
        self._redis_away_until = 0.0

    async def hit(self, name: str, key: str) -> Mapping[str, str]:
        """Counts one request of class `name`; the headers that tell what is left, none when it is not limited.

        Raises TooManyRequests.
        """
        limit = self._limits.get(name)
        if limit is None:
            return {}
        key = f"{name}:{key}"
        counted = None if self._redis is None else await self._count_shared(self._redis, limit.item, key)
        used, reset_at = counted or self._memory.count(key, limit.window)
        reset = max(1, int(reset_at - time.time() + 0.999))
        left = f'"{name}";r={max(limit.quota - used, 0)};t={reset}'
        headers = {"RateLimit-Policy": limit.policy, "RateLimit": left}
        if used > limit.quota:
            raise TooManyRequests(
                f"More than {limit.quota} requests in {limit.window} seconds. Try again in {reset} seconds.",
                headers={"Retry-After": str(reset), **headers},
            )
        return headers

    async def _count_shared(self, redis: Storage, item: limits.RateLimitItem, key: str) -> tuple[int, float] | None:
        """As Windows.count(); None while Redis is away."""
        if time.monotonic() < self._redis_away_until:
            return None
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                return await _incr(redis, item, key)
        except (StorageError, coredis.exceptions.RedisError, OSError, TimeoutError) as error:
            self._redis_away_until = time.monotonic() + REDIS_RETRY_SECONDS
            log.warning("redis unavailable, limits are kept in memory", extra={"reason": type(error).__name__})
            return None


def _limit(name: str, item: limits.RateLimitItem) -> _Limit:
    window = item.get_expiry()
    return _Limit(item, item.amount, window, f'"{name}";q={item.amount};w={window}')


async def _incr(storage: Storage, item: limits.RateLimitItem, key: str) -> tuple[int, float]:
    full = item.key_for(key)
    used = await storage.incr(full, item.get_expiry())
    return used, await storage.get_expiry(full)


def parse_limits(text: str) -> Mapping[str, limits.RateLimitItem]:
    """The default limits with the overrides of `text` (`publish=200/hour,read=5000/minute`); none for `off`.

    Raises SettingsError.
    """
    if text.strip().lower() == "off":
        return {}
    chosen = dict(DEFAULTS)
    for entry in filter(None, (part.strip() for part in re.split(r"[,;]", text))):
        found = _OVERRIDE.fullmatch(entry)
        if entry.partition("=")[2].strip() == "off" and entry.partition("=")[0].strip() in DEFAULTS:
            chosen.pop(entry.partition("=")[0].strip())
            continue
        if not found or found[1] not in DEFAULTS:
            names = ", ".join(DEFAULTS)
            raise SettingsError(f"REGISTRY_RATE_LIMITS wants `off` or entries like publish=200/hour; names: {names}")
        chosen[found[1]] = found[2]
    try:
        return {name: limits.parse(rate) for name, rate in chosen.items()}
    except ValueError as error:
        raise SettingsError(f"REGISTRY_RATE_LIMITS can't be read: {error}") from error


def client_key(request: web.Request) -> str:
    """The limiter key of a request without credentials."""
    return f"ip:{request.remote}"


@functools.lru_cache(ADDRESSES_KEPT)
def network_key(address: str) -> str:
    """The limiter key of a client's address: one for a whole IPv6 /64, of which a client may use any address."""
    if not _is_address(address):
        return f"ip:{address}"
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv4Address) or parsed.ipv4_mapped:
        return f"ip:{getattr(parsed, 'ipv4_mapped', None) or parsed}"
    return f"ip:{ipaddress.IPv6Network((int(parsed), 64), strict=False)}"


class ClientAddress:
    """Finds a request's client: X-Forwarded-For counts only as far as trusted proxies wrote it."""

    def __init__(self, trusted: tuple[str, ...], country_header: str = "") -> None:
        self._trusted = [ipaddress.ip_network(item, strict=False) for item in trusted]
        self._country_header = country_header

    def of(self, request: web.Request) -> str:
        """The address nearest to us that is not a trusted proxy; `unknown` for a socket without one."""
        address = request.remote or "unknown"
        if not self._trusted or not self._is_trusted(address):
            return address
        for hop in reversed(",".join(request.headers.getall("X-Forwarded-For", [])).split(",")):
            candidate = hop.strip()
            if not _is_address(candidate):
                break
            address = candidate
            if not self._is_trusted(address):
                break
        return address

    def country(self, request: web.Request) -> str:
        """Two capital letters when a trusted proxy told the client's country, else ""."""
        if not self._country_header:
            return ""
        told = request.headers.get(self._country_header, "")
        known = re.fullmatch(r"[A-Za-z]{2}", told) and self._is_trusted(request.remote or "")
        return told.upper() if known else ""

    def _is_trusted(self, address: str) -> bool:
        if not _is_address(address):
            return False
        parsed = ipaddress.ip_address(address)
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped  # how a socket for both families names its IPv4 peers
        return any(parsed in network for network in self._trusted)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
