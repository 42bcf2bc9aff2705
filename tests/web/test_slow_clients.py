"""Slow, silent and vanished clients: the server disconnects them in time, and serves others meanwhile."""

import asyncio
import resource
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry import server
from registry.keys import SPOOL
from registry.web import metrics
from registry.web.connections import SlowClientLimits
from tests.background import in_background
from tests.client import Registry, tarball
from tests.conftest import SECRET, MakeRegistry
from tests.service import Service, serving_process
from tests.web.raw import Socket, connected, request, send_raw
from tests.web.shape import check_error

BRIEF = 1.0
STRICT = SlowClientLimits(window_seconds=BRIEF, keep_alive_seconds=BRIEF)
LIVE = request("GET /api/v1/health/live HTTP/1.1")
IDLE = 10_000
# A guard against hanging, not a promise of speed.
SERVED_SECONDS = 15


@pytest.fixture
async def strict(make_registry: MakeRegistry) -> Registry:
    """A registry that disconnects slow clients soon."""
    return await make_registry(slow_clients=STRICT)


@asynccontextmanager
async def many(
    registry: Registry, count: int, act: Callable[[Socket], Coroutine[Any, Any, None]]
) -> AsyncIterator[list[Socket]]:
    """Opens `count` connections and runs `act` on each until the block ends."""
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connected(registry)) for _ in range(count)]
        for socket in sockets:
            await stack.enter_async_context(in_background(act(socket)))
        yield sockets


async def dripping(socket: Socket, data: bytes) -> None:
    for byte in data:
        await socket.send(bytes([byte]))
        await asyncio.sleep(0.1)


async def check_others_are_served(registry: Registry, *paths: str) -> None:
    """Requests each path a few times. Fails if an answer does not come."""
    for path in paths * 3:
        async with asyncio.timeout(SERVED_SECONDS):
            assert (await registry.get(path)).status == 200


async def closed_within(socket: Socket, seconds: float) -> bytes:
    """The bytes received until the server closed the connection."""
    async with asyncio.timeout(seconds):
        try:
            return await socket.reader.read()
        except ConnectionResetError:
            return b""


def files_of(registry: Registry) -> list[Path]:
    return [file for file in registry.app[SPOOL]._folder.iterdir() if file.name != "lock"]


def upload(token: str, length: int = 5_000_000) -> bytes:
    return request(
        "PUT /api/v1/packages/demo/1.0.0 HTTP/1.1",
        "Content-Type: application/gzip",
        f"Content-Length: {length}",
        f"Authorization: Bearer {token}",
    )


async def test_headers_that_come_too_slowly_end_the_connection(strict: Registry):
    endless = request("GET /api/v1/health/live HTTP/1.1", "X-A: " + "a" * 4000)
    async with many(strict, 50, lambda socket: dripping(socket, endless)) as sockets:
        await check_others_are_served(strict, "/health/live", "/packages")
        assert await asyncio.gather(*(closed_within(socket, 5 * BRIEF) for socket in sockets)) == [b""] * 50


async def test_slow_headers_after_an_answer_end_the_connection(strict: Registry):
    async with connected(strict) as socket:
        await socket.send(LIVE)
        assert (await socket.answer()).status == 200
        async with in_background(dripping(socket, LIVE * 10)):
            assert await closed_within(socket, 5 * BRIEF) == b""


async def test_a_silent_connection_is_closed(strict: Registry):
    async with connected(strict) as socket:
        assert await closed_within(socket, 5 * BRIEF) == b""


FORM = b'--x\r\nContent-Disposition: form-data; name="tarball"\r\n\r\n'
BODIES = (
    ("PUT", "/packages/demo/1.0.0", "application/gzip", b""),
    ("PUT", "/packages/demo/1.0.0", "application/gzip", bytes(100)),
    ("PUT", "/packages/demo/1.0.0", "application/gzip", bytes(100_000)),
    ("POST", "/auth/login", "application/json", b"{"),
    ("POST", "/packages", "application/json", b"{"),
    ("POST", "/packages", "multipart/form-data; boundary=x", b""),
    ("POST", "/packages", "multipart/form-data; boundary=x", FORM),
)


async def test_a_body_that_comes_too_slowly_is_408_and_not_stored(strict: Registry):
    ada = await strict.user("ada")

    async def drip(method: str, path: str, kind: str, start: bytes) -> None:
        head = request(
            f"{method} /api/v1{path} HTTP/1.1",
            f"Content-Type: {kind}",
            f"Authorization: Bearer {ada.token}",
            "Content-Length: 500000",
        )
        async with connected(strict) as socket:
            await socket.send(head + start)
            async with in_background(dripping(socket, bytes(1000))), asyncio.timeout(SERVED_SECONDS):
                check_error(await socket.answer(method), 408)
                assert await closed_within(socket, 5) == b""

    await asyncio.gather(*(drip(*body) for body in BODIES))
    assert files_of(strict) == []
    await ada.publish("demo")


async def test_a_slow_but_steady_body_is_accepted(make_registry: MakeRegistry):
    data = tarball(files={"noise": bytes(range(256)) * 20})
    step = -(-len(data) // 12)
    registry = await make_registry(slow_clients=replace(STRICT, least_rate=step))
    ada = await registry.user("ada")
    async with connected(registry) as socket:
        await socket.send(upload(ada.token, len(data)))
        for start in range(0, len(data), step):
            await socket.send(data[start : start + step])
            await asyncio.sleep(0.25)
        assert (await socket.answer("PUT")).status == 201


async def test_a_client_that_never_reads_is_disconnected(strict: Registry):
    """While it waits, it uses neither memory nor any of the ten database connections."""
    ada = await strict.user("ada")
    noise = b"".join(bytes([n * n % 251]) * 7 + n.to_bytes(4) for n in range(1_500_000))
    await ada.publish("demo", data=tarball(files={"noise": noise}))
    assert int((await strict.call("HEAD", "/packages/demo/1.0.0/tarball")).headers["Content-Length"]) > 1 << 20

    async def ask(socket: Socket) -> None:
        socket.writer.transport.pause_reading()
        await socket.send(request("GET /api/v1/packages/demo/1.0.0/tarball HTTP/1.1") * 8)

    tracemalloc.start()
    try:
        async with many(strict, 30, ask):
            await check_others_are_served(strict, "/health/live", "/packages/demo", "/packages")
            assert tracemalloc.get_traced_memory()[1] < 30 * (2 << 20)
            async with asyncio.timeout(10 * BRIEF):
                while open_connections() > 1:  # the connection of `check_others_are_served`
                    await asyncio.sleep(0.1)
    finally:
        tracemalloc.stop()


def open_connections() -> int:
    return int(metrics.CONNECTIONS.collect()[0].samples[0].value)


async def test_a_slow_but_steady_client_gets_the_whole_answer(strict: Registry):
    ada = await strict.user("ada")
    data = tarball(files={"noise": b"".join(n.to_bytes(4) for n in range(500_000))})
    await ada.publish("demo", data=data)
    async with connected(strict) as socket:
        await socket.send(request("GET /api/v1/packages/demo/1.0.0/tarball HTTP/1.1"))
        await socket.reader.readuntil(b"\r\n\r\n")
        received = bytearray()
        while len(received) < len(data):
            received += await socket.reader.readexactly(min(len(data) - len(received), len(data) // 8 + 1))
            await asyncio.sleep(0.3)
    assert bytes(received) == data


async def test_vanished_clients_leave_no_open_connections(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo")
    for start in (b"", b"GET", LIVE[:-2], LIVE, upload(ada.token), upload(ada.token) + bytes(10_000)):
        for _ in range(20):
            async with connected(registry) as socket:
                await socket.send(start)
                socket.writer.transport.abort()
    await check_others_are_served(registry, "/health/live", "/packages/demo")
    async with asyncio.timeout(10):
        while files_of(registry) or open_connections() > 1:
            await asyncio.sleep(0.05)


async def test_half_closed_connections_are_closed_at_once(registry: Registry, caplog: pytest.LogCaptureFixture):
    """The client closes its sending side in the middle of a request and keeps the connection open."""
    ada = await registry.user("ada")
    starts = cycle((b"", b"GET", LIVE[:-2], upload(ada.token), upload(ada.token) + bytes(10_000)))

    async def close_by_half(socket: Socket) -> None:
        await socket.send(next(starts))
        socket.writer.write_eof()

    async with many(registry, 50, close_by_half) as sockets:
        await check_others_are_served(registry, "/health/live", "/packages")
        await asyncio.gather(*(closed_within(socket, 10) for socket in sockets))
    assert files_of(registry) == []
    assert [record.message for record in caplog.records if record.name == "registry.web.problems"] == []


async def test_header_floods_are_431_while_others_are_served(registry: Registry):
    flood = request("GET / HTTP/1.1", *(f"X-{n}: {'a' * 50}" for n in range(10_000)))
    huge = request("GET / HTTP/1.1", f"X-A: {'a' * 2_000_000}")

    async def answered(data: bytes) -> None:
        check_error(await send_raw(registry, data), 431)

    async with asyncio.TaskGroup() as tasks:
        for data in (flood, huge) * 10:
            tasks.create_task(answered(data))
        await check_others_are_served(registry, "/health/live", "/packages")


async def test_others_are_served_during_a_flood_of_pipelined_requests(registry: Registry):
    async with many(registry, 5, lambda socket: socket.send(LIVE * 500)) as sockets:
        await check_others_are_served(registry, "/health/live", "/packages")
        for socket in sockets[:2]:
            for _ in range(500):
                assert (await socket.answer()).status == 200


async def test_new_connections_beyond_the_maximum_are_closed(
    monkeypatch: pytest.MonkeyPatch, make_registry: MakeRegistry
):
    monkeypatch.setattr(server, "raise_open_files_limit", lambda: 20)
    registry = await make_registry()
    async with many(registry, 10, lambda socket: socket.send(LIVE)) as sockets:
        assert [(await socket.answer()).status for socket in sockets] == [200] * 10
        async with connected(registry) as socket:
            assert await closed_within(socket, 5) == b""
        await sockets[0].send(LIVE)
        assert (await sockets[0].answer()).status == 200
    assert (await registry.get("/health/live")).status == 200


@pytest.fixture
async def service(database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A separate process with a low soft limit of open files and a high hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        async with serving_process(
            tmp_path, REGISTRY_DB_URL=database_url, REGISTRY_SECRET_KEY=SECRET, REGISTRY_RATE_LIMITS="off"
        ) as running:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            yield running
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_others_are_served_during_ten_thousand_idle_connections(service: Service):
    """Half of the connections have begun a request."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    opened: list[asyncio.StreamWriter] = []
    try:
        while len(opened) < IDLE:
            made = await asyncio.gather(*(asyncio.open_connection(host, int(port)) for _ in range(100)))
            opened += [writer for _, writer in made]
        for writer in opened[::2]:
            writer.write(LIVE[:-2])
        # The server accepts connections in order. These were the last ones, so it has accepted all.
        async with aiohttp.ClientSession() as session:
            for path in ("/health/live", "/packages", "/packages/demo") * 3:
                async with asyncio.timeout(SERVED_SECONDS), session.get(service.api(path)) as answer:
                    assert answer.status in (200, 404)
        for writer in opened[:: IDLE // 10]:
            assert not writer.transport.is_closing()
    finally:
        for writer in opened:
            writer.transport.abort()
