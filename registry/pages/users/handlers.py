"""The page of a user: who that is, and the user's packages."""

from aiohttp import web

from registry.downloads.keys import FIGURES
from registry.keys import DB
from registry.packages.overview import profile as use_case
from registry.pages import charts, frame, paging
from registry.pages.paths import username_of


async def show_user(request: web.Request) -> web.StreamResponse:
    """A user's packages, the most downloaded first."""
    username, number = username_of(request), paging.page_number(request)
    profile = await use_case.profile(request.app[DB], username, number)
    names = [each.name for each in profile.packages]
    weeks = await request.app[FIGURES].weekly(names)
    before = (number - 1) * use_case.PAGE
    return frame.render(
        request,
        "users/user.html",
        title=profile.username,
        description=f"The packages of {profile.username}",
        canonical=f"/users/{profile.username}",
        feeds=[(f"New versions by {profile.username}", f"/users/{profile.username}/feed.atom")],
        profile=profile,
        weeks=weeks,
        bars={name: charts.bars(weeks[name], label=f"Downloads of {name} a week") for name in names},
        previous=paging.page_url(request, number - 1) if number > 1 else "",
        next=paging.page_url(request, number + 1) if before + len(names) < profile.total else "",
    )


ROUTES = (
    frame.page("GET", "/users/{username}", show_user, "A user and the user's packages", parameters=(paging.NUMBER,)),
)
