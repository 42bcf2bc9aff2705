"""Rate limits, and the client addresses that they count by."""

import asyncio
import logging
import re

import pytest

from registry.accounts import tokens
from registry.app import API, LIMITS, ROUTES
from registry.db.engine import Statement
from registry.errors import SettingsError
from registry.keys import DB
from registry.web import addresses, limits
from registry.web.addresses import ClientAddress
from registry.web.limits import RateLimiter, parse_limits
from registry.web.route import Limit
from tests.client import PASSWORD, Answer, Registry, tarball
from tests.conftest import MakeRegistry
from tests.servers import Redis
from tests.until import until
from tests.web.shape import case, check_error

HOUR, MINUTE = 3600, 60


def policy(answer: Answer) -> tuple[str, int, int]:
    """(name, quota, window in seconds) of RateLimit-Policy."""
    found = re.fullmatch(r'"([a-z]+)";q=(\d+);w=(\d+)', answer.headers["RateLimit-Policy"])
    assert found
    return found[1], int(found[2]), int(found[3])


def remaining(answer: Answer) -> int:
    """The remaining requests in RateLimit. Fails unless its reset lies within the window."""
    found = re.fullmatch(r'"([a-z]+)";r=(\d+);t=(\d+)', answer.headers["RateLimit"])
    assert found
    name, _, window = policy(answer)
    assert found[1] == name
    assert 0 < int(found[3]) <= window
    return int(found[2])


async def test_every_route_has_its_documented_default(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="")
    ada = await registry.user("ada")
    data = tarball(name="demo", version="1.0.0", description="A demo")
    await ada.put("demo", "1.0.0", data=data)
    cases = {
        ("POST", "/auth/register"): ("register", 5, HOUR),
        ("POST", "/auth/login"): ("login", 10, HOUR),
        ("POST", "/auth/password"): ("login", 10, HOUR),
        ("POST", "/auth/logout"): ("default", 50, HOUR),
        ("POST", "/auth/tokens"): ("default", 50, HOUR),
        ("GET", "/auth/tokens"): ("read", 1000, MINUTE),
        ("POST", "/packages"): ("publish", 50, HOUR),
        ("PUT", "/packages/demo/1.0.1"): ("publish", 50, HOUR),
        ("DELETE", "/packages/demo/9.9.9"): ("delete", 50, HOUR),
        ("PATCH", "/packages/demo/1.0.0"): ("default", 50, HOUR),
        ("GET", "/packages"): ("read", 1000, MINUTE),
        ("GET", "/packages/demo"): ("read", 1000, MINUTE),
        ("HEAD", "/packages/demo"): ("read", 1000, MINUTE),
        ("GET", "/packages/demo/latest/tarball"): ("download", 1000, MINUTE),
        ("GET", "/search?q=demo"): ("search", 1000, MINUTE),
        ("GET", "/search/suggest?q=de"): ("search", 1000, MINUTE),
        ("GET", "/stats"): ("read", 1000, MINUTE),
    }
    for (method, path), wanted in cases.items():
        with case((method, path)):
            answer = await registry.call(method, path)
            assert policy(answer) == wanted
            assert 0 <= remaining(answer) < wanted[1]


def test_limits_have_distinct_names():
    assert {route.limit for route in ROUTES if route.limit} == set(LIMITS.values())


def test_only_health_routes_have_no_limit():
    assert {route.path.removeprefix("/api/v1") for route in API if route.limit is None} == {
        "/health",
        "/health/live",
        "/health/ready",
    }


async def test_the_sixth_registration_in_an_hour_is_429(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="")
    left = []
    for number in range(5):
        body = {"username": f"user-{number}", "password": PASSWORD}
        answer = await registry.call("POST", "/auth/register", json=body)
        assert answer.status == 201
        left.append(remaining(answer))
    assert left == [4, 3, 2, 1, 0]
    answer = await registry.call("POST", "/auth/register", json={"username": "one-more", "password": PASSWORD})
    check_error(answer, 429)
    assert answer.json["code"] == "rate_limited"
    assert remaining(answer) == 0
    assert 0 < int(answer.headers["Retry-After"]) <= HOUR
    assert (await registry.call("POST", "/auth/login", json={"username": "user-0", "password": PASSWORD})).status == 200


async def test_refused_requests_count_as_well(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="login=3/hour")
    statuses = [(await registry.call("POST", "/auth/login", data=b"{")).status for _ in range(4)]
    assert statuses == [415, 415, 415, 429]


async def test_all_credentials_of_a_user_share_one_limit(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="read=20/minute,register=50/hour,default=50/hour,login=50/hour")
    ada, bob = await registry.user("ada"), await registry.user("bob")
    made = await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["read"]})
    api = {"Authorization": f"Bearer {made.json['token']}"}
    assert remaining(await ada.call("GET", "/packages")) == 19
    assert remaining(await registry.get("/packages", headers=api)) == 18
    assert remaining(await ada.call("GET", "/auth/me")) == 17
    assert remaining(await bob.call("GET", "/packages")) == 19
    assert remaining(await registry.get("/packages")) == 19


async def test_wrong_credentials_count_for_the_address(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="read=5/minute")
    ada = await registry.user("ada")
    forged = [tokens.make_api_token() for _ in range(4)]
    headers = [f"Bearer {token}" for token in (*forged, "syn_nonsense", f"{ada.token[:-4]}AAAA", "a.b.c")]
    answers = [await registry.get("/auth/me", headers={"Authorization": value}) for value in headers]
    assert [answer.status for answer in answers] == [401] * 5 + [429] * 2
    assert [remaining(answer) for answer in answers] == [4, 3, 2, 1, 0, 0, 0]
    assert remaining(await ada.call("GET", "/auth/me")) == 4


async def test_a_revoked_token_does_not_count_against_its_user(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="read=20/minute")
    ada = await registry.user("ada")
    login = await registry.call("POST", "/auth/login", json={"username": "ada", "password": PASSWORD})
    await ada.call("POST", "/auth/logout")
    for _ in range(5):
        assert (await ada.call("GET", "/auth/me")).status == 401
    answer = await registry.get("/auth/me", headers={"Authorization": f"Bearer {login.json['token']}"})
    assert remaining(answer) == 19


async def test_off_removes_every_limit(registry: Registry):
    for _ in range(12):
        answer = await registry.call("POST", "/auth/login", json={"username": "nobody", "password": PASSWORD})
        assert answer.status == 401
    assert "RateLimit" not in answer.headers
    assert "RateLimit-Policy" not in answer.headers


async def test_x_forwarded_for_counts_only_from_a_trusted_proxy(make_registry: MakeRegistry):
    async def left(registry: Registry, forwarded: str) -> int:
        return remaining(await registry.get("/packages", headers={"X-Forwarded-For": forwarded}))

    behind = await make_registry(
        REGISTRY_RATE_LIMITS="read=9/minute", REGISTRY_TRUSTED_PROXIES="127.0.0.0/8,10.0.0.0/8"
    )
    assert await left(behind, "203.0.113.7") == 8
    assert await left(behind, "203.0.113.8") == 8
    assert await left(behind, "203.0.113.7") == 7
    assert await left(behind, "198.51.100.1, 203.0.113.7, 10.1.2.3") == 6
    open_ = await make_registry(REGISTRY_RATE_LIMITS="read=9/minute")
    assert await left(open_, "203.0.113.7") == 8
    assert await left(open_, "203.0.113.8") == 7


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.9:51234"], "203.0.113.9"),
        ("10.0.0.1", ['"203.0.113.9"'], "203.0.113.9"),
        ("10.0.0.1", ['"203.0.113.9:51234"'], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("10.0.0.1", ['"[2001:db8::1]:443"'], "2001:db8::1"),
        ("10.0.0.1", ["2001:DB8:0:0::1"], "2001:db8::1"),
        ("10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1:9, 203.0.113.7:80, 10.0.0.2:80"], "203.0.113.7"),
        ("10.0.0.1", ["fe80::1%eth0"], "fe80::1"),
        ("10.0.0.1", ["[fe80::1%eth0]:443"], "fe80::1"),
        ("fe80::1%eth0", [], "fe80::1"),
        ("10.0.0.1", ["203.0.113.9,", ", "], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9:"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:http"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9%eth0"], "10.0.0.1"),
        ("10.0.0.1", ["[203.0.113.9]"], "10.0.0.1"),
        ("10.0.0.1", ["[2001:db8::1"], "10.0.0.1"),
        ("10.0.0.1", ["2001:db8::1]"], "10.0.0.1"),
        ("10.0.0.1", ["[]"], "10.0.0.1"),
        ("10.0.0.1", ['"'], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.999"], "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("203.0.113.9", ["1.1.1.1"], "203.0.113.9"),
        ("", ["1.1.1.1"], "unknown"),
    ],
)
def test_the_client_is_the_last_address_before_the_trusted_proxies(peer: str, forwarded: list[str], client: str):
    assert ClientAddress(("10.0.0.0/8",)).of(_Request(peer, forwarded)) == client  # type: ignore[arg-type]


async def test_the_access_log_names_the_client_also_for_unknown_addresses(
    make_registry: MakeRegistry, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "registry.access")
    registry = await make_registry(REGISTRY_TRUSTED_PROXIES="127.0.0.0/8")
    for address in ("/packages", "/nothing"):
        await registry.get(address, headers={"X-Forwarded-For": "203.0.113.7"})
    logged = [(record.status, record.client) for record in caplog.records if record.name == "registry.access"]  # type: ignore[attr-defined]
    assert logged == [(200, "203.0.113.7"), (404, "203.0.113.7")]


async def test_each_client_behind_a_proxy_that_adds_ports_has_its_own_limit_and_address(
    make_registry: MakeRegistry,
):
    registry = await make_registry(
        REGISTRY_RATE_LIMITS="download=2/minute,register=50/hour",
        REGISTRY_TRUSTED_PROXIES="127.0.0.0/8",
        REGISTRY_DOWNLOAD_IP="full",
    )
    await (await registry.user("ada")).publish("demo")
    sent = ["203.0.113.9:51234", "203.0.113.9:51235", '"203.0.113.10"', "[2001:db8::1]:443", "fe80::1%eth0"]
    for forwarded in sent:
        with case(forwarded):
            answer = await registry.get("/packages/demo/1.0.0/tarball", headers={"X-Forwarded-For": forwarded})
            assert answer.status == 200
    await registry.flush()
    assert (await registry.get("/packages/demo/stats")).json["downloads"]["total"] == len(sent)
    async with registry.app[DB].read() as conn:
        rows = await conn.all(Statement("SELECT DISTINCT host(ip_address) AS address FROM downloads", {}))
    assert {row.address for row in rows} == {"203.0.113.9", "203.0.113.10", "2001:db8::1", "fe80::1"}


async def test_health_is_never_limited_and_needs_no_redis(make_registry: MakeRegistry):
    limits_ = "default=1/hour,read=1/hour"
    registry = await make_registry(REGISTRY_RATE_LIMITS=limits_, REGISTRY_REDIS_URL="redis://127.0.0.1:9/0")
    for path in ("/health", "/health/live", "/health/ready"):
        for address in (registry.url + path, path):
            for _ in range(3):
                with case(address):
                    answer = await registry.get(address)
                    assert answer.status == 200
                    assert not {"RateLimit", "RateLimit-Policy"} & set(answer.headers)
    for path in ("/metrics", "/openapi.json", "/docs"):
        with case(path):
            assert policy(await registry.get(path))[0] == "read"


class _Request:
    """A request with a peer address and X-Forwarded-For."""

    def __init__(self, peer: str, forwarded: list[str]) -> None:
        self.remote = peer
        self.headers = _Headers(forwarded)


class _Headers:
    def __init__(self, forwarded: list[str]) -> None:
        self._forwarded = forwarded

    def getall(self, name: str, default: list[str]) -> list[str]:
        assert name == "X-Forwarded-For"
        return self._forwarded or default


def test_an_override_changes_only_the_limit_that_it_names():
    known = LIMITS.values()
    chosen = parse_limits("publish=200/hour, read=5000/minute ; login=off", known)
    assert (chosen["publish"].amount, chosen["publish"].get_expiry()) == (200, HOUR)
    assert (chosen["read"].amount, chosen["read"].get_expiry()) == (5000, MINUTE)
    assert "login" not in chosen
    assert chosen["register"].amount == 5
    assert parse_limits("", known) == parse_limits(" , ", known)
    assert parse_limits("OFF", known) == {}


@pytest.mark.parametrize(
    "text", ["publish", "publish=", "nothing=5/hour", "publish=5/fortnight", "publish=-1/hour", "5/hour", "on"]
)
def test_invalid_overrides_are_refused(text: str):
    with pytest.raises(SettingsError, match="REGISTRY_RATE_LIMITS"):
        parse_limits(text, LIMITS.values())


async def test_redis_shares_the_limits_of_two_services(make_registry: MakeRegistry, redis: Redis):
    variables = {"REGISTRY_RATE_LIMITS": "search=7/minute", "REGISTRY_REDIS_URL": redis.url}
    first, second = await make_registry(**variables), await make_registry(**variables)
    left = [remaining(await each.get("/search?q=a")) for each in (first, second, first, second)]
    assert left == [6, 5, 4, 3]


async def test_concurrent_requests_cannot_exceed_the_limit(make_registry: MakeRegistry, redis: Redis):
    variables = {"REGISTRY_RATE_LIMITS": "download=10/minute", "REGISTRY_REDIS_URL": redis.url}
    services = [await make_registry(**variables), await make_registry(**variables)]
    path = "/packages/demo/1.0.0/tarball"
    answers = await asyncio.gather(*(services[number % 2].get(path) for number in range(40)))
    assert sorted(answer.status for answer in answers) == [404] * 10 + [429] * 30


async def test_limits_are_counted_in_memory_while_redis_is_unavailable(redis: Redis):
    now = 100.0
    limit = Limit("delete", "30/hour")
    limiter = RateLimiter(parse_limits("", [limit]), redis.url, clock=lambda: now)

    async def left() -> int:
        headers = await limiter.hit(limit, "user:1")
        return int(headers["RateLimit"].partition(";r=")[2].partition(";")[0])

    assert [await left(), await left()] == [29, 28]
    redis.stop()
    try:
        assert [await left(), await left()] == [29, 28]
    finally:
        redis.start()
    assert await left() == 27, "Redis is not asked again before the pause is over"

    async def is_counted_by_redis() -> bool:
        nonlocal now
        now += limits.REDIS_RETRY_SECONDS
        return await left() == 29

    await until(is_counted_by_redis)


async def test_requests_are_served_without_a_reachable_redis(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="", REGISTRY_REDIS_URL="redis://127.0.0.1:9/0")
    answers = [await registry.get("/packages") for _ in range(3)]
    assert [remaining(answer) for answer in answers] == [999, 998, 997]


async def test_a_window_ends(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="search=1/second")
    async with asyncio.timeout(20):
        while (await registry.get("/search?q=a")).status != 429:
            pass
        while (await registry.get("/search?q=a")).status != 200:
            await asyncio.sleep(0.05)


async def test_limits_of_users_and_classes_never_share_a_count():
    classes = [Limit("read", "9/minute"), Limit("search", "9/minute")]
    limiter = RateLimiter(parse_limits("", classes))
    for limit in classes:
        for key in ("user:1", "user:11", "ip:1"):
            headers = await limiter.hit(limit, key)
            assert ";r=8;" in headers["RateLimit"]


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("2001:db8::1", "2001:db8::ffff:0:0:9", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("unknown", "192.0.2.2", False),
    ],
)
def test_addresses_of_one_ipv6_network_are_one_client(one: str, other: str, together: bool):
    assert (addresses.network_key(one) == addresses.network_key(other)) is together


async def test_addresses_of_one_ipv6_network_share_one_limit(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_TRUSTED_PROXIES="127.0.0.0/8", REGISTRY_RATE_LIMITS="read=2/hour")
    statuses = [
        (await registry.get("/packages", headers={"X-Forwarded-For": f"2001:db8::{number}"})).status
        for number in (1, 2, 3)
    ]
    assert statuses == [200, 200, 429]


def test_long_entries_are_no_addresses_and_use_no_memory():
    """A client could otherwise fill the cache of addresses with entries of 8 KiB."""
    before = addresses._parse.cache_info().currsize
    for number in range(100):
        assert addresses.parse(f"{number}" + "x" * addresses.MAX_ENTRY) is None
    assert addresses._parse.cache_info().currsize == before
    assert str(addresses.parse('"[2001:db8::1]:443"')) == "2001:db8::1"
