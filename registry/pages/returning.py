"""Addresses that take forms only. Who opens one, such as after a refused form, is led to the page with the form."""

from collections.abc import Sequence

from aiohttp import web

from registry.pages.frame import page, see_other
from registry.web.route import OPTIONAL, READS, Route


def returning(paths: Sequence[str], to: str) -> tuple[Route, ...]:
    """A GET route for each of `paths` that leads to the page `to`."""

    async def lead_back(_: web.Request) -> web.StreamResponse:
        return see_other(to)

    return tuple(
        page("GET", path, lead_back, "Back to the form", OPTIONAL, READS, needs_factor=False) for path in paths
    )
