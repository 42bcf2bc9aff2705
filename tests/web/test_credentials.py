"""The limit on wrong credentials: beyond it, they cost no database queries."""

import asyncio
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from aiohttp.web_protocol import RequestHandler

from registry.accounts import tokens
from registry.db.engine import Database
from tests.client import PASSWORD, Registry
from tests.conftest import SECRET, MakeRegistry
from tests.web.shape import case, check_error

FIVE = "read=5/minute,publish=5/minute,report=5/minute,default=50/hour,register=50/hour,login=50/hour"


class Uses:
    """Counts how often requests use a database."""

    def __init__(self) -> None:
        self.count = 0


@pytest.fixture
def uses(monkeypatch: pytest.MonkeyPatch) -> Uses:
    uses = Uses()
    for name in ("read", "transaction"):
        original = getattr(Database, name)

        def counting(self, *args, original=original, **more):
            # Background work uses the database, too, but in other tasks.
            uses.count += asyncio.current_task().get_coro().__qualname__.startswith(RequestHandler.__name__)
            return original(self, *args, **more)

        monkeypatch.setattr(Database, name, counting)
    return uses


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def signed(subject: int, number: int) -> str:
    """A login with a valid signature, for a user that does not exist."""
    now = datetime.now(UTC)
    claims = {"sub": str(subject), "iat": now, "exp": now + timedelta(days=1), "jti": f"made-{number}", "ver": 1}
    return jwt.encode(claims, SECRET, algorithm="HS256")


async def test_random_api_tokens_cost_no_query_once_the_address_is_over_its_limit(
    make_registry: MakeRegistry, uses: Uses
):
    registry = await make_registry(REGISTRY_RATE_LIMITS=FIVE)
    for method, path in (("GET", "/auth/me"), ("PUT", "/packages/demo/1.0.0")):
        with case((method, path)):
            before = uses.count
            for number in range(15):
                answer = await registry.call(method, path, headers=bearer(tokens.make_api_token()))
                check_error(answer, 401 if number < 5 else 429)
            assert uses.count - before == 5
            assert answer.json["code"] == "rate_limited"
            assert 0 < int(answer.headers["Retry-After"]) <= 60
            assert ";r=0;" in answer.headers["RateLimit"]


async def test_anonymous_requests_do_not_count_as_wrong_credentials(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS=FIVE)
    ada = await registry.user("ada")
    made = await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["read"]})
    for _ in range(8):
        answer = await registry.get("/packages")
    assert answer.status == 429
    # The token is new to this process, and the address has used up its share.
    assert (await registry.get("/auth/me", headers=bearer(made.json["token"]))).status == 200


async def test_a_flood_of_tokens_does_not_lock_out_users_of_the_same_address(make_registry: MakeRegistry, uses: Uses):
    registry = await make_registry(REGISTRY_RATE_LIMITS=FIVE)
    ada, bob = await registry.user("ada"), await registry.user("bob")
    made = await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["read"]})
    known = bearer(made.json["token"])
    assert (await registry.get("/auth/me", headers=known)).status == 200
    for _ in range(10):
        await registry.get("/auth/me", headers=bearer(tokens.make_api_token()))
    for headers in (known, bob.headers):
        with case(headers):
            assert (await registry.get("/auth/me", headers=headers)).status == 200
    login = await registry.call("POST", "/auth/login", json={"username": "ada", "password": PASSWORD})
    assert (await registry.get("/auth/me", headers=bearer(login.json["token"]))).status == 200


async def test_a_revoked_token_is_refused_like_a_random_one(make_registry: MakeRegistry, uses: Uses):
    registry = await make_registry(REGISTRY_RATE_LIMITS=FIVE)
    ada = await registry.user("ada")
    assert (await ada.call("GET", "/auth/me")).status == 200
    assert (await ada.call("POST", "/auth/logout")).status == 200
    before = uses.count
    for number in range(10):
        check_error(await ada.call("GET", "/auth/me"), 401 if number < 5 else 429)
    assert uses.count - before == 5


async def test_a_signed_login_that_failed_once_is_refused_like_a_random_token(make_registry: MakeRegistry, uses: Uses):
    registry = await make_registry(REGISTRY_RATE_LIMITS=FIVE)
    for _ in range(5):
        await registry.get("/auth/me", headers=bearer(tokens.make_api_token()))
    before, login = uses.count, signed(999, 1)
    for _ in range(10):
        check_error(await registry.get("/auth/me", headers=bearer(login)), 429)
    assert uses.count - before == 1


async def test_another_address_is_not_refused(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS=FIVE, REGISTRY_TRUSTED_PROXIES="127.0.0.0/8")
    for number in range(8):
        headers = {**bearer(tokens.make_api_token()), "X-Forwarded-For": f"2001:db8::{number}"}
        answer = await registry.get("/auth/me", headers=headers)
    assert answer.status == 429
    headers["X-Forwarded-For"] = "2001:db8:0:1::1"
    assert (await registry.get("/auth/me", headers=headers)).status == 401


async def test_tokens_in_a_body_are_limited_as_well(make_registry: MakeRegistry, uses: Uses):
    registry = await make_registry(REGISTRY_RATE_LIMITS="read=5/minute,report=50/minute")
    before = uses.count
    for number in range(10):
        answer = await registry.call("POST", "/auth/verify", json={"token": tokens.make_api_token()})
        assert answer.status == (200 if number < 5 else 429)
    assert uses.count - before == 5
    before = uses.count
    alerts = [{"token": tokens.make_api_token()} for _ in range(60)]
    check_error(await registry.call("POST", "/auth/tokens/report", json=alerts), 429)
    assert uses.count - before == 50


async def test_verify_finds_the_user_of_a_header_with_one_query(registry: Registry, uses: Uses):
    ada = await registry.user("ada")
    before = uses.count
    assert (await ada.call("POST", "/auth/verify")).json["user"]["username"] == "ada"
    assert uses.count - before == 1


async def test_without_limits_every_token_is_looked_up(registry: Registry, uses: Uses):
    before = uses.count
    for _ in range(10):
        check_error(await registry.get("/auth/me", headers=bearer(tokens.make_api_token())), 401)
    assert uses.count - before == 10
