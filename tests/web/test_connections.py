"""Connections that serve several requests, and uploads that are refused before the client sends them."""

import json

from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.web.raw import connected, request
from tests.web.shape import check_error

LIVE = request("GET /api/v1/health/live HTTP/1.1")


async def test_a_connection_serves_one_request_after_another(registry: Registry):
    async with connected(registry) as socket:
        for _ in range(5):
            await socket.send(LIVE)
            assert (await socket.answer()).status == 200
            await socket.send(request("GET /nowhere HTTP/1.1"))
            check_error(await socket.answer(), 404)


async def test_pipelined_requests_are_answered_in_order(registry: Registry):
    body = json.dumps({"username": "ada", "password": "wrong"}).encode()
    login = request("POST /api/v1/auth/login HTTP/1.1", "Content-Type: application/json", body=body)
    lines = [LIVE, login, request("HEAD /api/v1/health/live HTTP/1.1"), request("GET /nowhere HTTP/1.1"), LIVE]
    async with connected(registry) as socket:
        await socket.send(b"".join(lines))
        statuses = [(await socket.answer(method)).status for method in ("GET", "POST", "HEAD", "GET", "GET")]
    assert statuses == [200, 401, 200, 404, 200]


async def test_a_small_upload_that_is_refused_leaves_the_connection_usable(registry: Registry):
    put = request("PUT /api/v1/packages/demo/1.0.0 HTTP/1.1", "Content-Type: application/gzip", body=bytes(300_000))
    async with connected(registry) as socket:
        await socket.send(put + LIVE)
        check_error(await socket.answer("PUT"), 401)
        assert (await socket.answer()).status == 200


async def test_a_body_in_chunks_that_is_refused_leaves_the_connection_usable(registry: Registry):
    head = request("POST /api/v1/packages HTTP/1.1", "Content-Type: application/json", "Transfer-Encoding: chunked")
    async with connected(registry) as socket:
        await socket.send(head + b"5\r\n12345\r\n" * 1000 + b"0\r\n\r\n" + LIVE)
        check_error(await socket.answer("POST"), 401)
        assert (await socket.answer()).status == 200


async def test_an_upload_is_refused_before_it_is_sent(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_MAX_TARBALL="1MiB")
    ada = await registry.user("ada")
    bearer = f"Authorization: Bearer {ada.token}"
    gzip, expect = "Content-Type: application/gzip", "Expect: 100-continue"
    for headers, status in (
        ((gzip, expect, "Content-Length: 1000"), 401),
        ((gzip, expect, "Content-Length: 99999999999", bearer), 413),
        ((gzip, "Content-Length: 99999999999", bearer), 413),
        (("Content-Type: text/html", expect, "Content-Length: 1000", bearer), 415),
    ):
        async with connected(registry) as socket:
            await socket.send(request("PUT /api/v1/packages/demo/1.0.0 HTTP/1.1", *headers))
            check_error(await socket.answer("PUT"), status)


async def test_a_body_that_ends_early_is_not_stored(registry: Registry):
    ada = await registry.user("ada")
    head = request(
        "PUT /api/v1/packages/demo/1.0.0 HTTP/1.1",
        "Content-Type: application/gzip",
        "Content-Length: 5000",
        f"Authorization: Bearer {ada.token}",
    )
    async with connected(registry) as socket:
        await socket.send(head + bytes(100))
    check_error(await registry.get("/packages/demo"), 404)
    await ada.publish("demo", "1.0.0")
