"""HTTP of tarballs: the exact bytes published, in ranges and conditionally, each download counted."""

import re
from datetime import UTC, datetime
from email.utils import format_datetime

from aiohttp import web
from aiohttp.helpers import ETAG_ANY
from cachetools import LRUCache, TTLCache

from registry.db.engine import Row
from registry.downloads import agents
from registry.downloads.record import DownloadRecorder, client_hash, network_of
from registry.downloads.store import Download
from registry.errors import (
    DatabaseUnavailable,
    NotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    RegistryError,
    StorageUnavailable,
)
from registry.keys import DB, SETTINGS, STORAGE
from registry.packages import names, read, versions
from registry.packages.requests import CACHE, VERSION, at_its_real_name, name_of, version_of
from registry.storage.base import BlobMissing
from registry.web.answers import send_headers
from registry.web.context import CONTEXT
from registry.web.responses import matches
from registry.web.route import Limit, Route, header

RECORDER = web.AppKey("recorder", DownloadRecorder)
# What was served lately, for when PostgreSQL is away, each with its package's stamp: a few hundred bytes.
SERVED: web.AppKey[LRUCache[tuple[str, str], tuple[Row, object]]] = web.AppKey("served", LRUCache)
SERVED_SIZE = 10_000
# The bytes of small tarballs served lately, by key: a blob never changes.
SMALL: web.AppKey[LRUCache[str, bytes]] = web.AppKey("small", LRUCache)
SMALL_BYTES = 64 << 10
ALL_SMALL_BYTES = 64 << 20
# Keys of tarballs that were found whole just now: each look at a file is a trip to another thread.
WHOLE: web.AppKey[TTLCache[str, None]] = web.AppKey("whole", TTLCache)
WHOLE_SIZE, WHOLE_SECONDS = 10_000, 10.0
PRESIGNED_SECONDS = 300
TARBALL_TYPE = "application/gzip"
IMMUTABLE = "max-age=31536000, immutable"
MAX_USER_AGENT = 512
TOO_SHORT = "The file of this version ends early in the package storage"
# nginx would hold these against the file, of which it knows neither the checksum nor when it was published.
_NGINX_CHECKS = {"If-Match", "If-Unmodified-Since"}
_ONE_RANGE = re.compile(r"bytes=(?=[0-9-]*[0-9])([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)


@at_its_real_name
async def get_tarball(request: web.Request) -> web.StreamResponse:
    try:
        return await _serve(request)
    except DatabaseUnavailable:
        raise  # nor could it be noted
    except RegistryError as error:
        if request.method == "GET" and names.fold_name(request.match_info["name"]):
            await _record(request, None, error.status, 0)
        raise


async def _serve(request: web.Request) -> web.StreamResponse:
    version = version_of(request)
    row = await _find(request, name_of(request), version)
    headers = _headers(request, row, version)
    _check_preconditions(request, row)
    if _is_unmodified(request, row):
        return web.Response(status=304, headers=headers)
    start, end = _range(request, row)
    counted = request.method == "GET" and start == 0
    if request.app[SETTINGS].storage.s3_redirect and request.method == "GET":
        redirect = await _redirect(request, row, headers, start, end)
        if redirect is not None:
            if counted:
                await _record(request, row, redirect.status, end)
            return redirect
    whole = request.method == "GET" and end - start == row.tarball_size
    handed = whole and request.headers.keys().isdisjoint(_NGINX_CHECKS)
    if handed and request.app[SETTINGS].storage.accel_location:
        return await _hand_over(request, row, headers)
    return await _send(request, row, headers, start, end, counted)


async def _find(request: web.Request, name: str, version: str) -> Row:
    """The blob's row; when PostgreSQL is away the last known one, unless the package changed: installs go on."""
    served, cache = request.app[SERVED], request.app[CACHE]
    heard = cache.now
    try:
        row = await cache.get(("blob", name, version), lambda: read.blob(request.app[DB], name, version))
    except DatabaseUnavailable:
        row, stamp = served.get((name, version), (None, None))
        if row is None or cache.stamp(row.package_id) is not stamp:
            raise
    except (NotFound, read.Elsewhere):
        served.pop((name, version), None)
        raise
    else:
        if not cache.has_changed(row.package_id, heard):
            served[name, version] = row, cache.stamp(row.package_id)
    return row


def _headers(request: web.Request, row: Row, version: str) -> dict[str, str]:
    reach = "private" if request.app[SETTINGS].accounts.access == "private" else "public"
    headers = {
        "ETag": f'"{row.checksum}"',
        "X-Checksum-SHA256": row.checksum,
        "Cache-Control": f"{reach}, {IMMUTABLE}",
        "Content-Disposition": f'attachment; filename="{row.name}-{row.version}.tar.gz"',
        "Accept-Ranges": "bytes",
        "Last-Modified": format_datetime(row.published_at.astimezone(UTC), usegmt=True),
    }
    if version == "latest":
        headers["Cache-Control"] = "no-cache"
        headers["Content-Location"] = read.tarball_url(row.name, row.version)
    return headers


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


def _range(request: web.Request, row: Row) -> tuple[int, int]:
    """The bytes asked for, end exclusive; what is no single byte range of a GET asks for all (RFC 9110, 14.2).

    Raises RangeNotSatisfiable when it begins beyond the end.
    """
    size = row.tarball_size
    wanted = _ONE_RANGE.fullmatch(request.headers.get("Range", "").strip())
    if wanted is None or request.method != "GET" or not _if_range_holds(request, row):
        return 0, size
    first, last = (int(digits) if digits else None for digits in wanted.groups())
    if first is None:
        start, end = max(0, size - (last or 0)), size
    elif last is not None and last < first:
        return 0, size
    else:
        start, end = first, size if last is None else min(last + 1, size)
    if start >= end:
        raise RangeNotSatisfiable(
            f"The tarball has {size} bytes; the range begins beyond them.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end


def _if_range_holds(request: web.Request, row: Row) -> bool:
    given = request.headers.get("If-Range", "").strip()
    if not given or given == f'"{row.checksum}"':
        return True
    return request.if_range is not None and request.if_range == row.published_at.replace(microsecond=0)


async def _redirect(
    request: web.Request, row: Row, headers: dict[str, str], start: int, end: int
) -> web.Response | None:
    """302 to a presigned address; None when the storage has no such thing.

    What the storage can't say of the tarball stands beside it: for checking the bytes, and for a proxy that follows
    the redirect itself and answers as we would.
    """
    filename = f"{row.name}-{row.version}.tar.gz"
    address = await request.app[STORAGE].presign(
        row.tarball_path, expires=PRESIGNED_SECONDS, filename=filename, cache_control=headers["Cache-Control"]
    )
    if address is None:
        return None
    told: dict[str, str] = {
        name: headers[name] for name in ("X-Checksum-SHA256", "Content-Location", "Last-Modified") if name in headers
    }
    told |= {"Location": address, "Cache-Control": "no-store"}
    if end - start < row.tarball_size:
        told["X-Tarball-Range"] = f"bytes={start}-{end - 1}"
    return web.Response(status=302, headers=told)


async def _hand_over(request: web.Request, row: Row, headers: dict[str, str]) -> web.Response:
    """Has nginx, which stands in front, send the whole file. What it can't know of the tarball stands beside it.

    Raises BlobMissing and StorageUnavailable for what it could not send whole, so that this is not counted; a file that
    went since it was last looked at, WHOLE_SECONDS ago at most, is.
    """
    whole = request.app[WHOLE]
    if row.tarball_path not in whole:
        size = await request.app[STORAGE].stat(row.tarball_path)
        if size is None:
            raise BlobMissing
        if size != row.tarball_size:
            raise StorageUnavailable(TOO_SHORT)
        whole[row.tarball_path] = None
    await _record(request, row, 200, row.tarball_size)
    address = request.app[SETTINGS].storage.accel_location + row.tarball_path
    return web.Response(headers={**headers, "Content-Type": TARBALL_TYPE, "X-Accel-Redirect": address})


async def _send(
    request: web.Request, row: Row, headers: dict[str, str], start: int, end: int, counted: bool
) -> web.StreamResponse:
    partial = end - start < row.tarball_size
    status = 206 if partial else 200
    headers = {**headers, "Content-Type": TARBALL_TYPE}
    if partial:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{row.tarball_size}"
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = end - start
    if request.method == "HEAD":
        return response
    small = request.app[SMALL]
    if row.tarball_path in small:
        return await _whole(request, row, small[row.tarball_path][start:end], status, headers, counted)
    async with request.app[STORAGE].open(row.tarball_path, start, end) as chunks:
        held = await anext(chunks, b"")
        if len(held) == end - start:
            if not partial and len(held) <= SMALL_BYTES:
                small[row.tarball_path] = held
            return await _whole(request, row, held, status, headers, counted)
        if not held:
            raise StorageUnavailable(TOO_SHORT)
        await send_headers(request, response)
        left = end - start - len(held)
        async for chunk in chunks:
            await response.write(held)
            held, left = chunk, left - len(chunk)
        if left:
            raise StorageUnavailable(TOO_SHORT)
        # Counted once the storage gave everything and while the last bytes wait: nobody has all of them uncounted.
        if counted:
            await _record(request, row, status, end)
        await response.write(held)
        await response.write_eof()
    return response


async def _whole(
    request: web.Request, row: Row, body: bytes, status: int, headers: dict[str, str], counted: bool
) -> web.Response:
    if counted:
        await _record(request, row, status, len(body))
    return web.Response(body=body, status=status, headers=headers)


async def _record(request: web.Request, row: Row | None, status: int, size: int) -> None:
    """Counts the download of `row`; without one, notes a refusal."""
    settings = request.app[SETTINGS]
    at, address = datetime.now(UTC), request[CONTEXT].client
    told = _storable(request.headers.get("User-Agent", ""))
    agent = agents.parse(told[: agents.MAX_PARSED])
    await request.app[RECORDER].record(
        Download(
            at=at,
            version_id=None if row is None else row.id,
            package_id=None if row is None else row.package_id,
            package=None if row is not None else names.fold_name(request.match_info["name"]),
            version=None if row is not None else _storable(version_of(request))[: versions.MAX_VERSION],
            address=network_of(address, full=settings.downloads.address == "full"),
            user_agent=told[:MAX_USER_AGENT],
            client_hash=client_hash(settings.accounts.secret_keys[0], at, address, told),
            status=status,
            bytes=size,
            kind=agent.kind,
            client=agent.name,
            system=agent.system,
            country=request[CONTEXT].country,
            rule=agent.rule,
        )
    )


def _storable(text: str) -> str:
    """Without what PostgreSQL has no place for: halves of surrogates, NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


_RANGE = header("Range", {"type": "string"}, "One range of bytes")

DOWNLOADS = Limit("download", "1000/minute")

ROUTES = (
    Route("GET", f"{VERSION}/tarball", get_tarball, "Download a version", limit=DOWNLOADS, parameters=(_RANGE,),
          answers={200: "application/gzip", 206: "application/gzip", 301: None, 302: None, 304: None},
          errors=(412, 416)),
)  # fmt: skip
