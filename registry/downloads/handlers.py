"""Serves tarballs: the exact bytes that were published, with ranges and conditional requests. Counts downloads."""

import asyncio
import functools
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime

from aiohttp import hdrs, web
from multidict import CIMultiDict

from registry.db.engine import Row
from registry.downloads.identity import identify, storable
from registry.downloads.keys import RECORDER
from registry.downloads.requests import Part, check_preconditions, is_plain, is_unmodified, part_of
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
from registry.web.answers import send_headers
from registry.web.context import CONTEXT
from registry.web.responses import accepts
from registry.web.route import Limit, Route, group, header

TARBALLS = web.AppKey("tarballs", Tarballs)
PRESIGNED_SECONDS = 300
TARBALL_TYPE, ANY_BYTES = "application/gzip", "application/octet-stream"
IMMUTABLE = "max-age=31536000, immutable"
CACHED_HEADERS = 10_000
# Requests with these headers are not handed over to nginx. It would compare them with its file instead of with the
# checksum and the time of publishing.
_NGINX_CHECKS = {"If-Match", "If-Unmodified-Since"}


@redirect_look_alikes
async def download_version(request: web.Request) -> web.StreamResponse:
    """The exact bytes that were published. A request that starts at the first byte counts as one download. Ranges and
    conditional requests work. The media type is `application/octet-stream` if `Accept` names it and not
    `application/gzip`.
    """
    try:
        return await _serve(request)
    except DatabaseUnavailable:
        raise  # nobody knows which package this would count for
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
    plain = is_plain(request)
    if not plain:
        check_preconditions(request, row)
        if is_unmodified(request, row):
            return web.Response(status=304, headers=_headers(request, row, version))
    headers = _headers(request, row, version, _type_for(request))
    part = Part(0, row.tarball_size, partial=False) if plain else part_of(request, row)
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


def _headers(request: web.Request, row: Row, version: str, media_type: str = "") -> "CIMultiDict[str]":
    """The headers of an answer about `row`. Don't change them: the same requests get the same object."""
    private = request.app[SETTINGS].accounts.access == "private"
    return _make_headers(
        row.name, row.version, row.checksum, row.published_at, version, media_type, "private" if private else "public"
    )


# Formatting these takes a tenth of the time of a whole download.
@functools.lru_cache(CACHED_HEADERS)
def _make_headers(
    name: str, version: str, checksum: str, published_at: datetime, asked: str, media_type: str, visibility: str
) -> "CIMultiDict[str]":
    headers = CIMultiDict(
        {
            "ETag": f'"{checksum}"',
            "X-Checksum-SHA256": checksum,
            "Cache-Control": "no-cache" if asked == read.LATEST else f"{visibility}, {IMMUTABLE}",
            "Content-Disposition": f'attachment; filename="{name}-{version}.tar.gz"',
            "Accept-Ranges": "bytes",
            "Last-Modified": format_datetime(published_at.astimezone(UTC), usegmt=True),
        }
    )
    if asked != version:
        headers["Content-Location"] = read.tarball_url(name, version)
    if media_type:
        headers[hdrs.CONTENT_TYPE] = media_type
    return headers


def _type_for(request: web.Request) -> str:
    """The usual type, or the one for any bytes, for clients that accept no other: generated ones know no gzip."""
    return ANY_BYTES if accepts(request, ANY_BYTES) and not accepts(request, TARBALL_TYPE) else TARBALL_TYPE


async def _redirect(request: web.Request, row: Row, headers: "CIMultiDict[str]", part: Part) -> web.Response | None:
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


async def _hand_over(request: web.Request, row: Row, headers: "CIMultiDict[str]") -> web.Response:
    """Tells the nginx in front of the registry to send the whole file, with the headers that nginx can't know.

    Raises BlobMissing or another StorageUnavailable when the file is missing or incomplete; then nothing is counted.
    """
    await request.app[TARBALLS].check_size(row)
    await _count(request, _download(request, row, 200, row.tarball_size))
    response = web.Response(headers=headers)
    response.headers["X-Accel-Redirect"] = request.app[SETTINGS].storage.accel_location + row.tarball_path
    return response


def _prepared(row: Row, headers: "CIMultiDict[str]", part: Part) -> web.StreamResponse:
    response = web.StreamResponse(status=206 if part.partial else 200, headers=headers)
    response.content_length = part.size
    if part.partial:
        response.headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{row.tarball_size}"
    return response


async def _send(request: web.Request, row: Row, headers: "CIMultiDict[str]", part: Part) -> web.StreamResponse:
    tarballs = request.app[TARBALLS]
    if not part.partial and (whole := tarballs.in_memory(row)) is not None:
        await _count(request, _download(request, row, 200, part.end))
        return web.Response(body=whole, headers=headers)
    response = _prepared(row, headers, part)
    download = _download(request, row, response.status, part.end) if part.start == 0 else None
    if download is not None:
        await request.app[RECORDER].refuse_early()
    async with tarballs.open(row, part.start, part.end) as chunks:
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

    The last chunk is sent after the download is in the journal, so a client that has the whole file is always counted.
    A client that leaves after the first bytes is counted as well, because it may fetch the rest by later ranges, which
    don't count. A transfer that the storage cuts short is not counted.
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
    settings, context, at = request.app[SETTINGS], request[CONTEXT], datetime.now(UTC)
    full = settings.downloads.address == "full"
    user_agent = request.headers.get("User-Agent", "")
    client = identify(settings.accounts.secret_keys[0], at.date(), context.client, user_agent, full)
    return Download(
        at=at,
        version_id=None if row is None else row.id,
        package_id=None if row is None else row.package_id,
        package=None if row is not None else names.fold_name(request.match_info["name"]),
        version=None if row is not None else storable(version_of(request))[: versions.MAX_VERSION],
        address=client.network,
        user_agent=client.user_agent,
        client_hash=client.hash,
        status=status,
        bytes=size,
        kind=client.kind,
        client=client.name,
        system=client.system,
        country=context.country,
        rule=client.rule,
        address_key=client.address_key,
    )


_RANGE = header("Range", {"type": "string"}, "One range of bytes")

_BYTES = (TARBALL_TYPE, ANY_BYTES)
DOWNLOADS = Limit("download", "1000/minute")

ROUTES = group(
    "Downloads",
    Route("GET", f"{VERSION}/tarball", download_version, "Download a version", limit=DOWNLOADS, parameters=(_RANGE,),
          answers={200: _BYTES, 206: _BYTES, 301: None, 302: None, 304: None},
          errors=(PreconditionFailed, RangeNotSatisfiable, Quarantined, StorageUnavailable)),
)  # fmt: skip
