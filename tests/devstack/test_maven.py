"""Fetching over a network that breaks: the Maven client against a server of ours."""

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
    """Serves one file, the first `broken` times only half of it."""

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
        """Not in the test's output."""


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


def test_a_broken_transfer_is_tried_again_later_and_later(repository: Repository, tmp_path: Path) -> None:
    repository.broken = 2
    waits: list[float] = []
    assert maven.download(COORDINATE, tmp_path, sleep=waits.append).read_bytes() == CONTENT
    assert waits == [2, 4]


def test_it_gives_up_with_a_sentence_and_leaves_nothing(repository: Repository, tmp_path: Path) -> None:
    repository.broken = 1000
    with pytest.raises(StackError, match=r"can't be fetched from Maven Central .* Check the network"):
        maven.download(COORDINATE, tmp_path, sleep=lambda _seconds: None)
    assert repository.served == maven.ATTEMPTS
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_no_server_at_all_is_the_same_sentence(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="can't be fetched from Maven Central"):
        maven.download("org.example:absent:1.0", tmp_path, sleep=lambda _seconds: None)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [(errno.ENOSPC, "is full"), (errno.EROFS, "is read-only"), (errno.EACCES, "can't be written")],
)
def test_a_failure_of_the_disk_is_told_at_once(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, sentence: str
) -> None:
    def fail(_name: str, _total: int) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(maven, "progress", fail)
    with pytest.raises(StackError, match=sentence):
        maven.download(COORDINATE, tmp_path, sleep=lambda _seconds: pytest.fail("it tried again"))


def test_progress_without_a_terminal_is_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with maven.progress("thing.jar", 4 << 20) as update:
        update(1 << 20)
        update(3 << 20)
    assert capsys.readouterr().err == "thing.jar: 4 of 4 MiB\n"
