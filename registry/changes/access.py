"""Checks from time to time whether the credentials of open streams are still valid."""

import time
from collections.abc import Awaitable, Callable

from cachetools import TTLCache

from registry.accounts.identity import Principal

# Together with the seconds between two messages of a stream, this stays well below a minute.
SECONDS = 20.0
MOST = 10_000


class Access:
    """Looks up the same credentials at most once in SECONDS, however many streams use them.

    `look_up` finds the principal of a token. `private` says whether reading needs the right to read. `clock` gives
    seconds and never goes backwards.
    """

    def __init__(
        self,
        look_up: Callable[[str], Awaitable[Principal]],
        *,
        private: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._look_up = look_up
        self._private = private
        self._valid: TTLCache[str, Principal] = TTLCache(MOST, SECONDS, timer=lambda: self.clock())

    async def packages(self, token: str) -> frozenset[str] | None:
        """The names of the packages that the holder of `token` may see; None means all.

        Raises Unauthorized, Forbidden, or DatabaseUnavailable if it can't be found out.
        """
        principal = self._valid.get(token)
        if principal is None:
            principal = self._valid[token] = await self._look_up(token)
        if not self._private:
            return None
        principal.require("read")
        return principal.packages
