"""READMEs and guides as HTML. Relative links of a README lead to the files of its version."""

import posixpath
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import web
from cachetools import LRUCache, TTLCache
from markupsafe import Markup

from registry.contents.files import Listing
from registry.contents.reader import Contents
from registry.errors import NotFound, Unavailable
from registry.pages import text
from registry.rendering.process import NotRendered, Workers
from registry.rendering.protocol import Rendered, Target

CACHE_BYTES = 32 << 20
MAX_REFUSED, REFUSED_SECONDS = 10_000, 600.0
RAW, PICTURE, PREVIEW = "raw=1", "picture=1", "preview=1"

Resolve = Callable[[Sequence[str]], Awaitable[Mapping[str, Target]]]

_RENDERED = Markup('<div class="prose" dir="auto">{}</div>')
_PLAIN = Markup('<div class="prose" dir="auto"><pre class="plain" tabindex="0">{}</pre></div>')
_NOWHERE: Target = {"href": None, "src": None}


class Readmes:
    """Renders Markdown. `image_hosts` are the hosts from which pictures may be shown."""

    def __init__(self, contents: Contents, workers: Workers, image_hosts: Sequence[str]) -> None:
        self._contents = contents
        self._workers = workers
        self._image_hosts = image_hosts
        self._cache: LRUCache[tuple[str, ...], Markup] = LRUCache(CACHE_BYTES, getsizeof=lambda html: 2 * len(html))
        # READMEs that took too long. The machine may only have been busy, so they are tried again after a while.
        self._refused: TTLCache[tuple[str, ...], None] = TTLCache(MAX_REFUSED, REFUSED_SECONDS)

    async def of_version(self, info: Mapping[str, Any]) -> Markup:
        """The README of a version, which has the members of `registry.packages.read.VersionInfo`. "" if it has none.

        A README that can't be rendered is shown as plain text.
        """
        readme = info["readme"]
        if not readme.strip():
            return Markup()
        key = (info["name"], info["version"], info["checksum"])
        found: Markup | None = self._cache.get(key)
        if found is not None:
            return found
        if key in self._refused:
            return _PLAIN.format(readme)
        try:
            found = await self._rendered(readme, "readme-", 1, lambda asked: self._files_of(info, asked))
        except NotRendered as refused:
            if refused.is_final:
                self._refused[key] = None
            return _PLAIN.format(readme)
        except Unavailable:  # the tarball can't be read now; the text can
            return _PLAIN.format(readme)
        if 2 * len(found) <= CACHE_BYTES:
            self._cache[key] = found
        return found

    async def of_file(self, row: Any, path: str, text: str, listing: Listing, repository: str) -> Markup:
        """The Markdown file `path` of a version. `row` and `listing` are those of `Contents`."""
        top, folder = files_url(row.name, row.version), path.rpartition("/")[0]

        async def resolve(asked: Sequence[str]) -> Mapping[str, Target]:
            return {target: in_files(target, listing, top, repository, folder) for target in asked}

        try:
            return await self._rendered(text, "readme-", 1, resolve)
        except NotRendered:
            return _PLAIN.format(text)

    async def guide(self, guide: str, links: Mapping[str, str], *, shift: int = 1) -> Markup:
        """A guide of this project. `links` maps its relative links, without fragments, to addresses."""
        key = ("", guide, str(shift))
        found: Markup | None = self._cache.get(key)
        if found is not None:
            return found

        async def resolve(asked: Sequence[str]) -> Mapping[str, Target]:
            return {target: _in_guides(target, links) for target in asked}

        try:
            found = self._cache[key] = await self._rendered(guide, "guide-", shift, resolve)
        except NotRendered:
            return _PLAIN.format(guide)
        return found

    async def _rendered(self, markdown: str, prefix: str, shift: int, resolve: Resolve) -> Markup:
        """Raises NotRendered, and what `resolve` raises."""
        given: dict[str, Any] = {"text": markdown, "hosts": self._image_hosts, "prefix": prefix, "shift": shift}
        done: Rendered = await self._workers.call("markdown", targets={}, **given)
        if done["asked"]:
            targets: dict[str, Target] = dict.fromkeys(done["asked"], _NOWHERE) | dict(await resolve(done["asked"]))
            done = await self._workers.call("markdown", targets=targets, **given)
        html = done["html"]
        return _PLAIN.format(markdown) if html is None else _RENDERED.format(Markup(html))  # noqa: S704  # it is cleaned

    async def _files_of(self, info: Mapping[str, Any], asked: Sequence[str]) -> Mapping[str, Target]:
        try:
            row = await self._contents.find(info["name"], info["version"])
            listing = await self._contents.listing(row)
        except NotFound:
            listing = Listing([])
        top = files_url(info["name"], info["version"])
        return {target: in_files(target, listing, top, info["repository"]) for target in asked}


READMES = web.AppKey("readmes", Readmes)


def files_url(name: str, version: str, path: str = "") -> str:
    """The address of a file or a folder of a version. The path of the top folder is ""."""
    top = f"/packages/{quote(name)}/{quote(version)}/files"
    return f"{top}/{quote(path)}" if path else top


def diff_url(name: str, version: str, other: str = "") -> str:
    """The address of the differences between two versions; without `other`, with the version before."""
    top = f"/packages/{quote(name)}/{quote(version, safe='')}/diff"
    return f"{top}/{quote(other, safe='')}" if other else top


def in_files(target: str, listing: Listing, top: str, repository: str, folder: str = "") -> Target:
    """Where the relative link `target` of a text leads: to a file or folder of the version, else to `repository`.

    `top` is the address of the version's top folder; a link that leaves this folder leads nowhere. `folder` is the
    path of the folder with the text.
    """
    path, fragment = re.fullmatch(r"([^?#]*)(?:\?[^#]*)?((?:#.*)?)", target, re.DOTALL).groups()  # type: ignore[union-attr]
    path = unquote(path)
    path = posixpath.normpath(posixpath.join("" if path.startswith("/") else folder, path.lstrip("/")) or ".")
    if path == ".." or path.startswith("../"):
        return _NOWHERE
    file = listing.find(path)
    if file is not None:
        address = f"{top}/{quote(path)}"
        return {"href": address + fragment, "src": f"{address}?{PICTURE}" if file.is_picture else None}
    if path == "." and listing.files:
        return {"href": top, "src": None}
    if listing.has_folder(path):
        return {"href": f"{top}/{quote(path)}", "src": None}
    return {"href": text.address(repository) or None, "src": None}


def _in_guides(target: str, links: Mapping[str, str]) -> Target:
    path, hash_sign, fragment = target.partition("#")
    if path not in links:
        return _NOWHERE
    return {"href": f"{links[path]}#guide-{fragment}" if hash_sign else links[path], "src": None}
