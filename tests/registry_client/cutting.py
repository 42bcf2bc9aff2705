"""A TCP proxy that cuts connections at a chosen place: a network that fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit


class CuttingProxy:
    """Forwards to the registry at `target`, one request per connection. `requests` has the first bytes of each.

    Of the first `answers_cut` requests that contain `matching`, only `answer_bytes` bytes of the answer get through.
    """

    def __init__(self, target: str, *, answer_bytes: int, answers_cut: int = 1, matching: bytes = b"") -> None:
        self._target = urlsplit(target)
        self._answer_bytes = answer_bytes
        self._left = answers_cut
        self._matching = matching
        self.requests: list[bytes] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(1 << 16)
        self.requests.append(first)
        allowed = None
        if self._left and self._matching in first:
            self._left, allowed = self._left - 1, self._answer_bytes
        up_reader, up_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        up_writer.write(first.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        sending = asyncio.create_task(_copy(reader, up_writer, None))
        try:
            await _copy(up_reader, writer, allowed)
        finally:
            sending.cancel()
            writer.close()
            up_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> None:
    with contextlib.suppress(ConnectionError):
        while limit is None or limit > 0:
            block = await reader.read(1 << 16 if limit is None else limit)
            if not block:
                return
            writer.write(block)
            await writer.drain()
            limit = None if limit is None else limit - len(block)
        # The whole answer must exist before it is lost: what the server did is done.
        while await reader.read(1 << 16):
            pass
