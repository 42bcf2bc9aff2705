"""Slow and silent clients: how long each may hold a connection, and how many connections there may be.

Apache's mod_reqtimeout is the model: a body must arrive, and an answer be taken, at a least rate in each window of
time. aiohttp's keep-alive timeout bounds the rest: it runs from the opening of a connection and from the end of each
answer until the next request's headers are complete, whatever drips in meanwhile.
"""

import asyncio
import contextlib
import logging
import resource
import socket
import struct
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from registry.tasks import running
from registry.web import metrics

log = logging.getLogger(__name__)

WINDOW_SECONDS = 20.0
LEAST_RATE = 500  # bytes per second
# Of the files a process may have open: what is left for databases, storage, uploads, and the answers themselves.
RESERVED_FILES = 512
# Where the kernel counts the bytes that the client has acknowledged, in Linux's struct tcp_info.
_TCP_INFO_SIZE = 128
_TCP_INFO_ACKED = 120


class BodyTooSlow(TimeoutError):
    """A request's body arrives slower than LEAST_RATE."""


def raise_open_files_limit() -> int:
    """Takes as many open files as the system lets this process have; how many those are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # some systems say "unlimited" and mean less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class BodyWatch:
    """Lets whoever reads the body within the block get BodyTooSlow when it comes too slowly."""

    def __init__(self, request: web.Request) -> None:
        self._request = request

    def __enter__(self) -> None:
        self._watch()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _watch(self) -> None:
        self._seen = self._request.content.total_bytes
        self._timer = asyncio.get_running_loop().call_later(WINDOW_SECONDS, self._check)

    def _check(self) -> None:
        content, transport = self._request.content, self._request.transport
        if content.is_eof() or transport is None:
            return
        arrived = content.total_bytes - self._seen
        # Where we have stopped reading it is not the client that is slow.
        if arrived < LEAST_RATE * WINDOW_SECONDS and transport.is_reading():
            content.set_exception(BodyTooSlow())
            return
        self._watch()


class _Connection:
    """What was seen of a connection whose client has yet to take what was written."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.taken: int | None = None


class Connections:
    """The open connections of `server`: of more than `most` the newest are closed at once."""

    def __init__(self, server: web.Server, most: int) -> None:
        self._most = most
        self._open: dict[RequestHandler, _Connection] = {}
        self._made, self._lost = server.connection_made, server.connection_lost
        server.connection_made = self._connection_made  # type: ignore[method-assign]
        server.connection_lost = self._connection_lost  # type: ignore[method-assign]

    def _connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        self._made(handler, transport)
        self._open[handler] = _Connection(transport)
        metrics.CONNECTIONS.inc()
        if len(self._open) > self._most:
            transport.abort()

    def _connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        if self._open.pop(handler, None) is not None:
            metrics.CONNECTIONS.dec()
        self._lost(handler, exc)

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Within the block, connections whose clients don't take their answers are closed."""
        async with running({"watch connections": self._watch}):
            yield

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WINDOW_SECONDS)
            for connection in list(self._open.values()):
                _check_taken(connection)


def _check_taken(connection: _Connection) -> None:
    """Closes the connection when something waited for a whole window and less than the least rate was taken of it."""
    transport = connection.transport
    if not transport.get_write_buffer_size():
        connection.taken = None
        return
    try:
        taken = _acknowledged(transport)
    except OSError:
        return  # closed at this moment
    if connection.taken is not None and taken - connection.taken < LEAST_RATE * WINDOW_SECONDS:
        log.info("answer not taken", extra={"client": transport.get_extra_info("peername")})
        transport.abort()
    connection.taken = taken


def _acknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the client has received of this connection since its start."""
    sock: socket.socket = transport.get_extra_info("socket")
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    return int(struct.unpack_from("=Q", info, _TCP_INFO_ACKED)[0])
