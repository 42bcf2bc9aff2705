"""HTTP clients of the stack: single requests, and a load that records failed requests."""

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.client import PASSWORD, tarball

READERS = 4
PAUSE_SECONDS = 0.02
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """A response with its whole body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    url: str, *, method: str = "GET", data: bytes | None = None, token: str = "", kind: str = "application/json"
) -> Answer:
    """Sends one request. Raises OSError or http.client.HTTPException when no answer comes."""
    headers = {"Content-Type": kind} if data is not None else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def sign_in(url: str, username: str) -> str:
    """A token of `username`, whose password is PASSWORD."""
    body = json.dumps({"username": username, "password": PASSWORD}).encode()
    return str(call(f"{url}/auth/login", method="POST", data=body).json["token"])


def publish(url: str, token: str, name: str, version: str) -> Answer:
    data = tarball(name=name, version=version, description=f"About {name}")
    return call(f"{url}/packages/{name}/{version}", method="PUT", data=data, token=token, kind="application/gzip")


class Load:
    """Clients that send requests during the block, each one after the other.

    Four clients read packages, search and download. If `token` is given, another one publishes. `answers` counts the
    expected answers, and `failures` describes all other results.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self.answers = 0
        self.downloads = 0
        self.failures: list[str] = []
        self._started = time.monotonic()
        self._url = url
        self._token = token
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._read) for _ in range(READERS)]
        if token:
            self._threads.append(threading.Thread(target=self._publish))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def summary(self) -> str:
        return f"{self.answers} answers, {len(self.failures)} failed"

    def require_no_failure(self) -> str:
        """The summary. Raises AssertionError if a request failed or there were too few requests."""
        assert not self.failures, f"{self.summary()}: {self.failures[:5]}"
        assert self.answers > 100, self.summary()
        return self.summary()

    def _read(self) -> None:
        expected = tarball(name="demo", version="1.0.0", description="About demo")
        while not self._stop.is_set():
            self._send(f"{self._url}/packages/demo", 200)
            self._send(f"{self._url}/search?q=demo", 200)
            if self._send(f"{self._url}/packages/demo/1.0.0/tarball", 200, body=expected):
                with self._lock:
                    self.downloads += 1
            self._stop.wait(PAUSE_SECONDS)

    def _publish(self) -> None:
        number = time.time_ns()
        while not self._stop.is_set():
            number += 1
            version = f"1.0.{number}"
            data = tarball(name="load", version=version, description="About load")
            self._send(f"{self._url}/packages/load/{version}", 201, data=data)
            self._stop.wait(PAUSE_SECONDS)

    def _send(self, url: str, status: int, *, body: bytes = b"", data: bytes | None = None) -> bool:
        """Sends a request. Returns whether the answer was the expected one."""
        seconds = time.monotonic() - self._started
        try:
            if data is None:
                answer = call(url)
            else:
                answer = call(url, method="PUT", data=data, token=self._token, kind="application/gzip")
            problem = "" if answer.status == status else f"{answer.status} {answer.body[:200]!r}"
            if body and answer.status == status and answer.body != body:
                problem = "the wrong bytes"
        except (OSError, http.client.HTTPException) as error:
            problem = repr(error)
        with self._lock:
            if problem:
                self.failures.append(f"{seconds:.1f} s: {url}: {problem}")
            else:
                self.answers += 1
        return not problem
