"""Checks from time to time whether the credentials of open streams are still valid."""

import time
from collections.abc import Callable

from cachetools import TTLCache

from registry.accounts.authenticate import authenticate
from registry.accounts.identity import Principal
from registry.db.engine import Database
from registry.settings import AccountSettings

# Together with the seconds between two messages of a stream, this stays well below a minute.
SECONDS = 20.0
MOST = 10_000


class Access:
    """Looks up the same credentials at most once in SECONDS, however many streams use them.

    `clock` gives seconds and never goes backwards. It may be replaced.
    """

    def __init__(self, db: Database, settings: AccountSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._db = db
        self._settings = settings
        self.clock = clock
        self._valid: TTLCache[str, Principal] = TTLCache(MOST, SECONDS, timer=lambda: self.clock())

    async def packages(self, token: str) -> frozenset[str] | None:
        """The names of the packages that the holder of `token` may see; None means all.

        Raises Unauthorized, Forbidden, or DatabaseUnavailable if it can't be found out.
        """
        principal = self._valid.get(token)
        if principal is None:
            principal = self._valid[token] = await authenticate(self._db, self._settings, token)
        if self._settings.access != "private":
            return None
        principal.require("read")
        return principal.packages
