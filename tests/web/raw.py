"""HTTP as bytes on a socket: for what no client would send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPResponse
from io import BytesIO

from tests.client import Answer, Registry

# The server reads on this long after it refused a body, so that the client gets to see the answer.
PATIENCE = 15.0


class _Received:
    """What http.client wants of a socket, over bytes that are there already."""

    def __init__(self, data: bytes) -> None:
        self._file = BytesIO(data)

    def makefile(self, _: str) -> BytesIO:
        return self._file


class Socket:
    """A connection to the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer, with the body that its Content-Length announces."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            response = HTTPResponse(_Received(head), method=method)  # type: ignore[arg-type]
            response.begin()
            body = b""
            if method != "HEAD" and response.length:
                body = await self.reader.readexactly(response.length)
        return Answer(response.status, response.headers, body)

    async def is_closed(self) -> bool:
        """Whether the server sends nothing more and hangs up."""
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
    """The answer to `data` on a connection of its own."""
    async with connected(registry) as socket:
        await socket.send(data)
        return await socket.answer(method)


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    """A request with Host; Content-Length when there is a body."""
    more = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([line, "Host: test", *headers, *more, "", ""]).encode("latin-1") + body
