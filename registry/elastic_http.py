"""Sends the requests of Elasticsearch's client, at a fraction of the processor time of its default HTTP client.

docs/decisions/0025-connections-to-elasticsearch.md says why. The client still chooses the node, authenticates,
serialises and raises the errors. A connection carries one request at a time and is kept open for the next one.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import cast

import httptools
from elastic_transport import AiohttpHttpNode, ApiResponseMeta, ConnectionTimeout, HttpHeaders, NodeConfig, TlsError
from elastic_transport import ConnectionError as ClientConnectionError
from elastic_transport._node import NodeApiResponse
from elastic_transport.client_utils import DEFAULT, DefaultType

# A server or a firewall may have dropped a connection that was unused for longer.
IDLE_SECONDS = 15.0
# The longest answer in bytes. The documents of a page of 500 packages are far shorter.
MAX_ANSWER = 256 << 20


class KeptNode(AiohttpHttpNode):
    """A node of Elasticsearch with the connections to it, at most `connections_per_node`."""

    def __init__(self, config: NodeConfig) -> None:
        super().__init__(config)
        self._idle: list[_Connection] = []
        self._free = asyncio.Semaphore(config.connections_per_node)
        host = f"[{config.host}]" if ":" in config.host else config.host
        self._first_headers = f"host: {host}:{config.port}\r\n"

    async def perform_request(  # type: ignore[override]  # as in every asynchronous node
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: HttpHeaders | None = None,
        request_timeout: DefaultType | float | None = DEFAULT,
    ) -> NodeApiResponse:
        """The response to a request. Raises ConnectionTimeout, TlsError, ConnectionError."""
        if method == "HEAD":  # rare, and the parser would wait for the body that its answer announces
            return await super().perform_request(method, target, body, headers, request_timeout)
        seconds = self.config.request_timeout if isinstance(request_timeout, DefaultType) else request_timeout
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(seconds), self._free:
                answer = await self._send(method, target, body or b"", headers or {})
        except TimeoutError as error:
            raise ConnectionTimeout("Connection timed out during request", errors=(error,)) from error
        except ssl.SSLError as error:
            raise TlsError(str(error), errors=(error,)) from error
        except (OSError, httptools.HttpParserError) as error:
            raise ClientConnectionError(f"{type(error).__name__}: {error}", errors=(error,)) from error
        meta = ApiResponseMeta(
            node=self.config,
            duration=loop.time() - began,
            http_version="1.1",
            status=answer.status,
            headers=HttpHeaders(answer.headers),
        )
        return NodeApiResponse(meta, b"".join(answer.parts))

    async def _send(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> "_Answer":
        lines = [f"{name}: {value}\r\n" for name, value in {**self.headers, **headers}.items()]
        first = f"{method} {self.path_prefix}{target} HTTP/1.1\r\n{self._first_headers}"
        head = f"{first}{''.join(lines)}content-length: {len(body)}\r\n\r\n".encode()
        kept = self._kept()
        if kept is not None:
            try:
                return await self._exchange(kept, head, body)
            except OSError:
                # The server closes connections that it finds unused too long. It may do so while the request arrives.
                if kept.received:
                    raise
        return await self._exchange(await self._opened(), head, body)

    async def _exchange(self, connection: "_Connection", head: bytes, body: bytes) -> "_Answer":
        try:
            answer = await connection.send(head, body)
        except BaseException:
            connection.abort()
            raise
        if connection.is_reusable:
            self._idle.append(connection)
        return answer

    def _kept(self) -> "_Connection | None":
        """An open connection that was used lately. Closes older ones."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable and connection.idle_seconds < IDLE_SECONDS:
                return connection
            connection.abort()
        return None

    async def _opened(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            _Connection, self.config.host, self.config.port, ssl=self._ssl_context
        )
        return connection

    async def close(self) -> None:  # type: ignore[override]
        while self._idle:
            self._idle.pop().abort()
        await super().close()


class _Answer:
    """A response while it arrives."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []


class _Connection(asyncio.Protocol):
    """`received` is the number of bytes of the answer to the last request so far."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._waiting: asyncio.Future[_Answer] | None = None
        self._answer = _Answer()
        self._parser = httptools.HttpResponseParser(self)
        self._keeps_alive = True
        self.received = 0
        self._used_at = self._loop.time()

    @property
    def is_reusable(self) -> bool:
        return self._keeps_alive and not self._transport.is_closing()

    @property
    def idle_seconds(self) -> float:
        return self._loop.time() - self._used_at

    async def send(self, head: bytes, body: bytes) -> _Answer:
        """The response to a request. Raises OSError, HttpParserError. If it is cancelled, abort the connection."""
        self._waiting, self._answer, self.received = self._loop.create_future(), _Answer(), 0
        self._transport.writelines((head, body))
        return await self._waiting

    def abort(self) -> None:
        self._transport.abort()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another base class

    def data_received(self, data: bytes) -> None:
        if self._waiting is None or self._waiting.done():
            self._transport.abort()  # a response that nobody asked for
            return
        self.received += len(data)
        if self.received > MAX_ANSWER:
            self._fail(OSError(f"The answer is longer than {MAX_ANSWER} bytes."))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)

    def connection_lost(self, reason: Exception | None) -> None:
        self._fail(reason or ConnectionResetError("The server closed the connection."))

    def _fail(self, error: Exception) -> None:
        self._transport.abort()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

    # Called by the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers[name.decode("latin-1")] = value.decode("latin-1")

    def on_body(self, part: bytes) -> None:
        self._answer.parts.append(part)

    def on_message_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        self._keeps_alive = self._parser.should_keep_alive()
        self._used_at = self._loop.time()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._answer)
