"""Downloads over a broken network: the Maven client against a test server."""

import errno
import functools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from registry.devstack import maven
from registry.errors import StackError

COORDINATE = "org.example:thing:1.0:all"
CONTENT = b"thing" * 100_000


class Repository(ThreadingHTTPServer):
    """Serves one file. The first `broken` responses end after half of it."""

    broken = 0
    served = 0


class Handler(BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        if self.path != "/org/example/thing/1.0/thing-1.0-all.jar":
            self.send_error(404)
            return
        self.server.served += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        whole = self.server.served > self.server.broken
        self.wfile.write(CONTENT if whole else CONTENT[: len(CONTENT) // 2])

    def log_message(self, *_: object) -> None:
        """Keeps the access log out of the test's output."""


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    server = Repository(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    remote = {"test": f"http://127.0.0.1:{server.server_port}"}
    monkeypatch.setattr(maven, "MavenContext", functools.partial(maven.MavenContext, remote_repos=remote))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_broken_transfer_is_retried_with_growing_pauses(repository: Repository, tmp_path: Path) -> None:
    repository.broken = 2
    waits: list[float] = []
    assert maven.download(COORDINATE, tmp_path, sleep=waits.append).read_bytes() == CONTENT
    assert waits == [2, 4]


def test_after_the_last_attempt_it_raises_and_leaves_no_file(repository: Repository, tmp_path: Path) -> None:
    repository.broken = 1000
    with pytest.raises(StackError, match=r"can't be fetched from Maven Central .* Check the network"):
        maven.download(COORDINATE, tmp_path, sleep=lambda _seconds: None)
    assert repository.served == maven.ATTEMPTS
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_unknown_artifact_raises_the_same_error(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="can't be fetched from Maven Central"):
        maven.download("org.example:absent:1.0", tmp_path, sleep=lambda _seconds: None)


@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.ENOSPC, "is full"), (errno.EROFS, "is read-only"), (errno.EACCES, "can't be written")],
)
def test_a_disk_error_is_reported_without_a_retry(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    def fail(_name: str, _total: int) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(maven, "progress", fail)
    with pytest.raises(StackError, match=message):
        maven.download(COORDINATE, tmp_path, sleep=lambda _seconds: pytest.fail("it tried again"))


def test_progress_without_a_terminal_is_printed_in_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with maven.progress("thing.jar", 4 << 20) as update:
        update(1 << 20)
        update(3 << 20)
    assert capsys.readouterr().err == "thing.jar: 4 of 4 MiB\n"
