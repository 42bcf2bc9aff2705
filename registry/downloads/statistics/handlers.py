"""Serves statistics of downloads: totals, series over time as JSON or CSV, and badges."""

from typing import NotRequired

from aiohttp import web
from anybadge import Badge

from registry.accounts.requests import visible_packages
from registry.downloads.statistics.series import GROUPS, INTERVALS, Series, SeriesRequest, as_csv, series
from registry.downloads.statistics.store import TRAITS
from registry.errors import NotFound, Quarantined
from registry.keys import DB
from registry.packages import read
from registry.packages.requests import PACKAGE, name_of, redirect_look_alikes
from registry.web.responses import accepts, matches, metadata_response, rendered_response, tag_of
from registry.web.route import READS, Route, group, query

BADGES = ("version", "downloads", "license")
BADGE_MAX_AGE = 300
MAX_BADGE_TEXT = 40
CSV_TYPE = "text/csv; charset=utf-8"


class PackageStats(read.PackageStats):
    """Has `series` if the request has a period, an interval or a group."""

    series: NotRequired[Series]


class RegistryStats(read.RegistryStats):
    """Has `series` if the request has a period, an interval or a group."""

    series: NotRequired[Series]


@redirect_look_alikes
async def get_package_stats(request: web.Request) -> web.StreamResponse:
    """The downloads of a package. With a period, an interval or a group, the answer also has a series, as JSON or as
    CSV.
    """
    wanted = SeriesRequest.parse(request.query, GROUPS, csv=accepts(request, "text/csv"))
    stats = await read.package_stats(request.app[DB], name_of(request))
    if wanted is None:
        return metadata_response(request, stats)
    found = await series(request.app[DB], [stats["name"]], wanted)
    return _csv(request, found, stats["name"]) if wanted.csv else metadata_response(request, {**stats, "series": found})


async def get_registry_stats(request: web.Request) -> web.StreamResponse:
    """The totals of the registry. With a period, an interval or a group, the answer also has a series, as JSON or as
    CSV.
    """
    wanted = SeriesRequest.parse(request.query, tuple(TRAITS), csv=accepts(request, "text/csv"))
    visible = visible_packages(request)
    if wanted is None:
        return metadata_response(request, await read.registry_stats(request.app[DB], visible))
    found = await series(request.app[DB], visible, wanted)
    if wanted.csv:
        return _csv(request, found, "registry")
    return metadata_response(request, {**await read.registry_stats(request.app[DB], visible), "series": found})


@redirect_look_alikes
async def get_badge(request: web.Request) -> web.StreamResponse:
    """A badge for a README: a small SVG image with the version, the downloads or the licence of a package."""
    kind = request.match_info["badge"]
    if kind not in BADGES:
        raise NotFound(f"There is no badge {kind[:MAX_BADGE_TEXT]!r}; there are {', '.join(BADGES)}.")
    label, value, colour = _badge(kind, await read.package_info(request.app[DB], name_of(request)))
    tag = tag_of(f"{label}\n{value}\n{colour}".encode())
    headers = {"ETag": f'"{tag}"', "Cache-Control": f"public, max-age={BADGE_MAX_AGE}"}
    if matches(request, tag):
        return web.Response(status=304, headers=headers)
    # A licence is any text. This policy keeps scripts in it from running.
    headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    Badge.mask_id = 0  # anybadge increments this number, which would change the bytes of the same badge each time
    text = str(Badge(label, value, default_color=colour))
    return web.Response(text=text, content_type="image/svg+xml", headers=headers)


def _badge(kind: str, info: read.PackageInfo) -> tuple[str, str, str]:
    """Returns (label, value, colour)."""
    if kind == "downloads":
        return "downloads", _short(info["total_downloads"]), "#4c1"
    if kind == "version":
        return "version", info["version"][:MAX_BADGE_TEXT], "#fe7d37" if info["version"].startswith("0.") else "#007ec6"
    license_ = info["license"].strip()
    return "license", license_[:MAX_BADGE_TEXT] or "not specified", "#007ec6" if license_ else "#9f9f9f"


def _short(count: int) -> str:
    """A count in at most three digits and a unit, such as 1.2k."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            whole = count / size
            return f"{int(whole)}{unit}" if whole >= 10 else f"{int(whole * 10) / 10:g}{unit}"
    return str(count)


def _csv(request: web.Request, found: Series, name: str) -> web.Response:
    body = as_csv(found).encode()
    file = {"Content-Type": CSV_TYPE, "Content-Disposition": f'attachment; filename="{name}-downloads.csv"'}
    return rendered_response(request, body, tag_of(body), headers=file)


_DAY = {"type": "string", "format": "date"}
_SERIES = (
    query("from", _DAY, "First day of the series. Without it, the series covers 30 days."),
    query("to", _DAY, "Last day of the series. The default is today in UTC."),
    query("interval", {"type": "string", "enum": list(INTERVALS), "default": "day"}, "Length of an interval"),
    query(
        "format",
        {"type": "string", "enum": ["json", "csv"], "default": "json"},
        "Format of the answer. `csv` contains only the series.",
    ),
)


def _group_by(groups: tuple[str, ...]) -> dict[str, object]:
    return query("group_by", {"type": "string", "enum": list(groups)}, "What downloads are grouped by")


ROUTES = group(
    "Downloads",
    Route("GET", f"{PACKAGE}/stats", get_package_stats, "Downloads of a package, and over time", limit=READS,
          parameters=(*_SERIES, _group_by(GROUPS)), answers={200: (PackageStats, "text/csv"), 301: None, 304: None},
          errors=(Quarantined,)),
    Route("GET", "/api/v1/stats", get_registry_stats, "Totals of the registry, and downloads over time", limit=READS,
          parameters=(*_SERIES, _group_by(tuple(TRAITS))), answers={200: (RegistryStats, "text/csv"), 304: None}),
    Route("GET", f"{PACKAGE}/badge/{{badge}}.svg", get_badge, "A badge as SVG: version, downloads or license",
          limit=READS, answers={200: "image/svg+xml", 301: None, 304: None}, errors=(Quarantined,)),
)  # fmt: skip
