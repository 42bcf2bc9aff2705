"""Starts servers as child processes that never outlive this process, each with a locked folder and a user."""

import fcntl
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registry.errors import StackError

STOP_GRACE_SECONDS = 8.0
_GUARD = Path(__file__).with_name("guard.py")
# If the process that started a server is killed, the guard gives the server its grace time and then kills it.
_CLAIM_SECONDS = STOP_GRACE_SECONDS + 7
_POLL_SECONDS = 0.1
_SHOWN_LOG_LINES = 15
_SHOWN_LOG_BYTES = 8192


@dataclass(frozen=True)
class OsUser:
    """A user of the operating system."""

    uid: int
    gid: int


def unprivileged_user() -> OsUser | None:
    """The user for servers that refuse to run as root: `nobody` if we are root, else None (the current user)."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise StackError(
            "Elasticsearch and PostgreSQL refuse to run as root, and there is no user `nobody` to run them. "
            "Start the stack as an ordinary user."
        ) from None
    return OsUser(entry.pw_uid, entry.pw_gid)


def hand_over(folder: Path, user: OsUser | None) -> None:
    """Makes `user` the owner of `folder` and everything below it, and makes it reachable. Does nothing for None."""
    if user is None:
        return
    make_reachable(folder)
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, user.uid, user.gid, follow_symlinks=False)


def make_reachable(path: Path) -> None:
    """Lets every user traverse, but not list, the folders above `path`. Needs root."""
    for parent in path.resolve().parents:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode & 0o7777 | 0o001)


def last_lines(log: Path) -> str:
    """The end of a log file, for the text of an error. Empty if the file doesn't exist."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _SHOWN_LOG_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_SHOWN_LOG_LINES:])


@contextmanager
def claim(folder: Path, name: str, patience: float = _CLAIM_SECONDS) -> Iterator[int]:
    """Creates `folder` and locks it for one server. Yields the descriptor of the lock, for ChildProcess.

    Waits up to `patience` seconds for the end of an older server there. Raises StackError if it keeps running or the
    folder belongs to another user.
    """
    deadline = time.monotonic() + patience
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as failure:
        raise StackError(
            f"{name} can't store its data in {folder} ({failure.strerror}). "
            "Choose another folder or change the owner of this one."
        ) from failure
    try:
        while not _lock_now(lock):
            if time.monotonic() > deadline:
                raise StackError(f"{name} already runs on {folder}. Stop it first.")
            time.sleep(_POLL_SECONDS)
        yield lock
    finally:
        os.close(lock)


def _lock_now(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class ChildProcess:
    """A server with a guard process that ends it at `stop`, and when this process ends for any reason.

    The output goes to `log`, which is truncated first unless `append` is set. `lock` comes from `claim`. The folder
    stays locked until the last process of the server has ended, even after the `claim` block. `environ` is the
    server's whole environment. `cwd` is its working directory, by default the folder of the log.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        lock: int,
        log: Path,
        append: bool = False,
        environ: Mapping[str, str],
        cwd: Path | None = None,
        user: OsUser | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_seconds: float = STOP_GRACE_SECONDS,
    ) -> None:
        self.name = name
        self.log = log
        self._grace = grace_seconds
        runs_as = user or OsUser(-1, -1)
        rules = map(str, [int(stop_signal), grace_seconds, runs_as.uid, runs_as.gid, lock])
        with log.open("ab" if append else "wb") as output:
            self._guard = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", str(_GUARD), *rules, *map(str, command)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environ),
                cwd=cwd or log.parent,
                start_new_session=True,
                pass_fds=(lock,),
            )

    @property
    def running(self) -> bool:
        return self._guard.poll() is None

    def wait_until(
        self, ready: Callable[[], bool], *, seconds: float, on_wait: Callable[[float], None] | None = None
    ) -> None:
        """Returns when `ready()` is true. Calls `on_wait` with the seconds waited so far, ten times a second.

        If the server ends or `seconds` pass, stops it and raises StackError with the path and the end of its log.
        """
        began = time.monotonic()
        while not ready():
            waited = time.monotonic() - began
            if not self.running or waited > seconds:
                self.stop()
                what = "ended while starting" if waited <= seconds else f"was not ready after {seconds:.0f} seconds"
                raise StackError(f"{self.name} {what}; end of its log {self.log}:\n{last_lines(self.log)}")
            if on_wait is not None:
                on_wait(waited)
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stops the server and waits for its end. Kills it after its grace time. May be called again."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        try:
            self._guard.wait(self._grace + 5)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
