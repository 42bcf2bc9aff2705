"""JSON answers with strong validators."""

import hashlib
import re
from typing import Any

import orjson
from aiohttp import hdrs, web
from aiohttp.helpers import ETAG_ANY

REVALIDATE = "no-cache"
JSON_TYPE = "application/json; charset=utf-8"
# A weight of 0 in an Accept header means "not acceptable" (RFC 9110, 12.4.2).
_REFUSED = re.compile(r";\s*q\s*=\s*0(?:\.0*)?\s*(?:;|$)")


def json_response(data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """`data` as UTF-8 JSON. Datetimes become RFC 3339 in UTC with Z."""
    return encoded_response(dump(data), status=status, headers=headers)


def encoded_response(body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """As json_response(), for data that is JSON already."""
    return web.Response(body=body, status=status, headers=headers, content_type="application/json", charset="utf-8")


def dump(data: Any) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC)


def render(data: Any) -> tuple[bytes, str]:
    """`data` as JSON, and the tag of its bytes."""
    body = dump(data)
    return body, tag_of(body)


def tag_of(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def metadata_response(request: web.Request, data: Any, *, headers: dict[str, str] | None = None) -> web.Response:
    """`data` with an ETag of its bytes, or 304 when the client has the same bytes (RFC 9110, 13.1.2)."""
    return rendered_response(request, *render(data), headers=headers)


def rendered_response(
    request: web.Request, body: bytes, tag: str, *, headers: dict[str, str] | None = None
) -> web.Response:
    """As metadata_response(), for a body and tag made before, such as by render(). `headers` may set another type."""
    sent: dict[str, str] = {"ETag": f'"{tag}"', hdrs.CACHE_CONTROL: REVALIDATE}
    unchanged = matches(request, tag)
    if not unchanged:
        sent[hdrs.CONTENT_TYPE] = JSON_TYPE
    if headers is not None:
        sent |= headers
    return web.Response(status=304, headers=sent) if unchanged else web.Response(body=body, headers=sent)


def accepts(request: web.Request, media_type: str) -> bool:
    """Whether the Accept header names `media_type`, in lower case, with a weight above 0. Wildcards don't count."""
    given = ",".join(request.headers.getall(hdrs.ACCEPT, ())).lower()
    return media_type in given and any(
        media.partition(";")[0].strip() == media_type and not _REFUSED.search(media) for media in given.split(",")
    )


def matches(request: web.Request, tag: str) -> bool:
    """Whether If-None-Match contains `tag` (weak comparison) or is `*`."""
    given = request.headers.get(hdrs.IF_NONE_MATCH)
    if given is None:
        return False
    if given == f'"{tag}"':
        return True
    return any(given.value in (tag, ETAG_ANY) for given in request.if_none_match or ())
