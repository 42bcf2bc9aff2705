"""Malformed requests: the answer is always a 4xx in the shape of all errors."""

import json
import re

from tests.client import Registry
from tests.web.raw import connected, request, send_raw
from tests.web.shape import case, check_error

LOGIN = "POST /api/v1/auth/login HTTP/1.1"
JSON = "Content-Type: application/json"
JSON_TYPE = {"Content-Type": "application/json"}

MALFORMED = {
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no address": b"GET\r\n\r\n",
    "an unknown version of HTTP": b"GET / HTTP/9.9\r\n\r\n",
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method that is not a token": request("G@T / HTTP/1.1"),
    "an unknown method": request("FROB / HTTP/1.1"),
    "a method in lower case": request("get / HTTP/1.1"),
    "an address that is not a path": request("GET api/v1/packages HTTP/1.1"),
    "a malformed absolute address": request("GET http://[::1/api HTTP/1.1"),
    "an absolute address with an impossible port": request("GET http://a:99999/api HTTP/1.1"),
    "a NUL in the address": request("GET /api/v1/packages/\0 HTTP/1.1"),
    "bytes beyond ASCII in the path": request("GET /api/v1/packages/\xff\xfe HTTP/1.1"),
    "bytes beyond ASCII in the query": request("GET /api/v1/search?q=\xff HTTP/1.1"),
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": request("GET / HTTP/1.1", "Host: other"),
    "a NUL in a header": request("GET / HTTP/1.1", "X-A: a\0b"),
    "a bare carriage return in a header": request("GET / HTTP/1.1", "X-A: a\rb"),
    "a folded header": b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
    "a blank before the colon": request("GET / HTTP/1.1", "X-A : b"),
    "a header without a colon": request("GET / HTTP/1.1", "X-A"),
    "a header without a name": request("GET / HTTP/1.1", ": b"),
    "a length that is not a number": request(LOGIN, "Content-Length: ten"),
    "a negative length": request(LOGIN, "Content-Length: -1"),
    "a length of thirty digits": request(LOGIN, JSON, f"Content-Length: {'9' * 30}"),
    "two lengths": request(LOGIN, "Content-Length: 2", "Content-Length: 3"),
    "a length and chunks": request(LOGIN, "Content-Length: 5", "Transfer-Encoding: chunked", body=b"") + b"0\r\n\r\n",
    "an unknown transfer coding": request(LOGIN, "Transfer-Encoding: rot13") + b"0\r\n\r\n",
    "a chunk size that is not a number": request(LOGIN, JSON, "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than its size": request(LOGIN, JSON, "Transfer-Encoding: chunked") + b"1\r\n{}\r\n0\r\n\r\n",
    "a chunk without its end": request(LOGIN, JSON, "Transfer-Encoding: chunked") + b"2\r\n{}0\r\n\r\nxxxx",
}


async def test_malformed_http_is_answered_400_in_the_shape_of_all_errors(registry: Registry):
    for name, data in MALFORMED.items():
        with case(name):
            async with connected(registry) as socket:
                await socket.send(data)
                check_error(await socket.answer(), 400)
                assert await socket.is_closed()


async def test_malformed_http_gets_the_headers_of_every_error(registry: Registry):
    """The parser gives no headers to the service, so the Accept header chooses nothing and Vary is not needed."""
    accept = "Accept: application/problem+json"
    for name, data in {
        "a method that is no token": request("G@T / HTTP/1.1", accept),
        "an address that is too long": request(f"GET /{'a' * 8191} HTTP/1.1", accept),
    }.items():
        with case(name):
            answer = await send_raw(registry, data)
            assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Vary" not in answer.headers


async def test_an_address_that_is_too_long_is_414(registry: Registry):
    for length in (8191, 20_000, 300_000):
        with case(length):
            check_error(await send_raw(registry, request(f"GET /{'a' * length} HTTP/1.1")), 414)


async def test_a_header_that_is_too_long_is_431(registry: Registry):
    for length in (8193, 20_000, 300_000):
        with case(length):
            check_error(await send_raw(registry, request("GET / HTTP/1.1", f"X-A: {'a' * length}")), 431)
            check_error(await send_raw(registry, request("GET / HTTP/1.1", f"{'a' * length}: b")), 431)


async def test_too_many_headers_are_431(registry: Registry):
    check_error(await send_raw(registry, request("GET / HTTP/1.1", *(f"X-{n}: 1" for n in range(5000)))), 431)


async def test_a_request_just_below_the_limits_is_served(registry: Registry):
    check_error(await send_raw(registry, request(f"GET /{'a' * 8000} HTTP/1.1")), 404)
    answer = await send_raw(registry, request("GET /api/v1/health/live HTTP/1.1", f"X-A: {'a' * 8000}"))
    assert answer.status == 200


async def test_http_1_0_is_served(registry: Registry):
    async with connected(registry) as socket:
        await socket.send(b"GET /api/v1/health/live HTTP/1.0\r\n\r\n")
        answer = await socket.answer()
        assert (answer.status, answer.json["status"]) == (200, "alive")
        assert answer.headers["X-Request-ID"]
        assert await socket.is_closed()


ODD = ("%zz", "%", "%f", "%ff%fe", "a%00b", "%ed%a0%80", "a%2Fb", "%2e%2e", "..%2f", "%0d%0a", "%20")


async def test_odd_names_and_versions_in_a_path_are_404(registry: Registry):
    await (await registry.user("ada")).publish("demo")
    for odd in ODD:
        for path in (odd, f"{odd}/versions", f"{odd}/stats", f"{odd}/1.0.0", f"demo/{odd}", f"demo/{odd}/tarball"):
            with case(path):
                check_error(await send_raw(registry, request(f"GET /api/v1/packages/{path} HTTP/1.1")), 404)


async def test_odd_bytes_in_a_query_never_give_a_5xx(registry: Registry):
    for odd in (*ODD, "&&==&q", "%F0%9F%92%A5" * 200):
        for address in ("search?q=", "search/suggest?q=", "packages?cursor=", "packages?sort=", "search?q=a&author="):
            with case(address + odd):
                answer = await send_raw(registry, request(f"GET /api/v1/{address}{odd} HTTP/1.1"))
                if answer.status != 200:
                    check_error(answer, 400)


ODD_VALUES = ("\xff\xfe", "\xed\xa0\x80", "a" * 8000, "", "Bearer", "Bearer \xff", "bytes=9-1", '"', ",,,", "9" * 30)
HEADERS = (
    *("Authorization", "X-Request-ID", "If-None-Match", "If-Match", "If-Modified-Since", "If-Range", "Range", "Accept"),
    *("User-Agent", "Cookie", "Origin", "Content-Type", "X-Forwarded-For", "Idempotency-Key", "X-Checksum-SHA256"),
    *("Expect", "Content-Encoding", "Upgrade", "TE"),
)


async def test_odd_bytes_in_a_header_never_give_a_5xx(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo")
    lines = [f"{line} HTTP/1.1" for line in (
        "GET /api/v1/packages/demo", "GET /api/v1/packages/demo/latest/tarball", "PUT /api/v1/packages/demo/1.0.1",
    )]  # fmt: skip
    for name in HEADERS:
        for value in ODD_VALUES:
            for line in lines:
                with case((line, name, value)):
                    answer = await send_raw(
                        registry, request(line, f"Authorization: Bearer {ada.token}", f"{name}: {value}")
                    )
                    assert answer.headers["X-Request-ID"]
                    assert answer.status < 500
                    if answer.status >= 400:
                        check_error(answer, answer.status)


BODIES = (
    b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf{}",
    b'{"username": "\\ud800"}', b'{"username": "\xed\xa0\x80"}', b'{"username": {}}',
    b'{"username": "a\\u0000b", "password": "Correct-Horse-42"}', b'{"username": true, "password": []}',
    b"[" * 100_000, b'{"a":' * 50_000, b'{"password": NaN}', b'{"username": ' + b"9" * 5000 + b"}",
)  # fmt: skip


async def test_an_invalid_body_is_400(registry: Registry):
    for path in ("register", "login"):
        for body in BODIES:
            with case((path, body[:50])):
                answer = await registry.call("POST", f"/auth/{path}", data=body, headers=JSON_TYPE)
                check_error(answer, 400)


async def test_one_answer_names_all_wrong_fields(registry: Registry):
    answer = await registry.call("POST", "/auth/register", json={"username": "!", "password": "x", "email": "@"})
    check_error(answer, 400)
    assert {wrong["field"] for wrong in answer.json["errors"]} == {"username", "password", "email"}


async def test_a_body_in_a_content_coding_is_415(registry: Registry):
    """Decompressing a small body could fill the memory."""
    ada = await registry.user("ada")
    for coding in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "GZIP"):
        headers = {"Content-Encoding": coding, **JSON_TYPE}
        for method, path in (("POST", "/auth/login"), ("POST", "/packages"), ("PUT", "/packages/demo/1.0.0")):
            with case((coding, path)):
                check_error(await ada.call(method, path, data=b"\x1f\x8b\x08" + bytes(100), headers=headers), 415)


async def test_a_body_of_another_type_is_415(registry: Registry):
    body = json.dumps({"username": "ada", "password": "Correct-Horse-42"}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml", ";;;", "multipart/form-data"):
        for path in ("/auth/login", "/auth/register"):
            with case((kind, path)):
                check_error(await registry.call("POST", path, data=body, headers={"Content-Type": kind}), 415)


async def test_a_json_body_over_1_mib_is_413(registry: Registry):
    body = b'{"username": "' + b"a" * (1 << 20) + b'"}'

    async def chunks():
        yield body

    for data in (body, chunks()):
        check_error(await registry.call("POST", "/auth/login", data=data, headers=JSON_TYPE), 413)


async def test_an_unknown_expectation_is_ignored(registry: Registry):
    for path in ("/api/v1/health/live", "/nowhere"):
        answer = await send_raw(registry, request(f"GET {path} HTTP/1.1", "Expect: the-spanish-inquisition"))
        assert answer.status in (200, 404)
        assert answer.headers["X-Request-ID"]


async def test_expect_100_continue_gets_a_100(registry: Registry):
    body = json.dumps({"username": "ada", "password": "wrong-password"}).encode()
    async with connected(registry) as socket:
        await socket.send(request(LOGIN, JSON, "Expect: 100-continue", f"Content-Length: {len(body)}"))
        assert await socket.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await socket.send(body)
        check_error(await socket.answer(), 401)


async def test_an_error_is_problem_json_if_the_client_accepts_it(registry: Registry):
    for accept in ("application/problem+json", "text/html, Application/Problem+JSON;q=0.5"):
        answer = await registry.get("/packages/nobody", headers={"Accept": accept})
        assert answer.headers["Content-Type"] == "application/problem+json"
        check_error(answer, 404)
    for accept in ("application/json", "*/*", "text/html", "", "application/problem+json;q=0, application/json"):
        answer = await registry.get("/packages/nobody", headers={"Accept": accept})
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_a_sane_request_id_is_echoed(registry: Registry):
    for given in ("abc", "a" * 128, "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "trace=1/2:3@x"):
        with case(given):
            assert (await registry.get("/health/live", headers={"X-Request-ID": given})).headers[
                "X-Request-ID"
            ] == given
            answer = await registry.get("/packages/nobody", headers={"X-Request-ID": given})
            check_error(answer, 404)
            assert answer.json["request_id"] == given


async def test_an_odd_request_id_is_replaced(registry: Registry):
    for given in ("", "a" * 129, "with blank", "<script>", "\xff", "a;b", 'a"b'):
        with case(given):
            answer = await send_raw(registry, request("GET /api/v1/health/live HTTP/1.1", f"X-Request-ID: {given}"))
            assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
