"""A data folder for servers, and a Python process that starts a server and can be killed."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder that other users can reach: servers do not run as root. pytest closes its own folders."""
    with tempfile.TemporaryDirectory(prefix="synapse-") as name:
        yield Path(name).resolve()


@pytest.fixture
def starter() -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Runs `code` with `arguments` in a new process. Returns the process and the first line that it prints."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True, cwd=PROJECT
        )
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line, "the starter printed nothing"
        return process, line

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every other process that names `folder` in its command or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            texts = [*process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if process.pid != psutil.Process().pid and any(str(folder) in text for text in texts):
            found.append(process)
    return found


def wait_until_gone(folder: Path, seconds: float) -> list[psutil.Process]:
    """Waits up to `seconds` until no process uses `folder`. Returns those that still run."""
    deadline = time.monotonic() + seconds
    while (left := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left
