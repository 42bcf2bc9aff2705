"""The first page: the search box, figures of the registry, and which packages are new, most downloaded or rising."""

from aiohttp import web

from registry.accounts.requests import visible_packages
from registry.downloads.keys import FIGURES
from registry.keys import DB
from registry.packages.listing import page as listing
from registry.pages import frame

LISTED = 8


async def home_page(request: web.Request) -> web.StreamResponse:
    """The first page. An empty registry explains how to publish the first package."""
    visible = visible_packages(request)
    figures = request.app[FIGURES]
    rankings = await figures.rankings(visible)
    newest = await listing.package_page(request.app[DB], "recently-created", LISTED, 0, None, visible)
    return frame.render(
        request,
        "home/home.html",
        title="Find packages",
        description="Find packages, see who uses them, and publish your own.",
        totals=await figures.totals(visible),
        newest=newest["packages"],
        most_downloaded=rankings.most_downloaded[:LISTED],
        rising=rankings.rising[:LISTED],
        feeds=[("New versions", "/feed.atom")],
    )


ROUTES = (frame.page("GET", "/", home_page, "The first page"),)
