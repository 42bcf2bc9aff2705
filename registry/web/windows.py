"""Counting in fixed windows, in this process's memory: what stands in for Redis."""

import time

TIDY_FIRST_AT = 10_000


class Windows:
    """Counts by key. Ended windows are dropped whenever twice as many are there as were left the last time."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[int, float]] = {}
        self._tidy_at = TIDY_FIRST_AT

    def __len__(self) -> int:
        return len(self._open)

    def count(self, key: str, seconds: int) -> tuple[int, float]:
        """Counts one: (how many in the window of `key`, the Unix time it ends), a new window after an ended one."""
        now = time.time()
        used, end = self._open.get(key, (0, 0.0))
        if end <= now or end > now + seconds:  # the clock was set back
            used, end = 0, now + seconds
        self._open[key] = used + 1, end
        if len(self._open) >= self._tidy_at:
            self._open = {key: window for key, window in self._open.items() if window[1] > now}
            self._tidy_at = max(TIDY_FIRST_AT, 2 * len(self._open))
        return used + 1, end
