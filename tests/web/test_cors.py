"""CORS: pages of other origins may call the API only if the settings name their origin."""

from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.web.shape import case, check_error

ORIGIN = "https://packages.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization",
}


def cors_headers(headers: dict[str, str]) -> set[str]:
    return {name for name in headers if name.lower().startswith("access-control-")}


async def test_no_origin_is_allowed_by_default(registry: Registry):
    for method, path in (
        ("GET", "/packages"),
        ("GET", "/packages/nobody"),
        ("HEAD", "/packages"),
        ("OPTIONS", "/packages"),
    ):
        with case((method, path)):
            answer = await registry.call(method, path, headers=PREFLIGHT)
            assert not cors_headers(answer.headers)
            assert answer.headers["X-Request-ID"]
    check_error(answer, 405)


async def test_a_named_origin_may_read_the_answers_and_their_headers(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_CORS_ORIGINS=f"https://other.example,{ORIGIN}", REGISTRY_RATE_LIMITS="")
    for method, path, status in (
        ("GET", "/packages", 200),
        ("HEAD", "/packages", 200),
        ("GET", "/packages/nobody", 404),
        ("GET", "/auth/me", 401),
        ("DELETE", "/packages/nobody/1.0.0", 401),
    ):
        with case((method, path)):
            answer = await registry.call(method, path, headers={"Origin": ORIGIN})
            assert answer.status == status
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            exposed = {name.strip().lower() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
            assert {"x-request-id", "ratelimit", "ratelimit-policy"} <= exposed
            assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_other_origins_get_no_cors_headers(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_CORS_ORIGINS=ORIGIN)
    for origin in ("https://evil.example", f"{ORIGIN}.evil.example", "http://packages.example", "null", "*", ""):
        with case(origin):
            answer = await registry.get("/packages", headers={"Origin": origin})
            assert answer.status == 200
            assert not cors_headers(answer.headers)
            asked = await registry.call("OPTIONS", "/packages", headers={**PREFLIGHT, "Origin": origin})
            assert "Access-Control-Allow-Origin" not in asked.headers
            check_error(asked, 403)


async def test_a_preflight_says_what_a_named_origin_may_send(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_CORS_ORIGINS=ORIGIN, REGISTRY_RATE_LIMITS="publish=1/hour")
    for path, method in (
        ("/packages", "POST"),
        ("/packages/demo/1.0.0", "PUT"),
        ("/packages/demo/1.0.0", "DELETE"),
        ("/search", "GET"),
    ):
        with case((path, method)):
            answer = await registry.call(
                "OPTIONS", path, headers={**PREFLIGHT, "Access-Control-Request-Method": method}
            )
            assert answer.status in (200, 204)
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert method in answer.headers["Access-Control-Allow-Methods"]
            assert answer.headers["Access-Control-Allow-Headers"].lower() == "authorization"
            assert answer.headers["X-Request-ID"]
            assert "RateLimit" not in answer.headers


async def test_an_options_request_without_preflight_headers_is_refused(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_CORS_ORIGINS=ORIGIN)
    check_error(await registry.call("OPTIONS", "/packages"), 403)
    check_error(await registry.call("OPTIONS", "/packages", headers={"Origin": ORIGIN}), 403)
    check_error(await registry.call("OPTIONS", "/nowhere", headers=PREFLIGHT), 404)


async def test_any_origin_may_be_allowed(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_CORS_ORIGINS="*")
    answer = await registry.get("/packages", headers={"Origin": "https://anyone.example"})
    assert answer.headers["Access-Control-Allow-Origin"] in ("*", "https://anyone.example")
    assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_credentials_are_allowed_to_a_named_origin_when_that_is_set(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_CORS_ORIGINS=ORIGIN, REGISTRY_CORS_CREDENTIALS="true")
    answer = await registry.get("/packages", headers={"Origin": ORIGIN})
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
