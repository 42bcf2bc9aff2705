"""CORS: pages of other origins may call the API only if the settings name their origin."""

from registry.app import API
from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.web.raw import request, send_raw
from tests.web.shape import case, check_error

ORIGIN = "https://packages.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization",
}


def cors_headers(headers: dict[str, str]) -> set[str]:
    return {name for name in headers if name.lower().startswith("access-control-")}


def methods_by_path() -> dict[str, set[str]]:
    methods: dict[str, set[str]] = {}
    for route in API:
        path = route.path.format(name="demo", version="1.0.0", id="1", badge="version", username="grace")
        methods.setdefault(path, set()).update({"GET", "HEAD"} if route.method == "GET" else {route.method})
    return methods


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


async def test_a_preflight_approves_exactly_the_methods_of_the_path(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_CORS_ORIGINS=ORIGIN)
    for path, offered in methods_by_path().items():
        address = registry.url + path
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "FROB", "get", ""):
            with case((path, method)):
                headers = {**PREFLIGHT, "Access-Control-Request-Method": method}
                answer = await registry.call("OPTIONS", address, headers=headers)
                if method in offered:
                    assert answer.status == 200
                    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
                    assert answer.headers["Access-Control-Allow-Methods"] == method
                    assert answer.headers["Access-Control-Max-Age"] == "600"
                else:
                    check_error(answer, 403)
                    assert not cors_headers(answer.headers)
                    assert answer.headers["Vary"] == "Accept, Origin"


async def test_an_options_request_that_is_no_preflight_is_405(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_CORS_ORIGINS=ORIGIN)
    for headers in ({}, {"Origin": ORIGIN}, {"Access-Control-Request-Method": "GET"}):
        with case(headers):
            answer = await registry.call("OPTIONS", "/packages", headers=headers)
            check_error(answer, 405)
            assert answer.headers["Allow"] == "GET, HEAD, POST"
            assert answer.headers["Vary"] == "Accept, Origin"


async def test_a_405_names_the_methods_of_the_path(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_CORS_ORIGINS=ORIGIN)
    for path, offered in methods_by_path().items():
        for method in ("OPTIONS", "PROPFIND"):
            with case((path, method)):
                answer = await registry.call(method, registry.url + path)
                check_error(answer, 405)
                assert set(answer.headers["Allow"].split(", ")) == offered


async def test_a_page_may_read_the_errors_of_addresses_without_a_route(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_CORS_ORIGINS=ORIGIN)
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("OPTIONS", "/nowhere", 404),
        ("PUT", "/packages", 405),
        ("GET", f"{registry.url}/nowhere", 404),
    ):
        for origin in (ORIGIN, "https://evil.example"):
            with case((method, path, origin)):
                answer = await registry.call(method, path, headers={**PREFLIGHT, "Origin": origin})
                check_error(answer, status)
                assert answer.headers.get("Access-Control-Allow-Origin") == (ORIGIN if origin == ORIGIN else None)
                assert ("X-Request-ID" in answer.headers.get("Access-Control-Expose-Headers", "")) == (origin == ORIGIN)


async def test_odd_bytes_in_the_headers_of_a_preflight_never_give_a_5xx(make_registry: MakeRegistry):
    for origins in (ORIGIN, "*"):
        registry = await make_registry(REGISTRY_CORS_ORIGINS=origins)
        for name in ("Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"):
            for value in ("\xff\xfe", "a" * 8000, "", ",,;:", "a b, \xff, x-good"):
                for line in ("OPTIONS /api/v1/packages HTTP/1.1", "GET /api/v1/packages HTTP/1.1"):
                    with case((origins, name, value, line)):
                        headers = {**PREFLIGHT, name: value}
                        sent = request(line, *(f"{each}: {text}" for each, text in headers.items()))
                        answer = await send_raw(registry, sent)
                        assert answer.status in (200, 403, 405)


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
