"""HTTP handlers of the audit log."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

from aiohttp import web
from pydantic import AwareDatetime, TypeAdapter

from registry.accounts.requests import principal_of
from registry.audit import read
from registry.audit.store import Filters
from registry.errors import FieldError, InvalidInput
from registry.keys import DB
from registry.packages.requests import PACKAGE, name_of, redirect_look_alikes
from registry.web import paging
from registry.web.parsing import DEFAULT_LIMIT, MAX_LIMIT, parse_number
from registry.web.responses import json_response
from registry.web.route import READS, SIGNED_IN, Route, group, query

MAX_FILTER = 214
MAX_CSV_ROWS = 10_000
CSV_TYPE = "text/csv; charset=utf-8"
FORMATS = ("json", "csv")
_ZONED = TypeAdapter(AwareDatetime)


@redirect_look_alikes
async def get_package_audit(request: web.Request) -> web.StreamResponse:
    """Who did what with a package, newest first, as JSON or as CSV. Owners and admins may read it."""
    filters, before, limit = _wanted(request)
    page = await read.package_audit(request.app[DB], principal_of(request), name_of(request), filters, before, limit)
    return await _answer(request, page)


async def get_my_audit(request: web.Request) -> web.StreamResponse:
    """What the signed-in user did, and what happened to the account, newest first, as JSON or as CSV."""
    filters, before, limit = _wanted(request)
    page = await read.user_audit(request.app[DB], principal_of(request), filters, before, limit)
    return await _answer(request, page)


async def get_registry_audit(request: web.Request) -> web.StreamResponse:
    """Everything that was done in the registry, newest first, as JSON or as CSV. Only admins may read it."""
    filters, before, limit = _wanted(request)
    return await _answer(
        request, await read.registry_audit(request.app[DB], principal_of(request), filters, before, limit)
    )


async def _answer(request: web.Request, page: read.AuditPage) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    if not _is_csv(request):
        return json_response(page, headers=headers)
    headers |= {"Content-Type": CSV_TYPE, "Content-Disposition": 'attachment; filename="audit.csv"'}
    return web.Response(text=await asyncio.to_thread(read.as_csv, page["entries"]), headers=headers)


def _is_csv(request: web.Request) -> bool:
    return request.query.get("format", "json") == "csv"


def _wanted(request: web.Request) -> tuple[Filters, int, int]:
    """(the filters of the query, the id below which entries are wanted, their number).

    Raises InvalidInput with every wrong parameter.
    """
    errors: list[FieldError] = []
    if request.query.get("format", "json") not in FORMATS:
        errors.append({"field": "format", "message": "must be json or csv"})
    default, largest = (MAX_CSV_ROWS, MAX_CSV_ROWS) if _is_csv(request) else (DEFAULT_LIMIT, MAX_LIMIT)
    limit = min(parse_number(request.query, "limit", errors, default, low=1), largest)
    before = paging.position_of(request.query, "audit", errors, start=paging.NEWEST)
    filters = Filters(
        action=_text(request, "action", errors),
        actor=_text(request, "actor", errors),
        package=_text(request, "package", errors),
        since=_time(request, "from", errors, timedelta(0)),
        until=_time(request, "to", errors, timedelta(days=1)),
    )
    if errors:
        raise InvalidInput.of(errors)
    return filters, before, limit


def _text(request: web.Request, name: str, errors: list[FieldError]) -> str | None:
    value = request.query.get(name)
    if value is not None and not (0 < len(value) <= MAX_FILTER and value.isprintable()):
        errors.append({"field": name, "message": f"must be text of 1 to {MAX_FILTER} printable characters"})
        return None
    return value


def _time(request: web.Request, name: str, errors: list[FieldError], after_day: timedelta) -> datetime | None:
    """The time in a query parameter. A day means its beginning plus `after_day`."""
    value = request.query.get(name)
    if value is None:
        return None
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            return datetime.fromisoformat(value).replace(tzinfo=UTC) + after_day
        return _ZONED.validate_python(value).astimezone(UTC)
    except (ValueError, OverflowError):
        errors.append({"field": name, "message": "must be a day such as 2026-01-31, or a time with a zone"})
        return None


_TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_FILTER}
_TIME = {"type": "string"}
_PARAMETERS = (
    query("action", _TEXT, "Only this action, such as `version.publish`"),
    query("actor", _TEXT, "Only acts of this user"),
    query("package", _TEXT, "Only acts on this package"),
    query("from", _TIME, "A day in UTC, or a time with a zone: the first that is wanted"),
    query("to", _TIME, "A day in UTC that is the last, or a time with a zone before which entries are wanted"),
    query("format", {"type": "string", "enum": list(FORMATS), "default": "json"},
          f"`csv` sends a table of up to {MAX_CSV_ROWS} entries"),
    *paging.PARAMETERS,
)  # fmt: skip
_ANSWER = (read.AuditPage, "text/csv")

ROUTES = group(
    "Audit",
    Route("GET", f"{PACKAGE}/audit", get_package_audit, "What happened to a package (owners)", SIGNED_IN, READS,
          _PARAMETERS, answers={200: _ANSWER, 301: None}),
    Route("GET", "/api/v1/auth/audit", get_my_audit, "What you did, and what happened to your account", SIGNED_IN,
          READS, _PARAMETERS, answers={200: _ANSWER}),
    Route("GET", "/api/v1/admin/audit", get_registry_audit, "Everything that happened (admins)", SIGNED_IN, READS,
          _PARAMETERS, answers={200: _ANSWER}),
)  # fmt: skip
