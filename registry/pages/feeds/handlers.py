"""Serves feeds, the sitemap, robots.txt and cards. All addresses in them begin with REGISTRY_PUBLIC_URL."""

from functools import partial
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from registry.accounts.requests import visible_packages
from registry.downloads.keys import FIGURES
from registry.errors import NotFound
from registry.keys import DB, SETTINGS
from registry.packages.listing import newest
from registry.packages.requests import name_of, redirect_look_alikes
from registry.pages import frame, text
from registry.pages.feeds import atom, sitemap
from registry.pages.feeds.card import Card, Cards
from registry.pages.package.head import about_of
from registry.pages.paths import username_of
from registry.web.answers import NO_STORE, add_vary, send_headers
from registry.web.context import CONTEXT
from registry.web.responses import matches, rendered_response, tag_of
from registry.web.route import OPEN, READS

CARDS = web.AppKey("cards", Cards)
MAX_PARTS = 10_000
# Crawlers need no results of searches, forms, or comparisons of any two versions.
_ROBOTS = """\
User-agent: *
Disallow: /search?
Disallow: /search/
Disallow: /login
Disallow: /register
Disallow: /account
Disallow: /admin
Disallow: /packages/*/*/diff/
Disallow: /packages/*/settings
Disallow: /*?*group_by=
"""


async def registry_feed(request: web.Request) -> web.StreamResponse:
    """The newest versions of all packages, as Atom."""
    found = await newest.newest_versions(request.app[DB], visible_packages(request))
    return _feed(request, f"New versions in {_site(request)}", "/", found)


@redirect_look_alikes
async def package_feed(request: web.Request) -> web.StreamResponse:
    """The newest versions of a package, as Atom."""
    name = name_of(request)
    found = await newest.newest_versions_of_package(request.app[DB], name)
    return _feed(request, f"New versions of {name}", f"/packages/{name}", found)


async def owner_feed(request: web.Request) -> web.StreamResponse:
    """The newest versions of the packages that a user owns, as Atom."""
    asked = username_of(request)
    found = await newest.newest_versions_of_owner(request.app[DB], asked, visible_packages(request))
    if found is None:
        raise NotFound("There is no such user.")
    username, versions = found
    return _feed(request, f"New versions of packages of {username}", f"/users/{username}", versions)


def _feed(request: web.Request, title: str, page: str, versions: list[newest.NewVersion]) -> web.Response:
    path = "/feed.atom" if page == "/" else f"{page}/feed.atom"
    body = atom.feed(_base(request), path, title, page, versions)
    return _kept(request, body, tag_of(body), atom.MEDIA_TYPE)


async def robots(request: web.Request) -> web.StreamResponse:
    """What crawlers may read: nothing in a private registry."""
    base = _base(request)
    if _is_private(request):
        body = "User-agent: *\nDisallow: /\n"
    else:
        body = _ROBOTS + (f"\nSitemap: {base}/sitemap.xml\n" if base else "")
    return _kept(request, body.encode(), tag_of(body.encode()), "text/plain; charset=utf-8")


async def sitemap_index(request: web.Request) -> web.StreamResponse:
    """The index of the sitemap of a public registry."""
    base = _sitemap_base(request)
    body = sitemap.index(base, (await request.app[FIGURES].totals()).packages).encode()
    return _kept(request, body, tag_of(body), sitemap.MEDIA_TYPE)


async def sitemap_part(request: web.Request) -> web.StreamResponse:
    """A part of the sitemap. It is sent piece by piece."""
    base, number = _sitemap_base(request), request.match_info["part"]
    if not (number.isascii() and number.isdigit() and int(number[:6]) < MAX_PARTS and len(number) < 6):
        raise NotFound("The sitemap has no such part.")
    if int(number) >= sitemap.parts_of((await request.app[FIGURES].totals()).packages):
        raise NotFound("The sitemap has no such part.")
    response = web.StreamResponse(
        headers={hdrs.CONTENT_TYPE: sitemap.MEDIA_TYPE, hdrs.CACHE_CONTROL: _caching(request)}
    )
    response.enable_compression()
    pieces = sitemap.part(partial(newest.names_after, request.app[DB]), base, int(number))
    first = await anext(pieces)
    await send_headers(request, response)
    await response.write(first)
    async for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response


@redirect_look_alikes
async def package_card(request: web.Request) -> web.StreamResponse:
    """A picture of a package for shared links."""
    about = await about_of(request)
    weeks = (await request.app[FIGURES].weekly([about.name]))[about.name]
    facts = (about.version, about.license, f"{text.short(weeks[-1])} downloads a week")
    card = Card(_site(request), about.name, about.description, facts, weeks)
    return await _card(request, card)


async def registry_card(request: web.Request) -> web.StreamResponse:
    """A picture of the registry for shared links."""
    totals = await request.app[FIGURES].totals(visible_packages(request))
    facts = (text.plural(totals.packages, "package"), text.plural(totals.versions, "version"))
    return await _card(request, Card(_site(request), "Find the package you need.", "", facts))


async def _card(request: web.Request, card: Card) -> web.Response:
    body, tag = await request.app[CARDS].png(card)
    return _kept(request, body, tag, "image/png")


def _kept(request: web.Request, body: bytes, tag: str, media_type: str) -> web.Response:
    """An answer with an ETag. Caches keep it as long as a page, unless the user is signed in."""
    headers: dict[str, str] = {hdrs.CACHE_CONTROL: _caching(request)}
    if not matches(request, tag):
        headers[hdrs.CONTENT_TYPE] = media_type
    response = rendered_response(request, body, tag, headers=headers)
    add_vary(response.headers, hdrs.COOKIE)
    return response


def _caching(request: web.Request) -> str:
    return NO_STORE if request[CONTEXT].principal is not None else f"public, max-age={frame.CACHE_SECONDS}"


def _base(request: web.Request) -> str:
    return request.app[SETTINGS].public_url or ""


def _site(request: web.Request) -> str:
    return urlsplit(request.app[SETTINGS].web.public_url).hostname or "Synapse"


def _is_private(request: web.Request) -> bool:
    return request.app[SETTINGS].accounts.access == "private"


def _sitemap_base(request: web.Request) -> str:
    """Raises NotFound in a private registry, and without a public address, which a sitemap needs."""
    if _is_private(request):
        raise NotFound("A private registry has no sitemap.")
    base = _base(request)
    if not base:
        raise NotFound("A sitemap needs the registry's address. Its operator sets it as REGISTRY_PUBLIC_URL.")
    return base


ROUTES = (
    frame.page("GET", "/feed.atom", registry_feed, "New versions, as Atom"),
    frame.page("GET", "/packages/{name}/feed.atom", package_feed, "New versions of a package, as Atom"),
    frame.page("GET", "/users/{username}/feed.atom", owner_feed, "New versions of a user's packages, as Atom"),
    frame.page("GET", "/packages/{name}/card.png", package_card, "The picture of a package"),
    frame.page("GET", "/card.png", registry_card, "The picture of the registry"),
    frame.page("GET", "/robots.txt", robots, "What crawlers may read", OPEN, READS),
    frame.page("GET", "/sitemap.xml", sitemap_index, "The index of the sitemap"),
    frame.page("GET", "/sitemap/{part}.xml", sitemap_part, "A part of the sitemap"),
)
