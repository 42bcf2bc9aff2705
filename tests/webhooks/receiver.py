"""A real receiver of webhooks, whose answers a test decides."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from ephemeral_port_reserve import reserve

from tests.client import Answer, User

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]
LOCAL = {"REGISTRY_WEBHOOK_HTTP": "true", "REGISTRY_WEBHOOK_ALLOW": "127.0.0.0/8"}
"""Settings that allow webhooks to receivers of tests."""


@dataclass
class Received:
    """A request that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """Answers 200 unless `answers` has something else for a path. `most` is the largest number of requests at once."""

    port: int
    received: list[Received] = field(default_factory=list)
    answers: dict[str, Answering] = field(default_factory=dict)
    now: int = 0
    most: int = 0

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def of(self, path: str) -> list[Received]:
        return [each for each in self.received if each.path == path]

    def seqs(self, path: str) -> list[int]:
        return [each.json["data"]["seq"] for each in self.of(path)]

    def ids(self, path: str) -> Counter[str]:
        return Counter(each.id for each in self.of(path))

    def record(self, received: Received) -> None:
        self.received.append(received)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            self.record(Received(request.path, dict(request.headers), await request.read()))
            answer = self.answers.get(request.path)
            return web.Response() if answer is None else await answer(request)
        finally:
            self.now -= 1


@asynccontextmanager
async def receiving(receiver: Receiver | None = None) -> AsyncIterator[Receiver]:
    """Serves a receiver, a new one unless it is given."""
    receiver = receiver or Receiver(reserve())
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", receiver.port).start()
    try:
        yield receiver
    finally:
        await runner.cleanup()


def answering(status: int, text: str = "") -> Answering:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text)

    return answer


async def redirecting(_: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "/elsewhere"})


async def closing(request: web.Request) -> web.StreamResponse:
    """Sends half of an answer and closes the connection."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"half")
    assert request.transport is not None
    request.transport.abort()
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    """Sends a gigabyte."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(1 << 14):
        await response.write(b"g" * (1 << 16))
    return response


async def hanging(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def hook(user: User, url: str, scope: Any = "all", **more: Any) -> Any:
    """Makes a webhook and gives its JSON."""
    answer = await user.call("POST", "/webhooks", json={"url": url, "scope": scope, **more})
    assert answer.status == 201, answer.body
    return answer.json


async def deliveries(user: User, webhook: int) -> list[Any]:
    answer: Answer = await user.call("GET", f"/webhooks/{webhook}/deliveries?limit=100")
    assert answer.status == 200, answer.body
    found: list[Any] = answer.json["deliveries"]
    return found
