"""Bounds how long a slow client may hold a connection, and how many connections there may be.

As in Apache's mod_reqtimeout, a client must send a body, and receive an answer, at a minimum rate in each time window.
aiohttp's keep-alive timeout bounds the rest. It runs from the start of a connection, and from the end of each answer,
until the headers of the next request are complete.
"""

import asyncio
import contextlib
import logging
import resource
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from registry.tasks import running
from registry.web import metrics

log = logging.getLogger(__name__)

# Open files reserved for the database, the storage, uploads and tarballs. Connections may use the others.
RESERVED_FILES = 512
# Size of Linux's struct tcp_info, and the offset of its count of acknowledged bytes.
_TCP_INFO_SIZE = 128
_TCP_INFO_ACKED = 120


@dataclass(frozen=True)
class SlowClientLimits:
    """How slow a client may be.

    A body and an answer must move at `least_rate` bytes per second in each window of `window_seconds`. A connection may
    be idle for `keep_alive_seconds`, and the headers of a request must be complete within that time.
    """

    window_seconds: float = 20.0
    least_rate: int = 500
    keep_alive_seconds: float = 75.0

    def is_too_slow(self, moved: int) -> bool:
        """Whether `moved` bytes in one window are too few."""
        return moved < self.least_rate * self.window_seconds


SLOW_CLIENTS = SlowClientLimits()


class BodyTooSlow(TimeoutError):
    """A request's body arrives too slowly. The text tells the client what rate is needed."""


def raise_open_files_limit() -> int:
    """Raises the limit of open files as far as the system allows. Returns the new limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # some systems report "unlimited" but refuse it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class BodyWatch:
    """Makes reads of the body within the block raise BodyTooSlow when the body arrives too slowly."""

    def __init__(self, request: web.Request, limits: SlowClientLimits) -> None:
        self._request = request
        self._limits = limits

    def __enter__(self) -> None:
        self._watch()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _watch(self) -> None:
        self._seen = self._request.content.total_bytes
        self._timer = asyncio.get_running_loop().call_later(self._limits.window_seconds, self._check)

    def _check(self) -> None:
        content, transport = self._request.content, self._request.transport
        if content.is_eof() or transport is None:
            return
        arrived = content.total_bytes - self._seen
        # If we have paused reading, the client is not to blame.
        if self._limits.is_too_slow(arrived) and transport.is_reading():
            rate = self._limits.least_rate
            content.set_exception(BodyTooSlow(f"The body came too slowly. Send at least {rate} bytes a second."))
            return
        self._watch()


class _Connection:
    """`taken` is how many bytes the client had acknowledged at the last check, None if no data waited to be sent."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.taken: int | None = None


class Connections:
    """Tracks the open connections of `server`. A new connection beyond `most` is closed at once."""

    def __init__(self, server: web.Server, most: int, limits: SlowClientLimits) -> None:
        self._most = most
        self._limits = limits
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
        """Within the block, closes connections whose clients don't read their answers."""
        async with running({"watch connections": self._watch}):
            yield

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._limits.window_seconds)
            for connection in list(self._open.values()):
                _check_taken(connection, self._limits)


def _check_taken(connection: _Connection, limits: SlowClientLimits) -> None:
    """Closes the connection if data waited for a whole window and the client took it too slowly."""
    transport = connection.transport
    if not transport.get_write_buffer_size():
        connection.taken = None
        return
    try:
        taken = _acknowledged(transport)
    except OSError:
        return  # the connection has just closed
    if connection.taken is not None and limits.is_too_slow(taken - connection.taken):
        log.info("client does not read its answer", extra={"client": transport.get_extra_info("peername")})
        transport.abort()
    connection.taken = taken


def _acknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the client has acknowledged since the connection started."""
    sock: socket.socket = transport.get_extra_info("socket")
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    return int(struct.unpack_from("=Q", info, _TCP_INFO_ACKED)[0])
