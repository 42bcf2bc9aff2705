"""The files of a version: folders, coloured source code, pictures, and the bytes of a file."""

from typing import Any, NamedTuple
from urllib.parse import quote

from aiohttp import hdrs, web

from registry.contents.files import TEXT, File, Listing, decoded
from registry.contents.keys import CONTENTS
from registry.errors import NotFound
from registry.keys import DB
from registry.packages.read import LATEST, version_info
from registry.packages.requests import name_of, version_of
from registry.pages import frame
from registry.pages.files.source import Sources
from registry.pages.package.head import head_of, package_page
from registry.pages.readme import PICTURE, PREVIEW, RAW, READMES, diff_url, files_url
from registry.web.answers import NO_STORE, send_headers
from registry.web.context import CONTEXT
from registry.web.responses import matches
from registry.web.route import query

SOURCES = web.AppKey("sources", Sources)
MAX_SHOWN = 1 << 20
"""Larger files are not shown. In bytes."""
PER_PAGE = 200
# The bytes of users are never a page of ours: scripts in them don't run, and they have no origin.
_POLICY = "default-src 'none'; sandbox"


class Step(NamedTuple):
    """A folder in the path of a file. `href` is "" for what is shown."""

    name: str
    href: str


@package_page
async def latest_files(request: web.Request) -> web.StreamResponse:
    """Leads to the files of the latest version."""
    row = await request.app[CONTENTS].find(name_of(request), LATEST)
    return frame.see_other(files_url(row.name, row.version))


@package_page
async def files_page(request: web.Request) -> web.StreamResponse:
    """A folder of a version, or a file: its text, its picture, or its bytes."""
    contents = request.app[CONTENTS]
    row = await contents.find(name_of(request), version_of(request))
    listing = await contents.listing(row)
    path = request.match_info.get("path", "").strip("/")
    file = listing.find(path)
    if file is None:
        return await _folder(request, row, listing, path)
    if request.query_string == RAW:
        return await _bytes(request, row, file, TEXT if file.is_text else "application/octet-stream")
    if request.query_string == PICTURE and file.is_picture:
        return await _bytes(request, row, file, file.media_type)
    if request.query_string == PREVIEW and _is_markdown(file):
        return await _preview(request, row, file, listing)
    return await _file(request, row, file)


async def _folder(request: web.Request, row: Any, listing: Listing, path: str) -> web.Response:
    entries = listing.folder(path)
    if not entries and (path or listing.files):
        raise NotFound(f"{row.name} {row.version} has no file {path[:200]}.")
    number = _page_number(request, len(entries))
    top = files_url(row.name, row.version, path)
    return frame.render(
        request,
        "files/folder.html",
        title=f"{path or 'Files'} – {row.name} {row.version}",
        description=f"The files of {row.name} {row.version}",
        head=await head_of(request, "files"),
        compare=diff_url(row.name, row.version),
        steps=_steps(row, path),
        up=files_url(row.name, row.version, path.rpartition("/")[0]) if path else "",
        entries=[(f"{top}/{quote(entry.name)}", entry) for entry in entries[(number - 1) * PER_PAGE :][:PER_PAGE]],
        total=len(entries),
        previous=f"{top}?page={number - 1}" if number > 1 else "",
        next=f"{top}?page={number + 1}" if number * PER_PAGE < len(entries) else "",
    )


async def _file(request: web.Request, row: Any, file: File) -> web.Response:
    source, encoding, lines = "", "", 0
    is_shown = file.is_text and file.size <= MAX_SHOWN
    if is_shown:
        data = (await request.app[CONTENTS].read(row, [file]))[file.path]
        text, encoding = decoded(data)
        source = await request.app[SOURCES].html((row.tarball_path, file.path), text)
        lines = text.count("\n") + (not text.endswith("\n") and text != "")
    address = files_url(row.name, row.version, file.path)
    return frame.render(
        request,
        "files/file.html",
        title=f"{file.path} – {row.name} {row.version}",
        description=f"{file.path} of {row.name} {row.version}",
        head=await head_of(request, "files"),
        compare=diff_url(row.name, row.version),
        steps=_steps(row, file.path),
        file=file,
        source=source,
        lines=lines,
        encoding=encoding,
        is_shown=is_shown,
        max_shown=MAX_SHOWN,
        raw=f"{address}?{RAW}",
        picture=f"{address}?{PICTURE}" if file.is_picture and file.size <= MAX_SHOWN else "",
        preview=f"{address}?{PREVIEW}" if _is_markdown(file) else "",
    )


def _is_markdown(file: File) -> bool:
    return file.is_text and file.size <= MAX_SHOWN and file.path.lower().endswith((".md", ".markdown"))


async def _preview(request: web.Request, row: Any, file: File, listing: Listing) -> web.Response:
    text = decoded((await request.app[CONTENTS].read(row, [file]))[file.path])[0]
    about = await version_info(request.app[DB], row.name, row.version)
    address = files_url(row.name, row.version, file.path)
    return frame.render(
        request,
        "files/preview.html",
        title=f"{file.path} – {row.name} {row.version}",
        head=await head_of(request, "files"),
        steps=_steps(row, file.path),
        text=await request.app[READMES].of_file(row, file.path, text, listing, about["repository"]),
        source=address,
        raw=f"{address}?{RAW}",
    )


async def _bytes(request: web.Request, row: Any, file: File, media_type: str) -> web.StreamResponse:
    """The bytes of a file. They count as no download."""
    tag = file.digest.hex()
    headers = _bytes_headers(request, file, media_type, tag)
    if matches(request, tag):
        return web.Response(status=304, headers=headers)
    contents = request.app[CONTENTS]
    if file.size <= MAX_SHOWN:
        data = (await contents.read(row, [file]))[file.path]
        if media_type == TEXT:
            headers[hdrs.CONTENT_TYPE] = f"{TEXT}; charset={decoded(data)[1].lower()}"
        return web.Response(body=data, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = file.size
    if request.method == "HEAD":
        return response
    async with contents.stream(row, file) as pieces:
        await send_headers(request, response)
        await response.prepare(request)
        async for piece in pieces:
            await response.write(piece)
    await response.write_eof()
    return response


def _bytes_headers(request: web.Request, file: File, media_type: str, tag: str) -> dict[str, str]:
    is_stranger = request[CONTEXT].principal is None
    disposition = "attachment" if media_type == "application/octet-stream" else "inline"
    return {
        **request.app[frame.HEADERS],
        hdrs.CONTENT_TYPE: f"{TEXT}; charset=utf-8" if media_type == TEXT else media_type,
        hdrs.CONTENT_DISPOSITION: f"{disposition}; filename*=UTF-8''{quote(file.path.rpartition('/')[2], safe='')}",
        hdrs.ETAG: f'"{tag}"',
        hdrs.CACHE_CONTROL: f"public, max-age={frame.CACHE_SECONDS}" if is_stranger else NO_STORE,
        hdrs.VARY: hdrs.COOKIE,
        "Content-Security-Policy": _POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _steps(row: Any, path: str) -> list[Step]:
    """The folders that lead to `path`, from the top folder on."""
    steps = [Step(f"{row.name} {row.version}", files_url(row.name, row.version))]
    names = path.split("/") if path else []
    for count, name in enumerate(names, 1):
        steps.append(Step(name, files_url(row.name, row.version, "/".join(names[:count]))))
    return [*steps[:-1], Step(steps[-1].name, "")]


def _page_number(request: web.Request, entries: int) -> int:
    """The page that the address names; the nearest one if there is no such page."""
    given = request.query.get("page", "1")
    last = max(1, -(-entries // PER_PAGE))
    return min(max(1, int(given)), last) if given.isascii() and given.isdigit() and len(given) < 7 else 1


_PARAMETERS = (
    query("page", {"type": "integer", "minimum": 1}, "The page of a long folder"),
    query("raw", {"type": "integer"}, "1 for the bytes of a file"),
    query("picture", {"type": "integer"}, "1 for a picture"),
    query("preview", {"type": "integer"}, "1 for a Markdown file as it is meant to look"),
)

ROUTES = (
    frame.page("GET", "/packages/{name}/files", latest_files, "The files of the latest version"),
    frame.page("GET", "/packages/{name}/{version}/files", files_page, "The files of a version",
               parameters=_PARAMETERS),
    frame.page("GET", "/packages/{name}/{version}/files/{path:.*}", files_page, "A file or folder of a version",
               parameters=_PARAMETERS),
)  # fmt: skip
