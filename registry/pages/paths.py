"""Reads the addresses of pages that no package is in."""

from aiohttp import web

from registry.errors import NotFound


def username_of(request: web.Request) -> str:
    """The username in the address. Raises NotFound for a text that can't be one."""
    username = request.match_info["username"]
    if not username.isascii() or not username.isprintable():
        raise NotFound("There is no user of this name.")
    return username
