"""Serves tarballs: the exact bytes that were published, with ranges and conditional requests. Counts downloads."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from aiohttp import hdrs, web
from aiohttp.helpers import ETAG_ANY

from registry.db.engine import Row
from registry.downloads import agents
from registry.downloads.clients.address import address_key
from registry.downloads.record import DownloadRecorder, client_hash
from registry.downloads.store import Download
from registry.downloads.tarballs import Tarballs
from registry.errors import (
    DatabaseUnavailable,
    PreconditionFailed,
    Quarantined,
    RangeNotSatisfiable,
    RegistryError,
    StorageUnavailable,
)
from registry.keys import SETTINGS, STORAGE
from registry.package_format import names, versions
from registry.packages import read
from registry.packages.requests import VERSION, name_of, redirect_look_alikes, version_of
from registry.web.addresses import network_of
from registry.web.answers import send_headers
from registry.web.context import CONTEXT
from registry.web.responses import accepts, matches
from registry.web.route import Limit, Route, group, header

RECORDER = web.AppKey("recorder", DownloadRecorder)
TARBALLS = web.AppKey("tarballs", Tarballs)
PRESIGNED_SECONDS = 300
TARBALL_TYPE, ANY_BYTES = "application/gzip", "application/octet-stream"
IMMUTABLE = "max-age=31536000, immutable"
MAX_USER_AGENT = 512
# Requests with these headers are not handed over to nginx. It would compare them with its file instead of with the
# checksum and the time of publishing.
_NGINX_CHECKS = {"If-Match", "If-Unmodified-Since"}
_ONE_RANGE = re.compile(r"bytes=(?=[0-9-]*[0-9])([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)


@redirect_look_alikes
async def download_version(request: web.Request) -> web.StreamResponse:
    """The exact bytes that were published. A request that starts at the first byte counts as one download. Ranges and
    conditional requests work. The media type is `application/octet-stream` if `Accept` names it and not
    `application/gzip`.
    """
    try:
        return await _serve(request)
    except DatabaseUnavailable:
        raise  # nothing can be recorded while PostgreSQL is unavailable
    except RegistryError as error:
        if request.method == "GET" and names.fold_name(request.match_info["name"]) and not _is_guess(request, error):
            await request.app[RECORDER].record(_download(request, None, error.status, 0))
        raise


def _is_guess(request: web.Request, error: RegistryError) -> bool:
    """Whether an anonymous client asked for a version that it can't get. Anyone could fill the table with these."""
    return error.status in (403, 404) and request[CONTEXT].principal is None


async def _serve(request: web.Request) -> web.StreamResponse:
    version = version_of(request)
    row = await request.app[TARBALLS].find(name_of(request), version)
    headers = _headers(request, row, version)
    _check_preconditions(request, row)
    if _is_unmodified(request, row):
        return web.Response(status=304, headers=headers)
    headers[hdrs.CONTENT_TYPE] = _type_for(request)
    part = _part(request, row)
    if request.method == "HEAD":
        return _prepared(row, headers, part)
    storage = request.app[SETTINGS].storage
    redirect = await _redirect(request, row, headers, part) if storage.s3_redirect else None
    if redirect is not None:
        if part.start == 0:
            await _count(request, _download(request, row, redirect.status, part.end))
        return redirect
    if storage.accel_location and not part.partial and request.headers.keys().isdisjoint(_NGINX_CHECKS):
        return await _hand_over(request, row, headers)
    return await _send(request, row, headers, part)


def _headers(request: web.Request, row: Row, version: str) -> dict[str, str]:
    visibility = "private" if request.app[SETTINGS].accounts.access == "private" else "public"
    headers = {
        "ETag": f'"{row.checksum}"',
        "X-Checksum-SHA256": row.checksum,
        "Cache-Control": f"{visibility}, {IMMUTABLE}",
        "Content-Disposition": f'attachment; filename="{row.name}-{row.version}.tar.gz"',
        "Accept-Ranges": "bytes",
        "Last-Modified": format_datetime(row.published_at.astimezone(UTC), usegmt=True),
    }
    if version == read.LATEST:
        headers["Cache-Control"] = "no-cache"
    if version != row.version:
        headers["Content-Location"] = read.tarball_url(row.name, row.version)
    return headers


def _type_for(request: web.Request) -> str:
    """The usual type, or the one for any bytes, for clients that accept no other: generated ones know no gzip."""
    return ANY_BYTES if accepts(request, ANY_BYTES) and not accepts(request, TARBALL_TYPE) else TARBALL_TYPE


def _check_preconditions(request: web.Request, row: Row) -> None:
    """RFC 9110, 13.2.2: If-Match decides (strong comparison), If-Unmodified-Since only without it.

    Raises PreconditionFailed.
    """
    if "If-Match" in request.headers:
        given = request.if_match or ()
        holds = any(tag.value == ETAG_ANY or (tag.value == row.checksum and not tag.is_weak) for tag in given)
    else:
        since = request.if_unmodified_since
        holds = since is None or row.published_at.replace(microsecond=0) <= since
    if not holds:
        raise PreconditionFailed("The tarball is not the one that If-Match or If-Unmodified-Since names.")


def _is_unmodified(request: web.Request, row: Row) -> bool:
    """RFC 9110, 13.2.2: If-None-Match decides, If-Modified-Since only without it."""
    if "If-None-Match" in request.headers:
        return matches(request, row.checksum)
    since = request.if_modified_since
    return since is not None and row.published_at.replace(microsecond=0) <= since


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes of an answer: `start` up to, not including, `end`. `partial` is set if the client asked for a range."""

    start: int
    end: int
    partial: bool

    @property
    def size(self) -> int:
        return self.end - self.start


def _part(request: web.Request, row: Row) -> Part:
    """The bytes to send: the whole tarball unless the request is a GET with one valid byte range (RFC 9110, 14.2).

    A range that covers everything is still answered with 206: axel asks for `bytes=0-` to learn whether ranges work.
    Raises RangeNotSatisfiable when the range begins after the last byte.
    """
    size = row.tarball_size
    whole = Part(0, size, partial=False)
    wanted = _ONE_RANGE.fullmatch(request.headers.get("Range", "").strip())
    if wanted is None or request.method != "GET" or not _if_range_holds(request, row):
        return whole
    first, last = (int(digits) if digits else None for digits in wanted.groups())
    if first is None:
        start, end = max(0, size - (last or 0)), size
    elif last is not None and last < first:
        return whole
    else:
        start, end = first, size if last is None else min(last + 1, size)
    if start >= end:
        raise RangeNotSatisfiable(
            f"The tarball has {size} bytes. The range begins after its end.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return Part(start, end, partial=True)


def _if_range_holds(request: web.Request, row: Row) -> bool:
    given = request.headers.get("If-Range", "").strip()
    if not given or given == f'"{row.checksum}"':
        return True
    return request.if_range is not None and request.if_range == row.published_at.replace(microsecond=0)


async def _redirect(request: web.Request, row: Row, headers: dict[str, str], part: Part) -> web.Response | None:
    """302 to a presigned address, or None when the storage can't make one.

    The answer also contains headers that the storage doesn't know, such as the checksum. An nginx that follows the
    redirect itself sends them with the tarball.
    """
    filename = f"{row.name}-{row.version}.tar.gz"
    address = await request.app[STORAGE].presign(
        row.tarball_path, expires=PRESIGNED_SECONDS, filename=filename, cache_control=headers["Cache-Control"]
    )
    if address is None:
        return None
    sent: dict[str, str] = {
        name: headers[name] for name in ("X-Checksum-SHA256", "Content-Location", "Last-Modified") if name in headers
    }
    sent |= {"Location": address, "Cache-Control": "no-store"}
    if part.partial:
        sent["X-Tarball-Range"] = f"bytes={part.start}-{part.end - 1}"
    return web.Response(status=302, headers=sent)


async def _hand_over(request: web.Request, row: Row, headers: dict[str, str]) -> web.Response:
    """Tells the nginx in front of the registry to send the whole file, with the headers that nginx can't know.

    Raises BlobMissing or another StorageUnavailable when the file is missing or incomplete; then nothing is counted.
    """
    await request.app[TARBALLS].check_size(row)
    await _count(request, _download(request, row, 200, row.tarball_size))
    address = request.app[SETTINGS].storage.accel_location + row.tarball_path
    return web.Response(headers={**headers, "X-Accel-Redirect": address})


def _prepared(row: Row, headers: dict[str, str], part: Part) -> web.StreamResponse:
    response = web.StreamResponse(status=206 if part.partial else 200, headers=headers)
    response.content_length = part.size
    if part.partial:
        response.headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{row.tarball_size}"
    return response


async def _send(request: web.Request, row: Row, headers: dict[str, str], part: Part) -> web.StreamResponse:
    response = _prepared(row, headers, part)
    download = _download(request, row, response.status, part.end) if part.start == 0 else None
    async with request.app[TARBALLS].open(row, part.start, part.end) as chunks:
        first = await anext(chunks)
        if len(first) == part.size:
            if download is not None:
                await _count(request, download)
            return web.Response(body=first, status=response.status, headers=response.headers)
        await _stream(request, response, first, chunks, download)
    return response


async def _stream(
    request: web.Request,
    response: web.StreamResponse,
    first: bytes,
    chunks: AsyncIterator[bytes],
    download: Download | None,
) -> None:
    """Writes `first` and then `chunks`, and counts `download` unless it is None.

    The last chunk is sent after the count is committed, so a client that has the whole file is always counted. A client
    that leaves after the first bytes is counted as well, because it may fetch the rest by later ranges, which don't
    count. A transfer that the storage cuts short is not counted.
    """
    sent = _is_connected(request)
    try:
        await send_headers(request, response)
        await response.write(first)
        waiting = await anext(chunks)
        async for chunk in chunks:
            await response.write(waiting)
            waiting = chunk
    except (ConnectionError, asyncio.CancelledError):
        if sent and download is not None:
            request.app[RECORDER].record_soon(download)
        raise
    if download is not None:
        await request.app[RECORDER].record(download)
    await response.write(waiting)
    await response.write_eof()


def _is_connected(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


async def _count(request: web.Request, download: Download) -> None:
    """Counts a download just before its answer is sent. Raises ConnectionResetError when the client is gone."""
    if not _is_connected(request):
        raise ConnectionResetError("The client closed the connection before the answer was sent.")
    await request.app[RECORDER].record(download)


def _download(request: web.Request, row: Row | None, status: int, size: int) -> Download:
    """The record of a download of `row`, or of a refused request when `row` is None; `size` is in bytes."""
    settings = request.app[SETTINGS]
    at, address = datetime.now(UTC), request[CONTEXT].client
    user_agent = _storable(request.headers.get("User-Agent", ""))
    agent = agents.parse(user_agent[: agents.MAX_PARSED])
    return Download(
        at=at,
        version_id=None if row is None else row.id,
        package_id=None if row is None else row.package_id,
        package=None if row is not None else names.fold_name(request.match_info["name"]),
        version=None if row is not None else _storable(version_of(request))[: versions.MAX_VERSION],
        address=network_of(address, full=settings.downloads.address == "full"),
        user_agent=user_agent[:MAX_USER_AGENT],
        client_hash=client_hash(settings.accounts.secret_keys[0], at, address, user_agent),
        status=status,
        bytes=size,
        kind=agent.kind,
        client=agent.name,
        system=agent.system,
        country=request[CONTEXT].country,
        rule=agent.rule,
        address_key=address_key(settings.accounts.secret_keys[0], at, address),
    )


def _storable(text: str) -> str:
    """`text` without the characters that PostgreSQL can't store: lone surrogates and NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


_RANGE = header("Range", {"type": "string"}, "One range of bytes")

_BYTES = (TARBALL_TYPE, ANY_BYTES)
DOWNLOADS = Limit("download", "1000/minute")

ROUTES = group(
    "Downloads",
    Route("GET", f"{VERSION}/tarball", download_version, "Download a version", limit=DOWNLOADS, parameters=(_RANGE,),
          answers={200: _BYTES, 206: _BYTES, 301: None, 302: None, 304: None},
          errors=(PreconditionFailed, RangeNotSatisfiable, Quarantined, StorageUnavailable)),
)  # fmt: skip
