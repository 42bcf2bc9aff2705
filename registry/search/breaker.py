"""Remembers for a while that a server is away, so that not every request waits for it anew."""

import time

PAUSE_SECONDS = 3.0
# One slow query is that query's fault; this many in a row are the server's.
SLOW_IN_A_ROW = 3


class Breaker:
    """Closed while all is well; open for PAUSE_SECONDS after a failure; then one request probes, the others wait on."""

    def __init__(self) -> None:
        self._open_until = 0.0
        self._slow = 0

    @property
    def is_open(self) -> bool:
        return time.monotonic() < self._open_until

    def admits(self) -> bool:
        """Whether to ask the server now. After the pause, True for one caller a pause."""
        now = time.monotonic()
        if not self._open_until:
            return True
        if now < self._open_until:
            return False
        self._open_until = now + PAUSE_SECONDS
        return True

    def succeeded(self) -> None:
        self._open_until, self._slow = 0.0, 0

    def failed(self, *, slow: bool) -> None:
        self._slow = self._slow + 1 if slow else SLOW_IN_A_ROW
        if self._slow >= SLOW_IN_A_ROW or self._open_until:
            self._open_until = time.monotonic() + PAUSE_SECONDS
