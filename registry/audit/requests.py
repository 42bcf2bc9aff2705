"""Reads the filters of the audit log from the address of a request, and answers with entries as CSV."""

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from aiohttp import web
from pydantic import AwareDatetime, TypeAdapter

from registry.audit import read
from registry.audit.store import Filters
from registry.errors import FieldError, InvalidInput
from registry.web import paging
from registry.web.parsing import DEFAULT_LIMIT, MAX_LIMIT, parse_number

MAX_FILTER = 214
MAX_CSV_ROWS = 10_000
CSV_TYPE = "text/csv; charset=utf-8"
FORMATS = ("json", "csv")
_ZONED = TypeAdapter(AwareDatetime)


def is_csv(given: Mapping[str, str]) -> bool:
    """Whether the query parameters ask for CSV."""
    return given.get("format", "json") == "csv"


async def csv_response(page: read.AuditPage) -> web.Response:
    """The entries as a file for a spreadsheet."""
    headers = {
        "Cache-Control": "no-store",
        "Content-Type": CSV_TYPE,
        "Content-Disposition": 'attachment; filename="audit.csv"',
    }
    return web.Response(text=await asyncio.to_thread(read.as_csv, page["entries"]), headers=headers)


def wanted(given: Mapping[str, str]) -> tuple[Filters, int, int]:
    """(the filters among the query parameters, the id below which entries are wanted, their number).

    Raises InvalidInput with every wrong parameter.
    """
    errors: list[FieldError] = []
    if given.get("format", "json") not in FORMATS:
        errors.append({"field": "format", "message": "must be json or csv"})
    default, largest = (MAX_CSV_ROWS, MAX_CSV_ROWS) if is_csv(given) else (DEFAULT_LIMIT, MAX_LIMIT)
    limit = min(parse_number(given, "limit", errors, default, low=1), largest)
    before = paging.position_of(given, "audit", errors, start=paging.NEWEST)
    filters = Filters(
        action=_text(given, "action", errors),
        actor=_text(given, "actor", errors),
        package=_text(given, "package", errors),
        since=_time(given, "from", errors, timedelta(0)),
        until=_time(given, "to", errors, timedelta(days=1)),
    )
    if errors:
        raise InvalidInput.of(errors)
    return filters, before, limit


def _text(given: Mapping[str, str], name: str, errors: list[FieldError]) -> str | None:
    value = given.get(name)
    if value is not None and not (0 < len(value) <= MAX_FILTER and value.isprintable()):
        errors.append({"field": name, "message": f"must be text of 1 to {MAX_FILTER} printable characters"})
        return None
    return value


def _time(given: Mapping[str, str], name: str, errors: list[FieldError], after_day: timedelta) -> datetime | None:
    """The time in a query parameter. A day means its beginning plus `after_day`."""
    value = given.get(name)
    if value is None:
        return None
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            return datetime.fromisoformat(value).replace(tzinfo=UTC) + after_day
        return _ZONED.validate_python(value).astimezone(UTC)
    except (ValueError, OverflowError):
        errors.append({"field": name, "message": "must be a day such as 2026-01-31, or a time with a zone"})
        return None
