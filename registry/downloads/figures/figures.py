"""The use cases of figures. Their results are shared by all requests of a process and kept for seconds."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from cachetools import TTLCache

from registry.db.engine import Database, Row
from registry.downloads.figures import store
from registry.downloads.figures.kept import Kept

WEEKS = 52
LISTED = 10
"""The length of a ranking."""

WEEKLY_SECONDS = 5.0
WEEKLY_ENTRIES = 5_000

BEFORE_WEEKS = 4
FLOOR = 20
"""Downloads. See `Ranked.rise`."""

LEAST_RISE = 20
"""Percent. A smaller rise is no news."""

Weeks = tuple[int, ...]
_NONE: Weeks = (0,) * WEEKS


@dataclass(frozen=True, slots=True)
class Totals:
    """Visible packages, their versions, and the downloads of the last 7 days."""

    packages: int
    versions: int
    week: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """A package in a ranking. `week` counts the downloads of the last 7 days.

    `rise` compares them with the mean of the BEFORE_WEEKS weeks before, in percent of that mean. A mean below FLOOR
    counts as FLOOR, so that a package that was downloaded three times after a week with one download has not risen by
    200 %.
    """

    name: str
    description: str
    week: int
    rise: int


@dataclass(frozen=True, slots=True)
class Rankings:
    """Up to LISTED packages each. Those of `most_downloaded` have a `rise` of 0.

    `rising` lists packages with at least FLOOR downloads in the last 7 days that have risen by LEAST_RISE or more, the
    highest rise first.
    """

    most_downloaded: tuple[Ranked, ...]
    rising: tuple[Ranked, ...]


def today() -> date:
    return datetime.now(UTC).date()


class Figures:
    """The figures of one process. `clock` gives seconds and never goes backwards; `today` is the day in UTC."""

    def __init__(
        self, db: Database, *, clock: Callable[[], float] = time.monotonic, today: Callable[[], date] = today
    ) -> None:
        self._db = db
        self._today = today
        self._weeks: TTLCache[str, Weeks] = TTLCache(WEEKLY_ENTRIES, WEEKLY_SECONDS, timer=clock)
        self._totals: Kept[Totals] = Kept(clock=clock)
        self._rankings: Kept[Rankings] = Kept(clock=clock)

    async def weekly(self, names: Collection[str]) -> Mapping[str, Weeks]:
        """The downloads of each package in the last WEEKS weeks, oldest first. The last week ends today.

        `names` are names that the client may see, as they were published. One query reads those that are not cached.
        A package that doesn't exist has no downloads.
        """
        found = {name: weeks for name in names if (weeks := self._weeks.get(name)) is not None}
        missing = [name for name in set(names) if name not in found]
        if missing:
            read = await self._read_weeks(missing)
            self._weeks.update(read)
            found |= read
        return found

    async def _read_weeks(self, names: Collection[str]) -> dict[str, Weeks]:
        last = self._today()
        async with self._db.read() as conn:
            rows = await store.weekly(conn, names, last, WEEKS)
        counts: dict[str, list[int]] = {}
        for row in rows:
            counts.setdefault(row.name, [0] * WEEKS)[WEEKS - 1 - row.back] = int(row.downloads)
        return {name: tuple(counts[name]) if name in counts else _NONE for name in names}

    async def totals(self, visible: frozenset[str] | None = None) -> Totals:
        """The totals of the registry, or of the packages in `visible`."""

        async def read() -> Totals:
            async with self._db.read() as conn:
                return Totals(*await store.totals(conn, visible, self._today()))

        return await self._totals.get(visible, read)

    async def rankings(self, visible: frozenset[str] | None = None) -> Rankings:
        """The rankings of the registry, or of the packages in `visible`. Hidden packages are not listed."""

        async def read() -> Rankings:
            async with self._db.read() as conn:
                rows = await store.ranked(conn, visible, self._today(), BEFORE_WEEKS, FLOOR, LEAST_RISE, LISTED)
            return Rankings(
                tuple(_ranked(row) for row in rows if not row.is_rising),
                tuple(_ranked(row) for row in rows if row.is_rising),
            )

        return await self._rankings.get(visible, read)


def _ranked(row: Row) -> Ranked:
    return Ranked(row.name, row.description, int(row.week), int(row.rise))
