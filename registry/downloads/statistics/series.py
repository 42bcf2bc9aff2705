"""Downloads over time: sums per day, week or month, for all downloads or for each group of them."""

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from typing_extensions import TypedDict

from registry.db.engine import Database, Row
from registry.downloads.statistics import store
from registry.errors import FieldError, InvalidInput

INTERVALS = ("day", "week", "month")
GROUPS = ("version", *store.TRAITS)
PARAMETERS = ("from", "to", "interval", "group_by", "format")
DEFAULT_DAYS = 30
MAX_INTERVALS = 400
_DAYS_OF = {"day": 1, "week": 7, "month": 28}


class Point(TypedDict):
    """The downloads of one interval and group. Weeks begin on Monday. `unique` omits repeats within a minute."""

    start: date
    group: str | None
    downloads: int
    unique: int


class Series(TypedDict):
    """`points` has every interval, in order. With `group_by`, it has only the intervals and groups with downloads.

    The days `since` and `until` are included.
    """

    since: date
    until: date
    interval: str
    group_by: str | None
    downloads: int
    unique: int
    points: list[Point]


@dataclass(frozen=True, slots=True)
class SeriesRequest:
    """The parsed parameters of a request. `first` and `last` are days in UTC and both included."""

    first: date
    last: date
    interval: str
    group: str | None
    csv: bool

    @classmethod
    def parse(cls, query: Mapping[str, str], groups: Sequence[str], *, csv: bool) -> "SeriesRequest | None":
        """Parses the query of a request, or returns None if it asks for no series. `csv` is the default format.

        Raises InvalidInput that names every wrong parameter.
        """
        form = query.get("format", "csv" if csv else "json")
        if not any(name in query for name in PARAMETERS) and form == "json":
            return None
        errors: list[FieldError] = []

        def choice(name: str, value: str | None, allowed: Sequence[str]) -> None:
            if value is not None and value not in allowed:
                errors.append({"field": name, "message": f"must be one of {', '.join(allowed)}"})

        interval, group = query.get("interval", "day"), query.get("group_by")
        choice("interval", interval, INTERVALS)
        choice("group_by", group, groups)
        choice("format", form, ("json", "csv"))
        last = _day(query, "to", datetime.now(UTC).date(), errors)
        first = _day(query, "from", last - timedelta(days=DEFAULT_DAYS - 1), errors)
        if first > last and not errors:
            errors.append({"field": "from", "message": "must not be after `to`"})
        if not errors and (last - first).days // _DAYS_OF[interval] >= MAX_INTERVALS:
            message = f"is more than {MAX_INTERVALS} intervals before `to`; use a longer interval or a shorter period"
            errors.append({"field": "from", "message": message})
        if errors:
            raise InvalidInput.of(errors)
        return cls(first, last, interval, group, form == "csv")


async def series(db: Database, names: Collection[str] | None, request: SeriesRequest) -> Series:
    """The downloads of the packages with these names together; None means all packages."""
    async with db.read() as conn:
        rows = await store.series(conn, names, request.first, request.last, request.interval, request.group)
    return {
        "since": request.first,
        "until": request.last,
        "interval": request.interval,
        "group_by": request.group,
        "downloads": sum(int(row.downloads) for row in rows),
        "unique": sum(int(row.unique) for row in rows),
        "points": list(_points(rows, request)),
    }


def as_csv(found: Series) -> str:
    """CSV with a header and one line for each point."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(("start", *([found["group_by"]] if found["group_by"] else ()), "downloads", "unique"))
    for point in found["points"]:
        group = () if point["group"] is None else (point["group"],)
        rows.writerow((point["start"], *group, point["downloads"], point["unique"]))
    return text.getvalue()


def _points(rows: Sequence[Row], request: SeriesRequest) -> Iterator[Point]:
    if request.group is not None:
        for row in rows:
            yield {
                "start": row.start, "group": row.label, "downloads": int(row.downloads), "unique": int(row.unique)
            }  # fmt: skip
        return
    found = {row.start: row for row in rows}
    for start in starts(request):
        row = found.get(start)
        downloads, unique = (int(row.downloads), int(row.unique)) if row is not None else (0, 0)
        yield {"start": start, "group": None, "downloads": downloads, "unique": unique}


def starts(request: SeriesRequest) -> Iterator[date]:
    """The first day of each interval. The first interval may begin before the period."""
    start = request.first
    if request.interval == "week":
        start -= timedelta(days=start.weekday())
    elif request.interval == "month":
        start = start.replace(day=1)
    while start <= request.last:
        yield start
        if request.interval == "month":
            start = (start + timedelta(days=31)).replace(day=1)
        else:
            start += timedelta(days=_DAYS_OF[request.interval])


def _day(query: Mapping[str, str], name: str, default: date, errors: list[FieldError]) -> date:
    given = query.get(name)
    if given is None:
        return default
    try:
        found = datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        found = date.min
    if not date(1970, 1, 1) <= found <= date(2999, 12, 31):
        errors.append({"field": name, "message": "must be a day from 1970-01-01 to 2999-12-31, such as 2026-11-16"})
        return default
    return found
