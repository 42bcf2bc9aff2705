"""The pages of statistics, and their tables as CSV."""

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from registry.accounts.requests import visible_packages
from registry.downloads.keys import FIGURES
from registry.downloads.statistics import breakdown, series
from registry.keys import DB
from registry.pages import charts, frame
from registry.pages.package.head import Head, head_of, package_page, render
from registry.pages.statistics import view as views
from registry.web.answers import NO_STORE
from registry.web.route import READS, query

CSV = {"Content-Type": "text/csv; charset=utf-8", "Cache-Control": NO_STORE}


async def registry_stats(request: web.Request) -> web.StreamResponse:
    """Downloads of the registry over time, and by client, kind, country and system."""
    return await _page(request, None)


@package_page
async def package_stats(request: web.Request) -> web.StreamResponse:
    """Downloads of a package over time, and by version, client, kind, country and system."""
    return await _page(request, await head_of(request, "stats"))


async def _page(request: web.Request, head: Head | None) -> web.StreamResponse:
    name = None if head is None else head.about.name
    db, today = request.app[DB], datetime.now(UTC).date()
    groups = breakdown.TRAITS if name is None else series.GROUPS
    view = views.View.parse(request.query, groups, today)
    visible = visible_packages(request) if name is None else [name]
    found = await series.series(db, visible, view.request)
    if request.query.get("format") == "csv":
        return _csv(found, name or "registry")
    title = f"Downloads of {name}" if name else "Downloads of all packages"
    drawn = views.chart_of(view, found, title, today)
    shares = await breakdown.breakdown(db, name, view.first, view.last)
    values: dict[str, Any] = {
        "view": view,
        "found": found,
        "drawn": drawn,
        "chart": charts.chart(drawn),
        "period": charts.period,
        "traits": {trait: views.TRAITS[trait] for trait in groups},
        "ranges": views.RANGES,
        "shares": {trait: views.rows_of(trait, each) for trait, each in shares.items()},
    }
    if head is None or name is None:
        return frame.render(
            request, "statistics/registry.html", title="Statistics",
            description="Downloads over time, by client, kind of client, country and system.",
            totals=await request.app[FIGURES].totals(visible_packages(request)), name=None, **values,
        )  # fmt: skip
    weeks = (await request.app[FIGURES].weekly([name]))[name]
    description = f"Downloads of {name} over time, by version, client, kind of client, country and system."
    return render(
        request, head, "statistics/package.html", title=f"Statistics of {name}", description=description, weeks=weeks,
        name=name, **values,
    )  # fmt: skip


def _csv(found: series.Series, name: str) -> web.Response:
    headers = {**CSV, "Content-Disposition": f'attachment; filename="{name}-downloads.csv"'}
    return web.Response(body=series.as_csv(found).encode(), headers=headers)


def _parameters(groups: tuple[str, ...]) -> tuple[dict[str, object], ...]:
    text = {"type": "string"}
    day = {"type": "string", "format": "date"}
    return (
        query("range", {"type": "string", "enum": [str(days) for days in views.RANGES]}, "Days until today"),
        query("from", day, "First day"),
        query("to", day, "Last day"),
        query("interval", {"type": "string", "enum": list(series.INTERVALS)}, "Length of an interval"),
        query("group_by", {"type": "string", "enum": list(groups)}, "What downloads are grouped by"),
        query("format", text, "`csv` for the figures of the chart"),
    )


ROUTES = (
    frame.page("GET", "/stats", registry_stats, "Statistics of the registry", limit=READS,
               parameters=_parameters(breakdown.TRAITS)),
    frame.page("GET", "/packages/{name}/stats", package_stats, "Statistics of a package", limit=READS,
               parameters=_parameters(series.GROUPS)),
)  # fmt: skip
