"""The head that all pages of a package share: its name, a choice of versions, and tabs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

from aiohttp import web

from registry.accounts.identity import Principal
from registry.errors import NotFound, Quarantined
from registry.keys import DB
from registry.package_format import names
from registry.packages.overview.overview import Overview, overview
from registry.packages.read import LATEST, NoPackage, NoVersion
from registry.packages.requests import CACHE, name_of, redirect_look_alikes, version_of
from registry.pages import frame
from registry.pages.package.addresses import package_url, version_url
from registry.search.keys import SEARCHER
from registry.search.request import SearchRequest
from registry.web.context import CONTEXT
from registry.web.route import Handler

SUGGESTIONS = 5
_NOT_IN_NAMES = re.compile(r"[^a-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Head:
    """`tabs` are (address, label, number or None), and `current` is the address of one of them."""

    about: Overview
    tabs: Sequence[tuple[str, str, int | None]]
    current: str
    url: str
    version_url: str

    def url_of(self, version: str) -> str:
        return version_url(self.about.name, version)


async def about_of(request: web.Request) -> Overview:
    """The package in the address of a page, with the version there or its latest one.

    Raises NoPackage, NotFound, OtherSpelling, Quarantined.
    """
    name = name_of(request)
    version = version_of(request) if "version" in request.match_info else LATEST
    return await request.app[CACHE].get(
        ("overview", name, version), lambda: overview(request.app[DB], name, version), counts=True
    )


async def head_of(request: web.Request, tab: str) -> Head:
    """The head of a page below a package. `tab` is one of readme, versions, dependencies, dependents, files, stats and
    settings. Raises as about_of().
    """
    about = await about_of(request)
    url = package_url(about.name)
    shown = version_url(about.name, about.version)
    tabs: dict[str, tuple[str, str, int | None]] = {
        "readme": (url if about.is_latest else shown, "Readme", None),
        "versions": (f"{url}/versions", "Versions", about.versions),
        "dependencies": (f"{shown}/dependencies", "Dependencies", len(about.dependencies)),
        "dependents": (f"{url}/dependents", "Dependents", about.dependents),
        "files": (f"{shown}/files", "Files", None),
        "stats": (f"{url}/stats", "Statistics", None),
    }
    if _may_change(request, about):
        tabs["settings"] = (f"{url}/settings", "Settings", None)
    return Head(about, list(tabs.values()), tabs[tab][0] if tab in tabs else "", url, shown)


def render(request: web.Request, head: Head, template: str, *, title: str, **values: Any) -> web.Response:
    """frame.render() for a page below a package. The template extends `package/layout.html`."""
    name = head.about.name
    return frame.render(
        request,
        template,
        title=title,
        head=head,
        canonical=head.current or head.url,
        card=f"{head.url}/card.png",
        feeds=[(f"New versions of {name}", f"{head.url}/feed.atom")],
        **values,
    )


def package_page(handler: Handler) -> Handler:
    """A decorator for pages of a package: redirects from look-alike names, and makes a 404 say what there is."""

    @wraps(handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except NoPackage:
            similar = await _similar_names(request)
            raise NotFound("There is no package of this name.", members={"suggestions": similar}) from None
        except Quarantined as blocked:
            title = f"{request.match_info['name']} is in quarantine"
            reason = blocked.members["reason"]
            return frame.render(request, "package/quarantined.html", title=title, status=403, reason=reason)
        except NoVersion as missing:
            title = f"There is no version {missing.version} of {missing.name}"
            return frame.render(
                request, "package/no_version.html", title=title, status=404, url=package_url(missing.name)
            )

    return redirect_look_alikes(handle)


async def _similar_names(request: web.Request) -> list[str]:
    """Names that a visitor may have meant."""
    text = _NOT_IN_NAMES.sub(" ", request.match_info["name"].lower())[: names.MAX_NAME].strip()
    if not text:
        return []
    wanted = SearchRequest.parse([("q", text), ("limit", str(SUGGESTIONS))])
    found = await request.app[SEARCHER].page(wanted)
    return [each["name"] for each in found["results"]]


def _may_change(request: web.Request, about: Overview) -> bool:
    who = request[CONTEXT].principal
    if not isinstance(who, Principal):
        return False
    return who.is_admin or who.username in about.owners or who.username in about.maintainers
