"""A small HTTP server that answers what a test says: for routes that the registry does not have yet, and for faults."""

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Received:
    """A request. `path` has no query."""

    method: str
    path: str
    query: str
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """An answer. `length` is the declared one, if it is not the body's."""

    status: int = 200
    body: object = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None

    @property
    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Handler = Callable[[Received], Answer]


def error(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> Answer:
    """An error as the registry sends it."""
    body = {"status": status, "code": code, "detail": detail, "error": detail, "request_id": "r", **more}
    return Answer(status, body, headers or {})


class StandIn:
    """`answer` decides; `received` has the requests in order."""

    def __init__(self, answer: Handler, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.received: list[Received] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator["StandIn"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def _handler(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            received = Received(self.command, parts.path, parts.query, self.headers, body)
            stand_in.received.append(received)
            answer = stand_in.answer(received)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.data) if answer.length is None else answer.length))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client refuses what is too large
                self.wfile.write(answer.data)
                self.wfile.flush()
            self.close_connection = answer.length is not None

        def log_message(self, *_: object) -> None:
            pass

    return _Handler
