"""Counters with fixed windows, in the memory of this process."""

import time
from collections.abc import Callable

# With fewer keys than this, ended windows are not worth removing.
CLEAN_UP_SIZE = 10_000


class Windows:
    """Counts by key. Removes ended windows whenever the number of keys has doubled. `clock` gives Unix time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._windows: dict[str, tuple[int, float]] = {}
        self._clean_up_at = CLEAN_UP_SIZE

    def __len__(self) -> int:
        return len(self._windows)

    def count(self, key: str, seconds: int) -> tuple[int, float]:
        """Adds one to `key`. Returns its count and the Unix time at which its window ends.

        A key without an open window starts one of `seconds`.
        """
        now = self._clock()
        used, end = self._windows.get(key, (0, 0.0))
        # A window that ends more than `seconds` from now began before the clock was set back, and counts as ended.
        if not now < end <= now + seconds:
            used, end = 0, now + seconds
        self._windows[key] = used + 1, end
        if len(self._windows) >= self._clean_up_at:
            self._windows = {key: window for key, window in self._windows.items() if window[1] > now}
            self._clean_up_at = max(CLEAN_UP_SIZE, 2 * len(self._windows))
        return used + 1, end

    def read(self, key: str, seconds: int) -> tuple[int, float]:
        """The count of `key` and the end of its window of `seconds`; (0, 0.0) without an open window."""
        now = self._clock()
        used, end = self._windows.get(key, (0, 0.0))
        # A window that ends more than `seconds` from now began before the clock was set back, and counts as ended.
        return (used, end) if now < end <= now + seconds else (0, 0.0)
