"""Sends one attempt of a delivery over HTTP. Reads at most 64 KiB of the answer, within 15 seconds."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from registry import __version__
from registry.webhooks.guard import AddressRefused, Guard

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 15.0
MOST_READ = 64 << 10
MOST_KEPT = 4 << 10
MAX_ERROR = 500
_CHUNK = 8 << 10
_HEADERS = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": f"synapse-registry/{__version__}",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt. `status` and `response` are None without an answer. `error` is None for a success.

    `response` is the beginning of the answer's body. `ms` says how long the attempt took.
    """

    status: int | None
    ms: int
    error: str | None
    response: str | None


class Sender:
    """Sends to receivers that `guard` allows. `clock` gives seconds and never goes backwards."""

    def __init__(
        self, session: aiohttp.ClientSession, guard: Guard, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._session = session
        self._guard = guard
        self._clock = clock

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """POSTs `body` to `url`. Every failure is an outcome."""
        began = self._clock()
        status: int | None = None
        received: bytearray | None = None
        error: str | None = None
        try:
            checked = self._guard.check_url(url)
            async with self._session.post(
                checked, data=body, headers={**_HEADERS, **headers}, allow_redirects=False
            ) as response:
                status, received = response.status, bytearray()
                await _read(response, received)
            if not 200 <= status < 300:
                error = f"The receiver answered {status}."
        except (aiohttp.ClientError, OSError, ValueError) as failure:  # TimeoutError is an OSError
            error = _text(failure)[:MAX_ERROR]
        except Exception as failure:  # nothing that a receiver does may keep others from their deliveries
            log.exception("an attempt to deliver failed in an unexpected way")
            error = _text(failure)[:MAX_ERROR]
        ms = round((self._clock() - began) * 1000)
        return Outcome(status, ms, error, None if received is None else _readable(received))


async def _read(response: aiohttp.ClientResponse, received: bytearray) -> None:
    """Reads up to MOST_READ bytes of the body. Closes the connection if there is more."""
    async for chunk in response.content.iter_chunked(_CHUNK):
        received += chunk
        if len(received) >= MOST_READ:
            response.close()
            return


def _readable(received: bytearray) -> str:
    """The first bytes as text. PostgreSQL stores no NUL characters."""
    return bytes(received[:MOST_KEPT]).decode("utf-8", "replace").replace("\0", "\ufffd")


def _text(failure: Exception) -> str:
    if isinstance(failure, aiohttp.ClientConnectorError) and isinstance(failure.os_error, AddressRefused):
        return str(failure.os_error)
    if isinstance(failure, aiohttp.ConnectionTimeoutError):
        return f"No connection within {CONNECT_SECONDS:g} seconds."
    if isinstance(failure, TimeoutError):
        return "The receiver did not send a complete answer in time."
    if isinstance(failure, ValueError) and not isinstance(failure, aiohttp.ClientError):
        return f"The URL {failure}."
    return f"{type(failure).__name__}: {failure}".replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class _Resolver(AbstractResolver):
    """Lets aiohttp look names up in the threads of the guard."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address[0], port=address[1], family=kind, proto=protocol, flags=0)
            for kind, _, protocol, _, address in await self._guard.resolve(host, port, family)
        ]

    async def close(self) -> None:
        """Nothing to close: the threads belong to the guard."""


@asynccontextmanager
async def open_sender(guard: Guard, *, seconds: float = TOTAL_SECONDS) -> AsyncIterator[Sender]:
    """A sender with its connections, closed at the end of the block. An attempt ends after `seconds`."""
    connector = aiohttp.TCPConnector(limit=0, resolver=_Resolver(guard), socket_factory=guard.make_socket)
    timeout = aiohttp.ClientTimeout(total=seconds, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    ) as session:
        yield Sender(session, guard)
