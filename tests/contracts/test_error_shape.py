"""Every route answers every kind of wrong request with an error of the same shape."""

from registry.app import API
from registry.web.route import SIGNED_IN
from tests.client import Registry
from tests.contracts.test_access import ask
from tests.web.shape import case, check_error

REVALIDATED = (
    *("/packages", "/packages/demo", "/packages/demo/versions", "/packages/demo/1.0.0", "/packages/demo/latest"),
    *("/packages/demo/stats", "/openapi.json"),
)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"}


def address_of(path: str) -> str:
    named = {"name": "demo", "version": "1.0.0", "id": "1", "badge": "version", "username": "ada"}
    return path.format(**named)


async def test_every_other_method_is_405_and_lists_the_allowed_ones(registry: Registry):
    for path in {route.path for route in API}:
        allowed = {route.method for route in API if route.path == path}
        allowed |= {"HEAD"} if "GET" in allowed else set()
        for method in METHODS - allowed:
            with case((method, path)):
                answer = await registry.call(method, registry.url + address_of(path))
                assert answer.status == 405
                assert {name.strip() for name in answer.headers["Allow"].split(",")} == allowed
                if method != "HEAD":
                    check_error(answer, 405)


async def test_unknown_addresses_are_404(registry: Registry):
    for path in ("/api", "/api/v1", "/api/v1/", "/api/v2/packages", "/api/v1/packages/", "/nowhere",
                 "/api/v1/packages/demo/1.0.0/", "//api/v1/packages", "/API/V1/packages", "/favicon.ico"):  # fmt: skip
        for method in ("GET", "POST", "DELETE"):
            with case((method, path)):
                check_error(await registry.call(method, registry.url + path), 404)


async def test_every_route_that_needs_credentials_is_401_without_them(registry: Registry):
    for route in API:
        for given in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"}):
            if route.access != SIGNED_IN:
                continue
            with case((route.id, given)):
                check_error(await ask(registry, route.id, given, 1), 401)


async def test_every_route_of_a_missing_package_is_404(registry: Registry):
    ada = await registry.user("ada", admin=True)
    for route in API:
        if "{name}" not in route.path or route.method == "PUT":
            continue
        with case(route.id):
            check_error(await ask(registry, route.id, ada.headers, 1), 404)


async def test_head_answers_as_get_does_without_the_body(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo", "1.0.0")
    for route in API:
        if route.method != "GET":
            continue
        with case(route.path):
            path = registry.url + address_of(route.path) + ("?q=demo" if "/search" in route.path else "")
            got, head = await ada.call("GET", path), await ada.call("HEAD", path)
            assert head.status == got.status
            assert head.body == b""
            assert head.headers["Content-Type"] == got.headers["Content-Type"]
            assert "X-Request-ID" in head.headers


async def test_metadata_is_revalidated_by_its_etag(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo", "1.0.0")
    for path in REVALIDATED:
        with case(path):
            first = await registry.get(path)
            tag = first.headers["ETag"]
            assert tag.startswith('"')
            for given in (tag, f"W/{tag}", "*", f'"other", {tag}'):
                again = await registry.get(path, headers={"If-None-Match": given})
                assert (again.status, again.body) == (304, b"")
                assert again.headers["ETag"] == tag
                assert again.headers["X-Request-ID"]
            assert (await registry.get(path, headers={"If-None-Match": '"other"'})).status == 200


async def test_redirects_have_a_request_id(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("look-alike", "1.0.0")
    answer = await registry.get("/packages/look_alike")
    assert answer.status in (301, 308)
    assert answer.headers["X-Request-ID"]
