"""Charts as SVG. They take their colours from the style sheet and need no script.

`bars()` is a small chart without axes. `chart()` has axes, and each of its bars says its value when pointed at. Pages
put a table under it, so that nobody has to read the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import ceil, floor, log10

from markupsafe import Markup

BARS_WIDTH, BARS_HEIGHT = 3, 30
"""Of a small chart, in units of its view box: the width of a bar with its gap, and the height."""

HEIGHT = 220
"""Of the plot of a large chart, in pixels."""

MOST_TICKS = 4
MOST_LABELS = 8
COLOURS = 7
"""The style sheet has the classes g1 to g7. The last one is grey, for the rest."""

EDGE = 2.5
"""Percent of the width. Dates closer to an edge are not centred, so that they stay inside."""

MOST_TITLED = 4


@dataclass(frozen=True, slots=True)
class Group:
    """The values of one group in each interval."""

    label: str
    values: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.values)


@dataclass(frozen=True, slots=True)
class Chart:
    """Downloads over time. `interval` is `day`, `week` or `month`; `starts` are the first days of the intervals.

    The groups are stacked in their order. `is_current` says that the last interval has not ended.
    """

    title: str
    interval: str
    starts: tuple[date, ...]
    groups: tuple[Group, ...]
    is_current: bool = True

    @property
    def totals(self) -> tuple[int, ...]:
        """The sum of all groups in each interval."""
        return tuple(map(sum, zip(*(group.values for group in self.groups), strict=True)))


def bars(values: Sequence[int], label: str) -> Markup:
    """A small chart: one bar for each value, the last one in full colour. `label` is its text for screen readers."""
    top = max(values, default=0)
    path, width = "", BARS_WIDTH * len(values)
    heights = [_bar_height(value, top) for value in values]
    for number, height in enumerate(heights[:-1]):
        path += f"M{number * BARS_WIDTH} {BARS_HEIGHT}v-{height}h2v{height}z"
    last = heights[-1] if heights else 0
    text = f"{label}: {values[-1] if values else 0:,} now, {top:,} at most" if top else f"{label}: none"
    return Markup(
        '<svg class="bars" role="img" viewBox="0 0 {w} {h}" preserveAspectRatio="none" aria-label="{text}">'
        '<path d="{path}"/><rect class="now" x="{x}" y="{y}" width="2" height="{last}"/></svg>'
    ).format(
        w=max(width - 1, 1), h=BARS_HEIGHT, text=text, path=path, x=width - BARS_WIDTH, y=BARS_HEIGHT - last, last=last
    )


def chart(drawn: Chart, name: str = "chart") -> Markup:
    """A large chart with a legend. `name` makes its ids different from those of other charts on the page."""
    totals = drawn.totals
    if not any(totals):
        return Markup('<p class="chart-empty">There were no downloads in this period.</p>')
    ticks = _ticks(max(totals))
    scale = HEIGHT / ticks[-1]
    grid = Markup("").join(
        Markup('<line x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>').format(HEIGHT - tick * scale) for tick in ticks
    )
    return Markup(
        '<figure class="chart">{legend}<div class="chart-body">'
        '<ol class="chart-y" aria-hidden="true">{ticks}</ol>'
        '<svg role="img" width="100%" height="{height}" aria-labelledby="{id}-title {id}-text">'
        '<title id="{id}-title">{title}</title><desc id="{id}-text">{text}</desc>'
        '<g class="chart-grid">{grid}</g>'
        '<svg class="chart-plot" width="100%" height="{plot}" viewBox="0 0 {count} {plot}" preserveAspectRatio="none">'
        "{paths}{slots}</svg>{labels}</svg></div></figure>"
    ).format(
        legend=_legend(drawn),
        ticks=Markup("").join(Markup("<li>{}</li>").format(_short(tick)) for tick in reversed(ticks)),
        height=HEIGHT + 28, plot=HEIGHT, id=name, title=drawn.title, text=_description(drawn, totals), grid=grid,
        count=len(drawn.starts), paths=_paths(drawn, scale), slots=_slots(drawn, totals), labels=_labels(drawn),
    )  # fmt: skip


def period(interval: str, start: date) -> str:
    """The name of an interval: `28 Nov 2026`, `23–29 Nov 2026` or `November 2026`."""
    if interval == "month":
        return f"{start:%B %Y}"
    if interval == "day":
        return f"{start.day} {start:%b %Y}"
    end = start + timedelta(days=6)
    if start.month == end.month:
        return f"{start.day}\N{EN DASH}{end.day} {end:%b %Y}"
    first = f"{start.day} {start:%b}" if start.year == end.year else f"{start.day} {start:%b %Y}"
    return f"{first} \N{EN DASH} {end.day} {end:%b %Y}"


def _bar_height(value: int, top: int) -> int:
    """A value above 0 is at least two units high, and 0 one unit, so that it differs from a missing bar."""
    return max(round(value / top * BARS_HEIGHT), 2) if value > 0 else 1


def _ticks(top: int) -> list[int]:
    """Round numbers from 0 to at least `top`, in equal steps."""
    rough = top / MOST_TICKS
    size = 10 ** floor(log10(rough)) if rough >= 1 else 1
    step = next(
        int(size * factor) for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough and size * factor % 1 == 0
    )
    return [step * number for number in range(ceil(top / step) + 1)]


def _short(value: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:g}\N{NO-BREAK SPACE}{unit}"
    return str(value)


def _colour(number: int, count: int) -> str:
    return f"g{min(number, COLOURS - 1) + 1}" if count > 1 else "g0"


def _legend(drawn: Chart) -> Markup:
    if len(drawn.groups) == 1:
        return Markup("")
    entries = (
        Markup('<li class="{}"><bdi>{}</bdi> <span>{:,}</span></li>').format(
            _colour(number, len(drawn.groups)), group.label, group.total
        )
        for number, group in enumerate(drawn.groups)
    )
    return Markup('<figcaption><ul class="chart-legend">{}</ul></figcaption>').format(Markup("").join(entries))


def _paths(drawn: Chart, scale: float) -> Markup:
    """One path for each group. The last interval of a chart with one group has a path of its own, in full colour."""
    below = [0.0] * len(drawn.starts)
    found = Markup("")
    left, width = (0.1, 0.8) if len(drawn.starts) > 2 else (0.35, 0.3)
    for number, group in enumerate(drawn.groups):
        parts = []
        for at, value in enumerate(group.values):
            high = max(value * scale, 1.5) if value > 0 else 0
            parts.append(f"M{at + left:g} {HEIGHT - below[at]:.1f}v-{high:.1f}h{width}v{high:.1f}z" if high else "")
            below[at] += high
        colour = _colour(number, len(drawn.groups))
        if colour == "g0" and drawn.is_current:
            found += Markup('<path class="g0" d="{}"/><path class="now" d="{}"/>').format(
                "".join(parts[:-1]), parts[-1]
            )
        else:
            found += Markup('<path class="{}" d="{}"/>').format(colour, "".join(parts))
    return found


def _slots(drawn: Chart, totals: Sequence[int]) -> Markup:
    """An invisible bar for each interval, as high as the plot. Browsers and the script show its title."""
    found = []
    for at, start in enumerate(drawn.starts):
        text = f"{period(drawn.interval, start)}: {totals[at]:,} download{'' if totals[at] == 1 else 's'}"
        if len(drawn.groups) > 1 and totals[at]:
            most = sorted(drawn.groups, key=lambda group: -group.values[at])[:MOST_TITLED]
            text += "\n" + "\n".join(f"{group.label}: {group.values[at]:,}" for group in most if group.values[at])
        found.append(Markup('<rect x="{}" width="1" height="{}"><title>{}</title></rect>').format(at, HEIGHT, text))
    return Markup('<g class="chart-slots">{}</g>').format(Markup("").join(found))


def _labels(drawn: Chart) -> Markup:
    """Dates under the plot, at equal distances. Every second one is left out on narrow screens."""
    count = len(drawn.starts)
    step = ceil(count / MOST_LABELS)
    found = Markup("")
    for number, at in enumerate(range(0, count, step)):
        start = drawn.starts[at]
        text = f"{start:%b %Y}" if drawn.interval == "month" else f"{start.day} {start:%b}"
        place = (at + 0.5) / count * 100
        anchor = "start" if place < EDGE else "end" if place > 100 - EDGE else "middle"
        found += Markup('<text class="{}" x="{:.2f}%" y="{}" text-anchor="{}">{}</text>').format(
            "chart-second" if number % 2 else "chart-first", place, HEIGHT + 20, anchor, text
        )
    return Markup('<g class="chart-x" aria-hidden="true">{}</g>').format(found)


def _description(drawn: Chart, totals: Sequence[int]) -> str:
    highest = max(range(len(totals)), key=lambda at: totals[at])
    text = (
        f"{sum(totals):,} downloads in {len(totals)} {drawn.interval}s. Most were in "
        f"{period(drawn.interval, drawn.starts[highest])}: {totals[highest]:,}."
    )
    if len(drawn.groups) > 1:
        text += " " + ", ".join(f"{group.label}: {group.total:,}" for group in drawn.groups) + "."
    return text
