"""Sends raw bytes over a socket, for requests that no HTTP client would send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPResponse
from io import BytesIO

from tests.client import Answer, Registry

# The server goes on reading this long after it refused a body, so that the client can read the answer.
PATIENCE = 15.0


class _Received:
    """A stand-in for a socket, for http.client. It gives bytes that were received before."""

    def __init__(self, data: bytes) -> None:
        self._file = BytesIO(data)

    def makefile(self, _: str) -> BytesIO:
        return self._file


class Socket:
    """A raw connection to the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """Reads the next answer, with a body of its Content-Length."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            response = HTTPResponse(_Received(head), method=method)  # type: ignore[arg-type]
            response.begin()
            body = b""
            if method != "HEAD" and response.length:
                body = await self.reader.readexactly(response.length)
        return Answer(response.status, response.headers, body)

    async def is_closed(self) -> bool:
        """Whether the server closes the connection without sending more."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read() == b""


@asynccontextmanager
async def connected(registry: Registry) -> AsyncIterator[Socket]:
    host, _, port = registry.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Socket(reader, writer)
    finally:
        writer.close()


async def send_raw(registry: Registry, data: bytes, method: str = "GET") -> Answer:
    """The answer to `data`, sent on a new connection."""
    async with connected(registry) as socket:
        await socket.send(data)
        return await socket.answer(method)


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    """The bytes of a request with Host, and with Content-Length if it has a body."""
    more = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([line, "Host: test", *headers, *more, "", ""]).encode("latin-1") + body
