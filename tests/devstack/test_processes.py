"""Servers end with their starter, and each folder is locked for one server."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.devstack.processes import ChildProcess, claim, last_lines, make_reachable
from registry.errors import StackError
from tests.devstack.conftest import processes_of, wait_until_gone

Starter = Callable[..., tuple["subprocess.Popen[str]", str]]

# Starts a child process. Both ignore SIGTERM.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 2:
    subprocess.Popen([sys.executable, "-c", open(sys.argv[1]).read(), sys.argv[1], "again"])
print("up", flush=True)
time.sleep(600)
"""

STARTER = """
import sys, os, time
from pathlib import Path
from registry.devstack.processes import ChildProcess, claim
folder = Path(sys.argv[1])
with claim(folder, "Server") as lock:
    child = ChildProcess("Server", [sys.executable, "-c", (folder / "code").read_text(), folder / "code"],
                         lock=lock, log=folder / "log", environ=os.environ, grace_seconds=0.5)
child.wait_until(lambda: (folder / "log").read_text().count("up") == 2, seconds=30)
print("started", flush=True)
time.sleep(600)
"""


def start(folder: Path, code: str, grace_seconds: float = 0.5) -> ChildProcess:
    (folder / "code").write_text(code)
    with claim(folder, "Server", patience=0) as lock:
        return ChildProcess(
            "Server",
            [sys.executable, "-c", code, folder / "code"],
            lock=lock,
            log=folder / "log",
            environ=os.environ,
            grace_seconds=grace_seconds,
        )


def wait_for_output(child: ChildProcess, text: str) -> None:
    child.wait_until(lambda: text in child.log.read_text(), seconds=30)


def test_stop_ends_processes_that_ignore_the_signal(folder: Path) -> None:
    child = start(folder, STUBBORN)
    child.wait_until(lambda: child.log.read_text().count("up") == 2, seconds=30)
    assert len(processes_of(folder)) == 3
    child.stop()
    child.stop()
    assert not child.running
    assert processes_of(folder) == []


def test_a_server_can_end_by_itself_before_it_is_killed(folder: Path) -> None:
    code = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("goodbye", flush=True), sys.exit(0)))
print("up", flush=True)
time.sleep(600)
"""
    child = start(folder, code, grace_seconds=30)
    wait_for_output(child, "up")
    child.stop()
    assert "goodbye" in child.log.read_text()


def test_a_server_ends_when_its_starter_is_killed(folder: Path, starter: Starter) -> None:
    (folder / "code").write_text(STUBBORN)
    process, _ = starter(STARTER, folder)
    assert len(processes_of(folder)) == 4
    process.kill()
    process.wait()
    assert wait_until_gone(folder, 10) == []


def test_a_server_ends_when_its_guard_is_killed(folder: Path) -> None:
    child = start(folder, "import time; print('up', flush=True); time.sleep(600)")
    wait_for_output(child, "up")
    os.kill(child._guard.pid, signal.SIGKILL)
    assert wait_until_gone(folder, 10) == []
    child.stop()


def test_a_folder_stays_locked_until_its_former_server_has_ended(folder: Path, starter: Starter) -> None:
    (folder / "code").write_text(STUBBORN)
    process, _ = starter(STARTER, folder)
    process.kill()
    with claim(folder, "Server", patience=10):
        others = [found for found in processes_of(folder) if found.pid != process.pid]
        assert all("guard.py" in " ".join(found.cmdline()) for found in others)


def test_a_folder_in_use_is_refused(folder: Path) -> None:
    child = start(folder, "import time; time.sleep(600)")
    with (
        pytest.raises(StackError, match=r"Server already runs on .*\. Stop it first"),
        claim(folder, "Server", 0.2),
    ):
        pytest.fail("it was claimed twice")
    child.stop()


def test_a_folder_that_cannot_be_created_is_refused(folder: Path) -> None:
    (folder / "file").write_bytes(b"")
    with pytest.raises(StackError, match="can't store its data in"), claim(folder / "file" / "data", "Server"):
        pytest.fail("it was claimed")


def test_the_error_of_a_server_that_ends_early_contains_its_output(folder: Path) -> None:
    child = start(folder, "print('no such option'); raise SystemExit(3)")
    with pytest.raises(StackError, match=r"(?s)Server ended while starting.*/log:.*no such option"):
        child.wait_until(lambda: False, seconds=30)


def test_a_server_that_is_never_ready_is_stopped(folder: Path) -> None:
    child = start(folder, "import time; time.sleep(600)")
    waits: list[float] = []
    with pytest.raises(StackError, match="was not ready after 1 seconds"):
        child.wait_until(lambda: False, seconds=1, on_wait=waits.append)
    assert waits == sorted(waits)
    assert len(waits) > 3
    assert processes_of(folder) == []


def test_last_lines_are_limited_and_accept_any_bytes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_lines(log) == ""
    log.write_bytes(b"\xff\xfe" * 9000 + b"".join(b"\nline %d" % number for number in range(40)))
    assert last_lines(log).splitlines() == [f"line {number}" for number in range(25, 40)]


def test_make_reachable_only_allows_traversing_the_parent_folders(folder: Path) -> None:
    inner = folder / "a" / "b"
    inner.mkdir(parents=True)
    for path in (folder, folder / "a", inner):
        path.chmod(0o700)
    make_reachable(inner)
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "a", inner)] == [0o701, 0o701, 0o700]
