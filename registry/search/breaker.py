"""A circuit breaker: after a failure, requests do not wait for an unavailable server for a while."""

import time
from collections.abc import Callable

PAUSE_SECONDS = 3.0
# A single slow query may be slow by itself. This many in a row open the breaker.
SLOW_IN_A_ROW = 3


class Breaker:
    """Closed while the server works, and open for PAUSE_SECONDS after a failure. Then one request probes the server."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open_until = 0.0
        self._slow = 0

    @property
    def is_open(self) -> bool:
        return self._clock() < self._open_until

    def admits(self) -> bool:
        """Whether to send a request now. After the pause, one caller in each PAUSE_SECONDS gets True."""
        now = self._clock()
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
            self._open_until = self._clock() + PAUSE_SECONDS
