"""The switch between the light and the dark theme, for browsers without JavaScript."""

from aiohttp import web

from registry.pages import cookies, frame
from registry.web.route import OPTIONAL


async def choose_theme(request: web.Request) -> web.StreamResponse:
    """Remembers the theme, and leads back to the page. Any other value than a theme follows the system again."""
    wanted = request.query.get("to", "")
    response = frame.see_other(frame.local_path(request.query.get("next", "")))
    return cookies.set_theme(response, wanted if wanted in cookies.THEMES else "")


ROUTES = (frame.page("GET", "/theme", choose_theme, "Choose the theme of the pages", OPTIONAL, needs_factor=False),)
