"""The documentation: guides for users and the reference of the API. It names no package, so it is open to everybody."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from registry.errors import InvalidInput, NotFound
from registry.keys import SETTINGS
from registry.pages import frame
from registry.pages.docs import guides
from registry.pages.docs.guides import EXAMPLE
from registry.pages.docs.keys import REFERENCE
from registry.pages.docs.reference import Group
from registry.pages.readme import READMES
from registry.web.route import OPEN, OPTIONAL, READS, Route, group, query

MAX_QUERY = 200
_NO_PAGE = "The documentation has no such page. /docs lists all."


async def show_docs(request: web.Request) -> web.StreamResponse:
    """The guides, and all operations of the API by group. `q` leaves out what does not contain its words."""
    q = request.query.get("q", "")
    if len(q) > MAX_QUERY:
        raise InvalidInput.field("q", f"must have at most {MAX_QUERY} characters")
    words = q.lower().split()
    found = await asyncio.to_thread(guides.all_guides)
    shown = [guide for guide in found.values() if all(word in guide.words for word in words)]
    groups = [
        (each, [operation for operation in each.operations if operation.matches(words)])
        for each in (await _groups(request)).values()
    ]
    return frame.render(
        request,
        "docs/start.html",
        title="Documentation",
        description="Guides, and the reference of the API",
        q=q,
        guides=shown,
        groups=[(each, operations) for each, operations in groups if operations],
        errors=request.app[REFERENCE].error_schemas,
        **await _navigation(request),
    )


async def show_group(request: web.Request) -> web.StreamResponse:
    """One group of operations, with their parameters, bodies and answers."""
    found = (await _groups(request)).get(request.match_info["group"])
    if found is None:
        raise NotFound(_NO_PAGE)
    return frame.render(
        request,
        "docs/group.html",
        title=f"{found.name} – API reference",
        description=found.text,
        group=found,
        **await _navigation(request),
    )


async def show_guide(request: web.Request) -> web.StreamResponse:
    """A guide for users."""
    found = (await asyncio.to_thread(guides.all_guides)).get(request.match_info["guide"])
    if found is None:
        raise NotFound(_NO_PAGE)
    return frame.render(
        request,
        "docs/guide.html",
        title=found.title,
        description=found.summary,
        guide=found,
        html=await request.app[READMES].guide(found.text.replace(EXAMPLE, _base(request)), guides.LINKS, shift=0),
        **await _navigation(request),
    )


async def show_template(request: web.Request) -> web.StreamResponse:
    """A file for CI systems that a guide names."""
    name = request.match_info["file"]
    text = await asyncio.to_thread(guides.template, name)
    if text is None:
        raise NotFound(_NO_PAGE)
    return frame.render(
        request,
        "docs/template.html",
        title=name,
        name=name,
        text=text.replace(EXAMPLE, _base(request)),
        **await _navigation(request),
    )


async def _groups(request: web.Request) -> Mapping[str, Group]:
    """The groups of the reference by slug. The first call makes them, which takes some milliseconds."""
    return await asyncio.to_thread(lambda: request.app[REFERENCE].groups)


def _base(request: web.Request) -> str:
    return request.app[SETTINGS].public_url or EXAMPLE


async def _navigation(request: web.Request) -> Mapping[str, Any]:
    """The links beside each page."""
    found = await asyncio.to_thread(guides.all_guides)
    return {
        "guide_links": [(f"/docs/{guide.slug}", guide.title) for guide in found.values()],
        "group_links": [(f"/docs/api/{slug}", each.name) for slug, each in (await _groups(request)).items()],
    }


_SEARCH = (query("q", {"type": "string", "maxLength": MAX_QUERY}, "Words that the listed operations contain"),)

API_ROUTES = group(
    "Operations",
    Route("GET", "/api/v1/docs", show_docs, "This description as a page", OPEN, READS, _SEARCH,
          answers={200: "text/html"}),
)  # fmt: skip
ROUTES = (
    frame.page("GET", "/docs", show_docs, "The documentation", OPTIONAL, parameters=_SEARCH, needs_factor=False),
    frame.page(
        "GET", "/docs/api/{group}", show_group, "A part of the reference of the API", OPTIONAL, needs_factor=False
    ),
    frame.page("GET", "/docs/ci/{file}", show_template, "A file for CI systems", OPTIONAL, needs_factor=False),
    frame.page("GET", "/docs/{guide}", show_guide, "A guide", OPTIONAL, needs_factor=False),
)
