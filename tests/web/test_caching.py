"""Vary and Cache-Control of every kind of answer."""

import pytest
from multidict import CIMultiDict

from registry.app import API
from registry.web.answers import add_vary
from tests.client import Answer, Registry
from tests.conftest import MakeRegistry
from tests.contracts.test_access import ask
from tests.web.shape import case

ORIGIN = "https://packages.example"
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}


def vary(answer: Answer) -> set[str]:
    return {name.strip() for value in answer.headers.getall("Vary", []) for name in value.split(",")}


def directives(answer: Answer) -> set[str]:
    return {part.strip() for part in answer.headers["Cache-Control"].split(",")}


async def test_every_answer_of_a_cors_route_varies_by_origin(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_CORS_ORIGINS=ORIGIN)
    ada = await registry.user("ada")
    await ada.publish("look-alike")
    tag = (await registry.get("/packages/look-alike")).headers["ETag"]
    tarball = "/packages/look-alike/1.0.0/tarball"
    for method, path, status, headers in (
        ("GET", "/packages/look-alike", 200, {}),
        ("HEAD", "/packages/look-alike", 200, {}),
        ("GET", "/packages/look-alike", 304, {"If-None-Match": tag}),
        ("GET", "/packages/look_alike", 301, {}),
        ("GET", tarball, 200, {}),
        ("GET", tarball, 206, {"Range": "bytes=1-9"}),
        ("GET", tarball, 416, {"Range": "bytes=99999999-"}),
        ("GET", tarball, 412, {"If-Match": '"other"'}),
        ("GET", "/search?q=look", 200, {}),
        ("GET", "/search?q=", 400, {}),
        ("GET", "/packages/look-alike/badge/version.svg", 200, {}),
        ("GET", "/packages/nobody", 404, {}),
        ("GET", "/auth/me", 401, {}),
        ("POST", "/packages/look-alike", 405, {}),
        ("GET", "/health", 200, {}),
        ("OPTIONS", "/packages", 200, PREFLIGHT),
        ("OPTIONS", "/packages", 403, {**PREFLIGHT, "Origin": "https://evil.example"}),
    ):
        for origin in ({}, {"Origin": ORIGIN}, {"Origin": "https://evil.example"}):
            if method == "OPTIONS" and origin:
                continue
            with case((method, path, status, origin)):
                answer = await registry.call(method, path, headers={**headers, **origin})
                assert answer.status == status
                assert "Origin" in vary(answer)


async def test_no_answer_varies_by_origin_when_no_other_origin_is_allowed(registry: Registry):
    for path in ("/packages", "/packages/nobody"):
        with case(path):
            assert "Origin" not in vary(await registry.get(path, headers={"Origin": ORIGIN}))


async def test_errors_and_redirects_are_never_stored(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("look-alike")
    for method, path, status, headers in (
        ("GET", "/packages/look_alike", 301, {}),
        ("PATCH", "/packages/look_alike", 308, {}),
        ("GET", "/packages/look_alike/latest/tarball", 301, {}),
        ("GET", "/packages/nobody", 404, {}),
        ("GET", "/nowhere", 404, {}),
        ("POST", "/packages/nobody", 405, {}),
        ("GET", "/packages?limit=x", 400, {}),
        ("GET", "/packages/look-alike/1.0.0/tarball", 416, {"Range": "bytes=99999999-"}),
        ("GET", "/packages/look-alike/1.0.0/tarball", 412, {"If-Match": '"other"'}),
    ):
        with case((method, path, status)):
            body = {"json": {"deprecated": None}} if method == "PATCH" else {}
            answer = await ada.call(method, path, headers=headers, **body)
            assert answer.status == status
            assert directives(answer) == {"no-store"}


async def test_negotiated_answers_vary_by_accept(registry: Registry):
    await (await registry.user("ada")).publish("demo")
    stats = "/packages/demo/stats?from=2026-01-01&to=2026-01-02"
    for path, accept, content_type in (
        ("/packages/nobody", "*/*", "application/json"),
        ("/packages/nobody", "application/problem+json", "application/problem+json"),
        (stats, "*/*", "application/json"),
        (stats, "text/csv", "text/csv"),
        ("/stats", "*/*", "application/json"),
    ):
        with case((path, accept)):
            answer = await registry.get(path, headers={"Accept": accept})
            assert answer.headers["Content-Type"].startswith(content_type)
            assert "Accept" in vary(answer)
    tag = (await registry.get(stats)).headers["ETag"]
    again = await registry.get(stats, headers={"If-None-Match": tag})
    assert (again.status, vary(again)) == (304, {"Accept"})
    assert vary(await registry.get("/packages/demo")) == set()


async def test_answers_for_one_user_are_never_stored(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo")
    for method, path, body in (
        ("GET", "/auth/me", None),
        ("GET", "/auth/tokens", None),
        ("PATCH", "/packages/demo", {"deprecated": "Take another"}),
        ("DELETE", "/packages/demo/1.0.0", None),
        ("POST", "/auth/logout", None),
    ):
        with case((method, path)):
            answer = await ada.call(method, path, json=body)
            assert answer.status in (200, 204)
            assert directives(answer) == {"no-store"}


async def test_shared_caches_store_no_answer_of_a_private_registry(make_registry: MakeRegistry):
    open_ = await make_registry()
    ada = await open_.user("ada", admin=True)
    await ada.publish("demo")
    private = await make_registry(REGISTRY_ACCESS="private")
    for route in API:
        if route.method != "GET" or route.access == "open":
            continue
        for headers in (ada.headers, {}):
            with case((route.id, headers)):
                answer = await ask(private, route.id, headers, 1)
                assert directives(answer) & {"private", "no-store"}
                assert "public" not in directives(answer)
    assert directives(await ada.call("GET", "/packages/demo")) == {"no-cache"}


@pytest.mark.parametrize(
    ("given", "name", "merged"),
    [
        ([], "Origin", "Origin"),
        (["Accept"], "Origin", "Accept, Origin"),
        (["Accept", "Accept-Encoding"], "Origin", "Accept, Accept-Encoding, Origin"),
        (["accept, origin"], "Origin", "accept, origin"),
        (["*"], "Origin", "*"),
    ],
)
def test_a_name_is_added_to_vary_once(given: list[str], name: str, merged: str):
    headers: CIMultiDict[str] = CIMultiDict(("Vary", value) for value in given)
    add_vary(headers, name)
    assert ", ".join(headers.getall("Vary")) == merged
