"""`guard.py STOP_SIGNAL GRACE_SECONDS UID GID KEPT_FD COMMAND…` runs a server and stops it when its own parent ends.

UID and GID are -1 for the current user. KEPT_FD is the descriptor of the folder's lock, which the server inherits.
Standard input is a pipe whose other end only the parent holds. End of file means "stop": the parent closed the pipe or
was killed. The script imports only the standard library, so it starts within milliseconds. The server has a process
group of its own, so neither a Ctrl-C in the terminal nor the signals of the guard reach it by accident.
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
    """Returns the exit status of the server when its process group has ended. Negative: the signal that ended it."""
    stop_signal, grace, uid, gid, kept_fd = int(arguments[0]), float(arguments[1]), *map(int, arguments[2:5])
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    libc = ctypes.CDLL(None)

    def end_with_guard() -> None:
        # This runs after the change of user, which would clear it. A preexec_fn is safe in a process with one thread.
        libc.prctl(_PR_SET_PDEATHSIG, stop_signal)

    child = subprocess.Popen(  # noqa: S603
        arguments[5:],
        stdin=subprocess.DEVNULL,
        process_group=0,
        pass_fds=(kept_fd,),
        preexec_fn=end_with_guard if sys.platform == "linux" else None,
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
    """Kills the rest of the process group and waits until the kernel has removed it."""
    deadline = time.monotonic() + _REAP_SECONDS
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(child.pid, signal.SIGKILL)
            child.poll()
            time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
