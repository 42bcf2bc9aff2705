"""A wire to a real server that a test may spoil: slow, silent, cut after so many bytes, or answering by itself."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto

PIECE = 1 << 16
# What a connection closed with this in force tells its peer is a reset (RST), not an end (FIN).
_AT_ONCE = struct.pack("ii", 1, 0)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]


class Fate(Enum):
    """What becomes of bytes that a client sent."""

    PASS = auto()
    KEEP = auto()
    """They are judged again, with what comes next."""
    RESET = auto()
    """The server never sees them; both ends are reset."""
    LOSE_ANSWER = auto()
    """The server gets them and answers; the client gets a reset in place of the answer."""


class Link:
    """One connection through the wire. `notes` is for what a judge wants to remember of it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.notes: set[str] = set()
        self.sent = self.answered = 0
        self.losing = False
        self._ends = (client, server)

    def reset(self) -> None:
        for writer in self._ends:
            end = writer.get_extra_info("socket")
            if end is not None and end.fileno() >= 0 and end.family != socket.AF_UNIX:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            writer.transport.abort()


# Of bytes sent on a link; bytes in place of a fate are the answer, which the server knows nothing of.
Judge = Callable[[Link, bytes], Fate | bytes]


class Toxic:
    """The wire. All may be changed at any time, and holds for what comes from then on.

    `latency` in seconds is added to each answer. `cut_sent` and `cut_answered` are how many bytes of one request, of
    one answer, pass before a reset. `silent` lets nothing through in either direction, `refusing` resets who connects.
    `spoiled` counts what a judge or a cut did.
    """

    def __init__(self, connect: Connect) -> None:
        self.port = 0
        self._connect = connect
        self._links: set[Link] = set()
        self.spoiled = 0
        self.heal()

    def heal(self) -> None:
        self.latency = 0.0
        self.cut_sent: int | None = None
        self.cut_answered: int | None = None
        self.silent = self.refusing = False
        self.judge: Judge | None = None

    def reset_all(self) -> int:
        """Resets every connection there is; how many those were."""
        links = list(self._links)
        for link in links:
            link.reset()
        return len(links)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, server_writer)
        if self.refusing:
            link.reset()
            return
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._requests(link, reader, writer, server_writer))
                pumps.create_task(self._answers(link, server_reader, writer))
        finally:
            self._links.discard(link)
            for end in (writer, server_writer):
                end.close()

    async def _requests(
        self, link: Link, reader: asyncio.StreamReader, client: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError):
            kept = b""
            while data := await reader.read(PIECE):
                await self._while_silent()
                link.sent, link.answered = link.sent + len(data), 0
                data = kept + data
                fate = self.judge(link, data) if self.judge else Fate.PASS
                kept = data if fate is Fate.KEEP else b""
                if kept:
                    continue
                if isinstance(fate, bytes):
                    self.spoiled += 1
                    client.write(fate)
                    client.write_eof()
                    while await reader.read(PIECE):
                        pass  # closing before the client has sent all would take the answer from it
                    break
                if fate is Fate.RESET or (self.cut_sent is not None and link.sent > self.cut_sent):
                    self.spoiled += 1
                    link.reset()
                    return
                link.losing = fate is Fate.LOSE_ANSWER
                server.write(data)
                await server.drain()
            server.close()

    async def _answers(self, link: Link, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(PIECE):
                if self.latency:
                    await asyncio.sleep(self.latency)
                await self._while_silent()
                link.answered, link.sent = link.answered + len(data), 0
                if link.losing or (self.cut_answered is not None and link.answered > self.cut_answered):
                    self.spoiled += 1
                    link.reset()
                    return
                client.write(data)
                await client.drain()
            client.close()

    async def _while_silent(self) -> None:
        while self.silent:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def toxic(connect: Connect) -> AsyncIterator[Toxic]:
    """A wire to the server that `connect` reaches, on a loopback port of its own."""
    wire = Toxic(connect)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        wire.heal()
        while wire.reset_all():
            await asyncio.sleep(0.01)


def tcp(port: int) -> Connect:
    return lambda: asyncio.open_connection("127.0.0.1", port)


def unix(path: str) -> Connect:
    return lambda: asyncio.open_unix_connection(path)


def answer(status: int, reason: str, body: bytes = b"", kind: str = "application/xml", head: str = "") -> bytes:
    """An HTTP answer after which the connection closes; `head` is further lines, each with its line end."""
    lines = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{head}"
    return f"{lines}Connection: close\r\n\r\n".encode() + body
