"""A measured figure: ours beside a baseline of the same run, by turns, as the median ratio of the rounds."""

import json
import statistics
from collections.abc import Awaitable, Callable
from typing import Any

Measure = Callable[[], Awaitable[float]]

ROUNDS = 3


async def compare(
    figure: str, ours: Measure, baseline: Measure, *, unit: str, at_least: float | None = None,
    at_most: float | None = None, ours_at_most: float | None = None, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """Measures both by turns; prints and gives the line, whose `met` says whether ratio and value are within bounds."""
    pairs = [(await ours(), await baseline()) for _ in range(ROUNDS)]
    ratios = [mine / theirs for mine, theirs in pairs]
    ratio = statistics.median(ratios)
    ours_median = statistics.median(mine for mine, _ in pairs)
    line = {
        "figure": figure,
        "unit": unit,
        "ours": round(ours_median, 2),
        "baseline": round(statistics.median(theirs for _, theirs in pairs), 2),
        "ratio": round(ratio, 3),
        "rounds": [round(each, 3) for each in ratios],
        **({"at_least": at_least} if at_least is not None else {}),
        **({"at_most": at_most} if at_most is not None else {}),
        **({"ours_at_most": ours_at_most} if ours_at_most is not None else {}),
        "met": ratio >= (at_least or 0)
        and (at_most is None or ratio <= at_most)
        and (ours_at_most is None or ours_median <= ours_at_most),
        **more,
    }
    print(json.dumps(line), flush=True)
    return line
