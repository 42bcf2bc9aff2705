"""The middleware applies the access, limit, credential source and error renderer of each route."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from registry.app import LIMITS
from registry.errors import DatabaseUnavailable, Forbidden, RegistryError, Unauthorized
from registry.web import middleware
from registry.web.addresses import ClientAddress
from registry.web.answers import CACHE_POLICY, CachePolicy
from registry.web.context import CONTEXT, IN_FLIGHT, InFlight
from registry.web.credentials import CREDENTIAL_CHECK, CredentialCheck
from registry.web.limits import RateLimiter, parse_limits
from registry.web.middleware import Gate
from registry.web.route import BEARER, DEFAULT, OPEN, READ, READS, SIGNED_IN, Limit, Route

COOKIE = "cookie"


@dataclass
class Person:
    user_id: int
    username: str


class Source:
    """Credentials that are a user's name, in one header."""

    wrong_is_none = False

    def __init__(self, header: str, hint: str) -> None:
        self._header = header
        self.hint = hint

    def find(self, request: web.Request) -> str | None:
        return request.headers.get(self._header)

    def is_signed(self, credentials: str) -> bool:
        return False

    async def look_up(self, request: web.Request, credentials: str) -> Person:
        if credentials == "away":
            raise DatabaseUnavailable("The database is unavailable.")
        if credentials != "ada":
            raise Unauthorized("There is no such user.")
        return Person(1, credentials)


async def say_who(request: web.Request) -> web.StreamResponse:
    principal = request[CONTEXT].principal
    return web.Response(text=principal.username if principal else "nobody")


async def refuse(request: web.Request) -> web.StreamResponse:
    raise Forbidden("Not today.")


def page(request: web.Request, error: RegistryError, request_id: str) -> web.StreamResponse:
    return web.Response(status=error.status, text=f"<h1>{error.title}</h1>", content_type="text/html")


RARE = Limit("rare", "1/hour")
ROUTES = (
    Route("GET", "/open", say_who, "", OPEN, None),
    Route("GET", "/mine", say_who, "", SIGNED_IN, READS),
    Route("GET", "/rare", say_who, "", OPEN, RARE),
    Route("GET", "/page", say_who, "", SIGNED_IN, None, credentials=COOKIE, render_error=page),
    Route("GET", "/read", say_who, "", READ, None),
    Route("POST", "/read", say_who, "", READ, None),
    Route("GET", "/refused", refuse, "", OPEN, None),
    Route("GET", "/refused-page", refuse, "", OPEN, None, render_error=page),
)


@pytest.fixture
async def client() -> AsyncIterator[TestClient]:
    limiter = RateLimiter(parse_limits("", [DEFAULT, READS, RARE]))
    routes: dict[web.AbstractRoute, Route] = {}
    sources = {
        BEARER: Source("Authorization", "Send Authorization."),
        COOKIE: Source("Cookie", "Send a cookie."),
    }
    gate = Gate(routes, sources, limiter, ClientAddress(()), private=False)
    app = web.Application(middlewares=[gate.middleware()])
    app[IN_FLIGHT] = InFlight()
    app[CREDENTIAL_CHECK] = CredentialCheck(limiter)
    app[CACHE_POLICY] = CachePolicy(private=False, cors=False)
    for route in ROUTES:
        routes[app.router.add_route(route.method, route.path, route.handler)] = route
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_two_routes_of_one_handler_have_separate_access_and_limits(client: TestClient):
    ada = {"Authorization": "ada"}
    for path, headers, status, text, policy in (
        ("/open", {}, 200, "nobody", None),
        ("/open", ada, 200, "nobody", None),
        ("/mine", ada, 200, "ada", '"read";q=1000;w=60'),
        ("/mine", {}, 401, None, '"read";q=1000;w=60'),
        ("/rare", {}, 200, "nobody", '"rare";q=1;w=3600'),
        ("/rare", {}, 429, None, '"rare";q=1;w=3600'),
        ("/open", {}, 200, "nobody", None),
    ):
        answer = await client.get(path, headers=headers)
        assert (answer.status, answer.headers.get("RateLimit-Policy")) == (status, policy), path
        assert text is None or await answer.text() == text


async def test_a_route_reads_credentials_only_from_its_own_source(client: TestClient):
    assert (await client.get("/page", headers={"Cookie": "ada"})).status == 200
    assert (await client.get("/page", headers={"Authorization": "ada"})).status == 401
    assert (await client.get("/mine", headers={"Cookie": "ada"})).status == 401
    assert (await (await client.get("/mine")).json())["detail"] == "Send Authorization."


async def test_only_reads_are_served_anonymously_while_users_cannot_be_looked_up(client: TestClient):
    for method, path, status in (("GET", "/read", 200), ("POST", "/read", 503), ("GET", "/mine", 503)):
        answer = await client.request(method, path, headers={"Authorization": "away"})
        assert answer.status == status, (method, path)
    assert (await client.post("/read")).status == 200


async def test_a_route_uses_its_own_error_renderer(client: TestClient):
    problem = await client.get("/refused")
    assert (problem.status, problem.content_type) == (403, "application/json")
    for path, status in (("/refused-page", 403), ("/page", 401)):
        answer = await client.get(path)
        assert (answer.status, answer.content_type) == (status, "text/html")
        assert (await answer.text()).startswith("<h1>")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Request-ID"]


def test_a_route_that_names_no_limit_gets_the_default_limit():
    assert Route("GET", "/x", say_who, "").limit is DEFAULT
    assert replace(DEFAULT) == Limit("default", "50/hour")


def test_the_web_package_names_no_limit_of_another_package():
    names = set(LIMITS) - {DEFAULT.name, READS.name}
    assert names
    for file in Path(middleware.__file__).parent.glob("*.py"):
        for name in names:
            assert f'"{name}"' not in file.read_text("utf-8"), (file.name, name)
