"""What a page of statistics shows: a period, an interval and a group, from the query of a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from urllib.parse import urlencode

from registry.downloads.statistics import breakdown, series
from registry.downloads.statistics.breakdown import OTHERS
from registry.pages import charts
from registry.pages.countries import country

RANGES = {30: "30 days", 90: "90 days", 365: "A year"}
DEFAULT_RANGE = 90
TRAITS = {"version": "Version", "client": "Client", "kind": "Kind of client", "country": "Country", "os": "System"}
KINDS = {
    "human": "People", "ci": "CI", "mirror": "Mirrors and caches", "bot": "Bots", "unknown": "Unknown",
}  # fmt: skip
INTERVALS = {"day": "Days", "week": "Weeks", "month": "Months"}
MAX_POINTS = 130
"""More bars would be too narrow to point at."""

DAYS_BY_DAY, DAYS_BY_WEEK = 45, 400
"""The longest periods that are shown by day and by week if the request names no interval."""

_DAYS_OF = {"day": 1, "week": 7, "month": 28}
_GROUPS = charts.COLOURS - 1


@dataclass(frozen=True, slots=True)
class View:
    """`days` is the chosen range, or 0 for a period of the user's own. `group` is a trait, or "" for all together."""

    first: date
    last: date
    days: int
    interval: str
    group: str

    @classmethod
    def parse(cls, query: Mapping[str, str], groups: Sequence[str], today: date) -> "View":
        """Raises InvalidInput that names every wrong parameter, as the API does."""
        days = next((days for days in RANGES if query.get("range") == str(days)), 0)
        own = {name: query[name] for name in ("from", "to") if query.get(name)}
        if days or not own:
            days = days or DEFAULT_RANGE
            first = today - timedelta(days=days - 1)
            if days > DAYS_BY_DAY:  # whole weeks, so that the first bar is not shorter than it should be
                first -= timedelta(days=first.weekday())
            own = {"from": str(first), "to": str(today)}
        chosen = {
            api: query[name] for api, name in (("interval", "interval"), ("group_by", "group_by")) if query.get(name)
        }
        # With months, the period is limited only by the number of points.
        asked = series.SeriesRequest.parse({"interval": "month", **own, **chosen}, groups, csv=False)
        assert asked is not None  # noqa: S101 - it is None only for a query without parameters
        view = cls(asked.first, asked.last, days, "", asked.group or "")
        interval = query.get("interval") or view.default_interval
        return replace(view, interval=interval if interval in view.intervals else view.default_interval)

    @property
    def length(self) -> int:
        """In days."""
        return (self.last - self.first).days + 1

    @property
    def default_interval(self) -> str:
        return "day" if self.length <= DAYS_BY_DAY else "week" if self.length <= DAYS_BY_WEEK else "month"

    @property
    def intervals(self) -> dict[str, str]:
        """The intervals that give at most MAX_POINTS bars, with their labels."""
        allowed = {name: label for name, label in INTERVALS.items() if self.length <= _DAYS_OF[name] * MAX_POINTS}
        return allowed or {"month": INTERVALS["month"]}

    @property
    def request(self) -> series.SeriesRequest:
        return series.SeriesRequest(self.first, self.last, self.interval, self.group or None, csv=False)

    def query(self, **changes: object) -> str:
        """The query of the page that shows this view with some changes."""
        view = replace(self, **changes)  # type: ignore[arg-type]  # fields of this class
        period = {"range": view.days} if view.days else {"from": view.first, "to": view.last}
        interval = {"interval": view.interval} if view.interval else {}
        return "?" + urlencode(period | interval | ({"group_by": view.group} if view.group else {}))

    def csv_query(self, group: str = "") -> str:
        period = {"from": self.first, "to": self.last, "interval": self.interval}
        return "?" + urlencode(period | ({"group_by": group} if group else {}) | {"format": "csv"})


def label(trait: str, value: str) -> str:
    """The name of a group for people."""
    if value == OTHERS:
        return "Others"
    if not value:
        return "Unknown"
    if trait == "kind":
        return KINDS.get(value, value)
    return country(value) if trait == "country" else value


def chart_of(view: View, found: series.Series, title: str, today: date) -> charts.Chart:
    """The chart of a series. The groups with the fewest downloads are added up."""
    starts = tuple(series.starts(view.request))
    place = {start: number for number, start in enumerate(starts)}
    values: dict[str, list[int]] = {}
    for point in found["points"]:
        counts = values.setdefault(point["group"] or "", [0] * len(starts))
        counts[place[point["start"]]] += point["downloads"]
    if not view.group:
        groups = [charts.Group("Downloads", tuple(values.get("", [0] * len(starts))))]
    else:
        groups = _largest({name: tuple(counts) for name, counts in values.items()}, view.group, len(starts))
    return charts.Chart(title, view.interval, starts, tuple(groups), is_current=view.last >= today)


def _largest(values: Mapping[str, tuple[int, ...]], trait: str, count: int) -> list[charts.Group]:
    """The groups with the most downloads, and the sum of all others at the end."""
    ordered = sorted(values, key=lambda name: (name == OTHERS, -sum(values[name]), name))
    named = [name for name in ordered if name != OTHERS][:_GROUPS]
    rest = [values[name] for name in ordered if name not in named]
    groups = [charts.Group(label(trait, name), values[name]) for name in named]
    if rest:
        groups.append(charts.Group("Others", tuple(map(sum, zip(*rest, strict=True)))))
    return groups or [charts.Group("Downloads", (0,) * count)]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table of shares. `percent` is of all downloads of the period. `value` is the group in the API."""

    label: str
    value: str
    downloads: int
    unique: int
    percent: float


def rows_of(trait: str, shares: Sequence[breakdown.Share]) -> list[Row]:
    total = sum(each.downloads for each in shares) or 1
    return [
        Row(label(trait, each.label), each.label, each.downloads, each.unique, round(100 * each.downloads / total, 1))
        for each in shares
    ]
