"""Serves the style sheet, the script and the icon of the pages."""

from aiohttp import hdrs, web

from registry.errors import NotFound
from registry.pages import static
from registry.web.answers import compress
from registry.web.route import OPEN, READS, Route

FOR_EVER = "public, max-age=31536000, immutable"


async def get_asset(request: web.Request) -> web.StreamResponse:
    """A file of the pages. An address with the digest of an older release gets the file of this one, uncached."""
    name = request.match_info["name"]
    if name not in static.NAMES:
        raise NotFound("There is no such file.")
    asset = static.load(name)
    is_current = request.match_info["tag"] == asset.tag
    response = web.Response(
        body=asset.body,
        content_type=asset.media_type,
        charset="utf-8",
        headers={hdrs.CACHE_CONTROL: FOR_EVER if is_current else "no-cache", hdrs.ETAG: f'W/"{asset.tag}"'},
    )
    compress(request, response)
    return response


ROUTES = (
    Route("GET", "/static/{tag}/{name}", get_asset, "A file of the pages", OPEN, READS, documented=False,
          answers={200: "text/css"}),
)  # fmt: skip
