"""The connections to Elasticsearch, with a server that answers as a test wishes."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from elastic_transport import ConnectionError as ClientConnectionError
from elastic_transport import ConnectionTimeout, HttpHeaders, NodeConfig, TlsError

from registry import elastic_http
from registry.elastic_http import KeptNode

CHUNKED = b"HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
Behaviour = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Answers every request by `behave`. `port` is known once it listens."""

    behave: Behaviour
    port: int = 0
    connections: int = 0
    open: int = 0
    requests: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                await self.behave(self.requests[-1], writer)
                await writer.drain()
        self.open -= 1
        writer.close()


async def chunks(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(CHUNKED + b"3\r\n[1,\r\n")
    await writer.drain()
    await asyncio.sleep(0)
    writer.write(b"2\r\n2]\r\n0\r\n\r\n")


async def echo(request: bytes, writer: asyncio.StreamWriter) -> None:
    body = request.partition(b"\r\n\r\n")[2]
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


@contextlib.asynccontextmanager
async def serving(behave: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(behave)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


@contextlib.asynccontextmanager
async def node_of(server: Server, **config: object) -> AsyncIterator[KeptNode]:
    options = {"scheme": "http", "host": "127.0.0.1", "port": server.port, "request_timeout": 10.0, **config}
    node = KeptNode(NodeConfig(**options))  # type: ignore[arg-type]
    try:
        yield node
    finally:
        await node.close()


async def test_whole_and_chunked_answers_arrive_over_one_connection() -> None:
    async def whole_or_chunks(request: bytes, writer: asyncio.StreamWriter) -> None:
        if request.startswith(b"GET"):
            writer.write(WHOLE)
        else:
            await chunks(request, writer)

    async with serving(whole_or_chunks) as server, node_of(server) as node:
        for _ in range(3):
            meta, body = await node.perform_request("POST", "/x/_search?a=b", b"{}", HttpHeaders({"Accept": "a/b"}))
            assert (meta.status, meta.headers["x-elastic-product"], body) == (200, "Elasticsearch", b"[1,2]")
            meta, body = await node.perform_request("GET", "/x")
            assert (meta.status, meta.mimetype, body) == (404, "application/json", b"{}")
    assert server.connections == 1
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x/_search?a=b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % server.port)
    assert b"\r\naccept: a/b\r\n" in head
    assert body == b"{}"


async def test_the_path_of_the_address_comes_before_that_of_the_request() -> None:
    async with serving(chunks) as server, node_of(server, path_prefix="/search") as node:
        await node.perform_request("GET", "/x")
    assert server.requests[0].startswith(b"GET /search/x ")


async def test_each_concurrent_request_gets_its_own_answer_over_a_bounded_number_of_connections() -> None:
    async def slow_echo(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.001)
        await echo(request, writer)

    async with serving(slow_echo) as server, node_of(server, connections_per_node=3) as node:
        bodies = [b"%d" % number for number in range(40)]
        answers = await asyncio.gather(*(node.perform_request("POST", "/", body) for body in bodies))
        assert [answer.body for answer in answers] == bodies
    assert server.connections == 3


async def test_a_connection_that_the_server_closed_is_replaced() -> None:
    async def once(request: bytes, writer: asyncio.StreamWriter) -> None:
        await echo(request, writer)
        writer.close()

    async with serving(once) as server, node_of(server) as node:
        for number in range(3):
            assert (await node.perform_request("POST", "/", b"%d" % number)).body == b"%d" % number
            async with asyncio.timeout(10):
                while node._idle and node._idle[0].is_reusable:
                    await asyncio.sleep(0.01)
    assert server.connections == 3


@pytest.mark.parametrize("way", ["reset", "end"])
async def test_a_request_is_repeated_if_the_server_closes_a_kept_connection_instead_of_answering(way: str) -> None:
    """The server closes an unused connection while the next request is on its way."""

    async def answer_once(request: bytes, writer: asyncio.StreamWriter) -> None:
        if len(server.requests) != 2:
            await echo(request, writer)
        elif way == "reset":
            writer.transport.abort()
        else:
            writer.close()

    async with serving(answer_once) as server, node_of(server) as node:
        for number in range(3):
            assert (await node.perform_request("POST", "/", b"%d" % number)).body == b"%d" % number
    assert [request[-1:] for request in server.requests] == [b"0", b"1", b"1", b"2"]
    assert server.connections == 2


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"nonsense\r\n\r\n"])
async def test_a_request_is_repeated_once_and_only_if_nothing_was_answered(sent: bytes) -> None:
    async def answer_once(request: bytes, writer: asyncio.StreamWriter) -> None:
        if len(server.requests) == 1:
            await echo(request, writer)
        else:
            writer.write(sent)
            await writer.drain()
            writer.close()

    async with serving(answer_once) as server, node_of(server) as node:
        await node.perform_request("POST", "/", b"1")
        with pytest.raises(ClientConnectionError):
            await node.perform_request("POST", "/", b"2")
    assert len(server.requests) == (2 if sent else 3)


async def test_an_endless_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        while not writer.is_closing():
            writer.write(b"3e8\r\n" + bytes(1000) + b"\r\n")
            await writer.drain()

    monkeypatch.setattr(elastic_http, "MAX_ANSWER", 1 << 20)
    async with serving(endless) as server, node_of(server) as node:
        with pytest.raises(ClientConnectionError, match="longer than"):
            await node.perform_request("GET", "/")


async def test_a_connection_is_not_kept_if_the_server_announces_its_end() -> None:
    async def last(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    async with serving(last) as server, node_of(server) as node:
        for _ in range(2):
            await node.perform_request("GET", "/")
    assert server.connections == 2


async def test_a_connection_that_was_long_unused_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(echo) as server, node_of(server) as node:
        await node.perform_request("POST", "/", b"1")
        monkeypatch.setattr(elastic_http, "IDLE_SECONDS", 0.0)
        await node.perform_request("POST", "/", b"2")
    assert server.connections == 2


@pytest.mark.parametrize("way", ["timeout", "cancelled"])
async def test_a_late_answer_is_never_taken_for_that_of_the_next_request(way: str) -> None:
    late = asyncio.Event()

    async def first_is_late(request: bytes, writer: asyncio.StreamWriter) -> None:
        if request.endswith(b"first"):
            await late.wait()
        await echo(request, writer)

    async with serving(first_is_late) as server, node_of(server, connections_per_node=1) as node:
        if way == "timeout":
            with pytest.raises(ConnectionTimeout):
                await node.perform_request("POST", "/", b"first", request_timeout=0.05)
        else:
            task = asyncio.create_task(node.perform_request("POST", "/", b"first"))
            while not server.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        late.set()
        assert (await node.perform_request("POST", "/", b"second")).body == b"second"
    assert server.connections == 2


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", b"nonsense\r\n\r\n", CHUNKED + b"zz\r\n"]
)
async def test_an_incomplete_or_wrong_answer_is_an_error_and_its_connection_is_closed(sent: bytes) -> None:
    async def broken(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()
        writer.close()

    async with serving(broken) as server, node_of(server) as node:
        for _ in range(2):
            with pytest.raises(ClientConnectionError):
                await node.perform_request("GET", "/")
    assert server.connections == 2


async def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    async def twice(request: bytes, writer: asyncio.StreamWriter) -> None:
        await echo(request, writer)
        await writer.drain()
        await asyncio.sleep(0.01)
        await echo(b"\r\n\r\nstale", writer)

    async with serving(twice) as server, node_of(server) as node:
        assert (await node.perform_request("POST", "/", b"1")).body == b"1"
        async with asyncio.timeout(10):
            while node._idle[0].is_reusable:
                await asyncio.sleep(0.01)
        assert (await node.perform_request("POST", "/", b"2")).body == b"2"
    assert server.connections == 2


async def test_no_server_is_a_connection_error() -> None:
    async with node_of(Server(echo, port=9)) as node:
        with pytest.raises(ClientConnectionError):
            await node.perform_request("GET", "/")


async def test_closing_the_node_closes_its_connections() -> None:
    async with serving(echo) as server:
        async with node_of(server) as node:
            await node.perform_request("POST", "/", b"1")
            assert server.open == 1
        async with asyncio.timeout(10):
            while server.open:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("trusted", [True, False])
async def test_the_certificate_is_checked(trusted: bool, tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    ca = tmp_path / "ca.pem"
    (authority if trusted else other).cert_pem.write_to_path(str(ca))
    async with serving(echo, tls) as server, node_of(server, scheme="https", ca_certs=str(ca)) as node:
        if trusted:
            assert (await node.perform_request("POST", "/", b"1")).body == b"1"
        else:
            with pytest.raises(TlsError):
                await node.perform_request("POST", "/", b"1")
