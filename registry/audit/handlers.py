"""HTTP handlers of the audit log."""

from aiohttp import web

from registry.accounts.requests import principal_of
from registry.audit import read
from registry.audit.requests import FORMATS, MAX_CSV_ROWS, MAX_FILTER, csv_response, is_csv, wanted
from registry.keys import DB
from registry.packages.requests import PACKAGE, name_of, redirect_look_alikes
from registry.web import paging
from registry.web.responses import json_response
from registry.web.route import READS, SIGNED_IN, Route, group, query


@redirect_look_alikes
async def get_package_audit(request: web.Request) -> web.StreamResponse:
    """Who did what with a package, newest first, as JSON or as CSV. Owners and admins may read it."""
    filters, before, limit = wanted(request.query)
    page = await read.package_audit(request.app[DB], principal_of(request), name_of(request), filters, before, limit)
    return await _answer(request, page)


async def get_my_audit(request: web.Request) -> web.StreamResponse:
    """What the signed-in user did, and what happened to the account, newest first, as JSON or as CSV."""
    filters, before, limit = wanted(request.query)
    page = await read.user_audit(request.app[DB], principal_of(request), filters, before, limit)
    return await _answer(request, page)


async def get_registry_audit(request: web.Request) -> web.StreamResponse:
    """Everything that was done in the registry, newest first, as JSON or as CSV. Only admins may read it."""
    filters, before, limit = wanted(request.query)
    return await _answer(
        request, await read.registry_audit(request.app[DB], principal_of(request), filters, before, limit)
    )


async def _answer(request: web.Request, page: read.AuditPage) -> web.Response:
    if is_csv(request.query):
        return await csv_response(page)
    return json_response(page, headers={"Cache-Control": "no-store"})


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
