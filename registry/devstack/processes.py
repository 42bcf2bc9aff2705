"""Child servers that never outlive this process, and what they need: a claimed folder and a user."""

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
# A server whose starter was killed has its grace to end, then its guard kills it.
_CLAIM_SECONDS = STOP_GRACE_SECONDS + 7
_POLL_SECONDS = 0.1
_SHOWN_LOG_LINES = 15
_SHOWN_LOG_BYTES = 8192


@dataclass(frozen=True)
class OsUser:
    """An operating system user by number."""

    uid: int
    gid: int


def unprivileged_user() -> OsUser | None:
    """The user that servers which refuse root run as: `nobody` for root, None (= ourselves) for anyone else."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise StackError(
            "Elasticsearch and PostgreSQL refuse to run as root and there is no user `nobody` to run them as; "
            "start the stack as an ordinary user."
        ) from None
    return OsUser(entry.pw_uid, entry.pw_gid)


def hand_over(folder: Path, user: OsUser | None) -> None:
    """Gives `folder` and all below it to `user` and lets it through the folders above; nothing for None."""
    if user is None:
        return
    make_reachable(folder)
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, user.uid, user.gid, follow_symlinks=False)


def make_reachable(path: Path) -> None:
    """Lets every user pass through (not list) the folders above `path`. For root only."""
    for parent in path.resolve().parents:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode & 0o7777 | 0o001)


def last_lines(log: Path) -> str:
    """The end of a log file, for the text of an error; empty when there is no such file."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _SHOWN_LOG_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_SHOWN_LOG_LINES:])


@contextmanager
def claim(folder: Path, name: str, patience: float = _CLAIM_SECONDS) -> Iterator[int]:
    """Makes `folder` and takes it for one server; yields the lock's descriptor, of which a ChildProcess keeps a copy.

    Waits up to `patience` seconds for a former server there to end. Raises StackError when it goes on running
    or the folder belongs to someone else.
    """
    deadline = time.monotonic() + patience
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as failure:
        raise StackError(
            f"{name} can't keep its data in {folder} ({failure.strerror}); "
            "choose another folder or change the owner of this one."
        ) from failure
    try:
        while not _lock_now(lock):
            if time.monotonic() > deadline:
                raise StackError(f"{name} already runs on {folder}; stop that one first.")
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
    """A server under a guard that ends it when `stop` is called and when this process dies in any way.

    Output goes to `log` (emptied first). `lock` comes from `claim`, which may end before the
    server does: the folder is free again when the last of its processes is gone. `environ` is its whole environment,
    `cwd` its working directory (else the log's folder).
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        lock: int,
        log: Path,
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
        with log.open("wb") as output:
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
        """Returns when `ready()` is true; calls `on_wait` with the seconds waited so far, ten times a second.

        Raises StackError, with the end of the log and its path, when the server ends or `seconds` pass; it is then
        stopped.
        """
        began = time.monotonic()
        while not ready():
            waited = time.monotonic() - began
            if not self.running or waited > seconds:
                self.stop()
                what = "ended while starting" if waited <= seconds else f"was not ready after {seconds:.0f} seconds"
                raise StackError(f"{self.name} {what}; the end of its log {self.log}:\n{last_lines(self.log)}")
            if on_wait is not None:
                on_wait(waited)
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Ends the server and waits until it is gone: asked first, killed after its grace. May be called again."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        try:
            self._guard.wait(self._grace + 5)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
