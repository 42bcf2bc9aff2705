"""Filters of the templates: dates, counts and sizes for people, and links of users."""

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

from markupsafe import Markup, escape

_UNITS = ((31_536_000, "year"), (2_592_000, "month"), (86_400, "day"), (3600, "hour"), (60, "minute"))
_SIZES = ("B", "kB", "MB", "GB", "TB")
MAX_ADDRESS = 60


def ago(value: datetime | str | None, now: datetime | None = None) -> Markup:
    """A date as `3 hours ago` or `in 2 days`, with the exact one as its title. `never` for None."""
    if value is None:
        return Markup("never")
    at = moment(value)
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    return _time(at, _relative(seconds))


def day(value: datetime | str) -> Markup:
    """A date as `28 Nov 2026`, with the exact one as its title."""
    at = moment(value)
    return _time(at, f"{at.day} {at:%b %Y}")


def moment(value: datetime | str) -> datetime:
    """A time in UTC; texts are in the form of the API."""
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def short(value: int) -> str:
    """A count in at most three digits and a unit: 950, 48.2 k, 4.1 M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        # 999,950 is 1.0 M, not 1000 k.
        if value >= size * 0.9995 and value >= 1000:
            digits = 1 if value < size * 99.95 else 0
            return f"{value / size:.{digits}f}\N{NO-BREAK SPACE}{unit}"
    return str(value)


def count(value: int) -> Markup:
    """short(), with the exact count as its title."""
    text = short(value)
    return escape(text) if text == str(value) else Markup('<span title="{}">{}</span>').format(exact(value), text)


def exact(value: int) -> str:
    """A count with separators: 48,213."""
    return f"{value:,}"


def size(value: int) -> Markup:
    """A number of bytes as `38.4 kB` (1 kB is 1,000 bytes), with the exact one as its title."""
    amount, unit = float(value), 0
    while amount >= 999.95 and unit < len(_SIZES) - 1:
        amount, unit = amount / 1000, unit + 1
    text = f"{amount:.1f}" if unit and amount < 99.95 else f"{amount:.0f}"
    return Markup('<span title="{} bytes">{}</span>').format(exact(value), f"{text}\N{NO-BREAK SPACE}{_SIZES[unit]}")


def duration(seconds: int) -> str:
    """A number of seconds as `40 seconds` or `2 minutes`, rounded up."""
    for length, unit in ((3600, "hour"), (60, "minute")):
        if seconds > length:
            return plural(-(-seconds // length), unit)
    return plural(seconds, "second")


def plural(value: int, one: str, many: str = "") -> str:
    """`1 package`, `2 packages`."""
    return f"{exact(value)} {one if value == 1 else many or one + 's'}"


def address(value: str) -> str:
    """The http(s) address that a user gave, safe to link to; "" for anything else."""
    try:
        parts = urlsplit(value.strip())
        has_host = bool(parts.hostname)
    except ValueError:
        return ""
    return value.strip() if parts.scheme in ("http", "https") and has_host else ""


def marked(html: str) -> Markup:
    """A highlight of the search, which is escaped HTML with matched words in <em>, with <mark> instead."""
    return Markup(html.replace("<em>", "<mark>").replace("</em>", "</mark>"))  # noqa: S704 - the search escaped it


def external(value: str, label: str = "") -> Markup:
    """A link to an address that a user gave, with a short label. Plain text if it is no http(s) address."""
    link = address(value)
    if not link:
        return Markup("<bdi>{}</bdi>").format(value)
    parts = urlsplit(link)
    shown = label or f"{parts.hostname}{parts.path.rstrip('/')}"
    if len(shown) > MAX_ADDRESS:
        shown = shown[: MAX_ADDRESS - 1] + "…"
    return Markup('<a href="{}" rel="nofollow ugc noopener"><bdi>{}</bdi></a>').format(link, shown)


def _relative(seconds: float) -> str:
    distance = abs(seconds)
    if distance < 60:
        return "just now" if seconds >= 0 else "in a moment"
    length, unit = next(each for each in _UNITS if distance >= each[0])
    number = int(distance // length)
    text = f"{number} {unit}{'' if number == 1 else 's'}"
    if text == "1 day":
        return "yesterday" if seconds > 0 else "tomorrow"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def _time(at: datetime, text: str) -> Markup:
    exact_text = f"{at.day} {at:%B %Y, %H:%M:%S} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        escape(at.isoformat(timespec="seconds")), exact_text, text
    )


FILTERS: dict[str, Callable[..., str]] = {
    "ago": ago, "day": day, "count": count, "exact": exact, "size": size, "plural": plural, "external": external,
    "short": short, "duration": duration, "marked": marked,
}  # fmt: skip
