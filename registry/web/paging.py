"""Pages of lists whose rows are ordered by an id: the parameters, and the cursor of the next page."""

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from registry.errors import FieldError, InvalidInput
from registry.web.cursor import decode, encode
from registry.web.parsing import DEFAULT_LIMIT, MAX_LIMIT, parse_number
from registry.web.route import query

NEWEST = 2**62 - 1
"""Where a list begins that is ordered from the newest id to the oldest."""

PARAMETERS = (
    query(
        "limit",
        {"type": "integer", "minimum": 1, "default": DEFAULT_LIMIT},
        f"Entries on a page. More than {MAX_LIMIT} is read as {MAX_LIMIT}.",
    ),
    query("cursor", {"type": "string"}, "next_cursor of the page before"),
)


def page_of(request: web.Request, sort: str, *, start: int = 0) -> tuple[int, int]:
    """(limit, the id after which the page begins, `start` for the first page). Raises InvalidInput.

    `sort` tells the cursors of different lists apart.
    """
    errors: list[FieldError] = []
    limit = min(parse_number(request.query, "limit", errors, DEFAULT_LIMIT, low=1), MAX_LIMIT)
    after = position_of(request.query, sort, errors, start=start)
    if errors:
        raise InvalidInput.of(errors)
    return limit, after


def position_of(given: Mapping[str, str], sort: str, errors: list[FieldError], *, start: int = 0) -> int:
    """The id in the query's cursor, `start` without one. Adds to `errors` what is wrong."""
    cursor = given.get("cursor")
    if cursor is None:
        return start
    try:
        (after,) = decode(cursor, sort, (int,))
    except ValueError as wrong:
        errors.append({"field": "cursor", "message": str(wrong)})
        return start
    return int(after)


def page(name: str, found: Sequence[Mapping[str, Any]], limit: int, *, key: str = "id") -> dict[str, Any]:
    """The answer `{name: [...], "next_cursor": ..., "limit": limit}`. Read its cursor with `name` as `sort`.

    `found` has one row more than `limit` if there is a next page.
    """
    shown = list(found[:limit])
    next_cursor = encode(name, (shown[-1][key],)) if len(found) > limit else None
    return {name: shown, "next_cursor": next_cursor, "limit": limit}
