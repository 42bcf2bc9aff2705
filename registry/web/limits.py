"""Rate limits by class of routes, shared through Redis if there is one (draft-ietf-httpapi-ratelimit-headers)."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import coredis.exceptions
import limits
from aiohttp import web
from aiohttplimiter import RedisLimiter
from limits.aio.storage import Storage
from limits.errors import StorageError

from registry.errors import SettingsError, TooManyRequests
from registry.web.route import Limit
from registry.web.windows import Windows

log = logging.getLogger(__name__)

# After a failure of Redis, limits are counted in memory for this long.
REDIS_RETRY_SECONDS = 5.0
# One request waits for Redis at most this long, over all commands.
REDIS_SECONDS = 1.0
# An address may send this many wrong credentials in one window, or as many as the route's limit if that is fewer.
MOST_FAILURES = 100
FAILURE_SECONDS = 60
_OVERRIDE = re.compile(r"\s*([a-z_]+)\s*[=:]\s*(off|[0-9]{1,9}\s*(?:/|per)\s*[0-9]*\s*[a-z]+)\s*")

Rates = Mapping[str, limits.RateLimitItem]
"""The rate of each limited class, by the class's name."""


class _Quota(NamedTuple):
    """`amount` requests in `window` seconds. `policy` is the value of RateLimit-Policy."""

    item: limits.RateLimitItem
    amount: int
    window: int
    policy: str


class RateLimiter:
    """Counts requests in fixed windows: in Redis, or in memory if there is no `redis_url` or Redis is unavailable.

    `clock` gives seconds. It measures the pause after a failure of Redis, during which limits are counted in memory.
    Raises SettingsError if the certificates that `redis_url` names can't be used.
    """

    def __init__(self, rates: Rates, redis_url: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        self._quotas = {name: _quota(name, item) for name, item in rates.items()}
        self._memory = Windows()
        self._failures = Windows()
        self._redis: Storage | None = None
        if redis_url:
            # Without decode_components, a password is sent percent-encoded, as in the address.
            address = f"async+{redis_url}"
            try:
                limiter = RedisLimiter(
                    _client_key, address, stream_timeout=1, connect_timeout=1, decode_components=True
                )
            except (OSError, ValueError) as error:
                raise SettingsError(
                    "REGISTRY_REDIS_URL wants certificate files that can be read and belong together, "
                    "and no ssl_cert_reqs=none with ssl_check_hostname=true"
                ) from error
            self._redis = limiter.db
        self._clock = clock
        self._redis_away_until = 0.0

    async def hit(self, limit: Limit | None, key: str) -> Mapping[str, str]:
        """Counts one request of the client `key`. Returns the rate-limit headers, none for an unlimited class.

        Raises TooManyRequests.
        """
        quota = None if limit is None else self._quotas.get(limit.name)
        if limit is None or quota is None:
            return {}
        key = f"{limit.name}:{key}"
        counted = None if self._redis is None else await self._count_shared(self._redis, quota.item, key)
        used, end = counted or self._memory.count(key, quota.window)
        if used > quota.amount:
            reset = _seconds_until(end)
            raise _too_many(limit, quota, reset, f"More than {quota.amount} requests in {quota.window} seconds.")
        return _headers(limit, quota, quota.amount - used, _seconds_until(end))

    def count_failure(self, limit: Limit | None, key: str) -> None:
        """Counts wrong credentials of the client `key`. Each process counts for itself, without asking Redis."""
        if limit is not None and limit.name in self._quotas:
            quota = self._quotas[limit.name]
            self._failures.count(f"{limit.name}:{key}", min(quota.window, FAILURE_SECONDS))

    def refusal(self, limit: Limit | None, key: str) -> TooManyRequests | None:
        """The error for the client `key` if it has sent too many wrong credentials in its current window."""
        quota = None if limit is None else self._quotas.get(limit.name)
        if limit is None or quota is None:
            return None
        used, end = self._failures.read(f"{limit.name}:{key}", min(quota.window, FAILURE_SECONDS))
        if used < min(quota.amount, MOST_FAILURES):
            return None
        return _too_many(limit, quota, _seconds_until(end), "Too many wrong credentials came from your address.")

    async def _count_shared(self, redis: Storage, item: limits.RateLimitItem, key: str) -> tuple[int, float] | None:
        """Like Windows.count(), but in Redis. None while Redis is unavailable."""
        if self._clock() < self._redis_away_until:
            return None
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                return await _increment(redis, item, key)
        except (StorageError, coredis.exceptions.RedisError, OSError, TimeoutError) as error:
            self._redis_away_until = self._clock() + REDIS_RETRY_SECONDS
            log.warning("Redis is unavailable; limits are counted in memory", extra={"reason": type(error).__name__})
            return None


def _quota(name: str, item: limits.RateLimitItem) -> _Quota:
    window = item.get_expiry()
    return _Quota(item, item.amount, window, f'"{name}";q={item.amount};w={window}')


def _headers(limit: Limit, quota: _Quota, remaining: int, reset: int) -> dict[str, str]:
    return {"RateLimit-Policy": quota.policy, "RateLimit": f'"{limit.name}";r={remaining};t={reset}'}


def _too_many(limit: Limit, quota: _Quota, reset: int, reason: str) -> TooManyRequests:
    headers = {"Retry-After": str(reset), **_headers(limit, quota, 0, reset)}
    return TooManyRequests(f"{reason} Try again in {reset} seconds. {limit.advice}".rstrip(), headers=headers)


def _seconds_until(end: float) -> int:
    """Whole seconds until the Unix time `end`, rounded up, at least 1."""
    return max(1, int(end - time.time() + 0.999))


async def _increment(storage: Storage, item: limits.RateLimitItem, key: str) -> tuple[int, float]:
    full = item.key_for(key)
    used = await storage.incr(full, item.get_expiry())
    return used, await storage.get_expiry(full)


def _client_key(request: web.Request) -> str:
    """RedisLimiter requires a key function for its decorator. We use only its storage."""
    return request.remote or ""


def parse_limits(text: str, known: Iterable[Limit]) -> Rates:
    """The rates of the `known` classes with the overrides in `text`, such as `publish=200/hour,read=off`.

    The text `off` removes all limits. Raises SettingsError.
    """
    if text.strip().lower() == "off":
        return {}
    rates = {limit.name: limit.default for limit in known}
    for entry in filter(None, (part.strip() for part in re.split(r"[,;]", text))):
        found = _OVERRIDE.fullmatch(entry)
        if not found or found[1] not in rates:
            raise SettingsError(
                f"REGISTRY_RATE_LIMITS wants `off` or entries like publish=200/hour; names: {', '.join(rates)}"
            )
        rates[found[1]] = found[2]
    try:
        return {name: limits.parse(rate) for name, rate in rates.items() if rate != "off"}
    except ValueError as error:
        raise SettingsError("REGISTRY_RATE_LIMITS wants rates such as 200/hour or 5 per 10 minutes") from error
