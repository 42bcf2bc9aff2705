"""Conditional requests and ranges of tarballs (RFC 9110, 13 and 14)."""

import re
from dataclasses import dataclass

from aiohttp import hdrs, web
from aiohttp.helpers import ETAG_ANY

from registry.db.engine import Row
from registry.errors import PreconditionFailed, RangeNotSatisfiable
from registry.web.responses import matches

_ONE_RANGE = re.compile(r"bytes=(?=[0-9-]*[0-9])([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)
_CONDITIONS = frozenset(
    (hdrs.IF_MATCH, hdrs.IF_NONE_MATCH, hdrs.IF_MODIFIED_SINCE, hdrs.IF_UNMODIFIED_SINCE, hdrs.IF_RANGE, hdrs.RANGE)
)


def is_plain(request: web.Request) -> bool:
    """Whether the request wants the whole tarball whatever the client has: it has no condition and no range."""
    return request.headers.keys().isdisjoint(_CONDITIONS)


def check_preconditions(request: web.Request, row: Row) -> None:
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


def is_unmodified(request: web.Request, row: Row) -> bool:
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


def part_of(request: web.Request, row: Row) -> Part:
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
