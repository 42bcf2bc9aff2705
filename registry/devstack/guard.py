"""`guard.py STOP_SIGNAL GRACE_SECONDS UID GID KEPT_FD COMMAND…`: runs a server and ends it with who started the guard.

Standard input is a pipe whose other end only the starter holds: its end of file means "stop", whether the starter
closed it or was killed. A script of the standard library alone, so that it starts in some milliseconds. The server
is a process group of its own, hence neither a Ctrl-C in the terminal nor our signals reach it by accident.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

_POLL_SECONDS = 0.1
_REAP_SECONDS = 3.0
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """The server's exit status (negative: the signal that ended it), after the last process of its group is gone."""
    stop_signal, grace, uid, gid, kept_fd = int(arguments[0]), float(arguments[1]), *map(int, arguments[2:5])
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    libc = ctypes.CDLL(None)

    def follow_into_death() -> None:
        # After the change of user, which would clear it; this process has one thread, so a preexec_fn is safe here.
        libc.prctl(_PR_SET_PDEATHSIG, stop_signal)

    child = subprocess.Popen(  # noqa: S603
        arguments[5:],
        stdin=subprocess.DEVNULL,
        process_group=0,
        pass_fds=(kept_fd,),
        preexec_fn=follow_into_death if sys.platform == "linux" else None,
        user=uid if uid >= 0 else None,
        group=gid if gid >= 0 else None,
        extra_groups=[] if uid >= 0 else None,
    )
    try:
        while child.poll() is None:
            if asked or select.select([0], [], [], _POLL_SECONDS)[0]:
                return _ask_to_end(child, stop_signal, grace)
        return int(child.returncode)
    finally:
        _end_group(child)


def _ask_to_end(child: "subprocess.Popen[bytes]", stop_signal: int, grace: float) -> int:
    child.send_signal(stop_signal)
    try:
        return child.wait(grace)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL


def _end_group(child: "subprocess.Popen[bytes]") -> None:
    """Kills what is left of the group and waits until the kernel has taken it away."""
    deadline = time.monotonic() + _REAP_SECONDS
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(child.pid, signal.SIGKILL)
            child.poll()
            time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
