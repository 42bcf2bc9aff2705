"""The differences between two versions: the manifests, the dependencies, and the files with their lines."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from aiohttp import web
from markupsafe import Markup

from registry.contents.compare import (
    MAX_FILES,
    Change,
    Comparison,
    changed_dependencies,
    changed_fields,
)
from registry.contents.keys import COMPARER, CONTENTS
from registry.keys import DB
from registry.packages import read
from registry.packages.requests import name_of, version_of
from registry.pages import frame
from registry.pages.diff.lines import rows
from registry.pages.package.head import head_of, package_page
from registry.pages.readme import RAW, diff_url, files_url
from registry.rendering.differ import ADDED, REMOVED
from registry.web.route import query

MOST_SUGGESTED = 200
"""How many versions the form suggests. Others can be typed."""


class Shown(NamedTuple):
    """A file that differs. `state` is added, removed or changed. `old` and `new` are addresses of its bytes, or ""."""

    path: str
    state: str
    added: int
    removed: int
    rows: Markup
    note: str
    old: str
    new: str


@package_page
async def choose_page(request: web.Request) -> web.StreamResponse:
    """Leads to the comparison of the versions that the form names, or of this version with the one before it."""
    name, version = name_of(request), version_of(request)
    row = await request.app[CONTENTS].find(name, version)
    if request.query.get("from") and request.query.get("to"):
        return frame.see_other(diff_url(name, request.query["from"].strip(), request.query["to"].strip()))
    names = (await read.version_names(request.app[DB], name))["versions"]
    at = names.index(row.version) if row.version in names else 0
    if len(names) > 1:
        old, new = (names[at - 1], names[at]) if at else (names[0], names[1])
        return frame.see_other(diff_url(name, old, new))
    return frame.render(
        request,
        "diff/only.html",
        title=f"Differences – {row.name}",
        head=await head_of(request, "versions"),
    )


@package_page
async def diff_page(request: web.Request) -> web.StreamResponse:
    """What changed between two versions, from the older one to the newer one, in whichever order they are named."""
    app, name = request.app, name_of(request)
    other = request.match_info["other"].encode("ascii", "replace").decode()
    old = await app[CONTENTS].find(name, version_of(request))
    new = await app[CONTENTS].find(name, other)
    names = (await read.version_names(app[DB], name))["versions"]
    old, new = sorted((old, new), key=lambda row: names.index(row.version) if row.version in names else 0)
    before = await read.version_info(app[DB], name, old.version)
    after = await read.version_info(app[DB], name, new.version)
    compared = await app[COMPARER].compare(old, new)
    return frame.render(
        request,
        "diff/diff.html",
        title=f"{old.name}: {old.version} to {new.version}",
        description=f"What differs between {old.version} and {new.version} of {old.name}",
        head=await head_of(request, "versions"),
        old=old.version,
        new=new.version,
        action=diff_url(old.name, old.version),
        versions=names[::-1][:MOST_SUGGESTED],
        fields=changed_fields(before, after),
        dependencies=changed_dependencies(before, after),
        files=await asyncio.to_thread(_shown, compared, old.name, old.version, new.version),
        total=len(compared.changes),
        too_large=compared.too_large,
    )


def _shown(compared: Comparison, name: str, old: str, new: str) -> Sequence[Shown]:
    """The first files that differ. It takes time for many lines: call it in a thread."""
    return [_file(change, compared, name, old, new) for change in compared.changes[:MAX_FILES]]


def _file(change: Change, compared: Comparison, name: str, old: str, new: str) -> Shown:
    state = "added" if change.old is None else "removed" if change.new is None else "changed"
    return Shown(
        path=change.path,
        state=state,
        added=change.count(ADDED),
        removed=change.count(REMOVED),
        rows=rows(change.hunks or ()),
        note=_note(change, compared),
        old=f"{files_url(name, old, change.path)}?{RAW}" if change.old else "",
        new=f"{files_url(name, new, change.path)}?{RAW}" if change.new else "",
    )


def _note(change: Change, compared: Comparison) -> str:
    """Why no lines are shown; "" if they are."""
    if change.is_binary:
        return "The file is not text."
    if change.is_large:
        return "The file has more than 1 MiB."
    if compared.too_large:
        return "The lines are not compared."
    if change.hunks is None:
        return "The lines can't be compared in reasonable time."
    return "" if change.hunks else "The file is empty."


_QUERY = (
    query("from", {"type": "string"}, "The older version"),
    query("to", {"type": "string"}, "The newer version"),
)

ROUTES = (
    frame.page("GET", "/packages/{name}/{version}/diff", choose_page, "Choose the versions to compare",
               parameters=_QUERY),
    frame.page("GET", "/packages/{name}/{version}/diff/{other}", diff_page, "The differences between two versions"),
)  # fmt: skip
