"""HTTP handlers of reports."""

from aiohttp import web
from typing_extensions import TypedDict

from registry.accounts.requests import id_of, no_store, principal_of
from registry.errors import InvalidInput
from registry.keys import DB
from registry.packages.requests import PACKAGE, name_of, redirect_look_alikes
from registry.reports import report
from registry.reports.bodies import PACKAGE_REPORTS, ReportChange, ReportRequest
from registry.web import paging
from registry.web.parsing import flag_of, read_body
from registry.web.responses import json_response
from registry.web.route import READS, SIGNED_IN, Route, group, query


class ReportsPage(TypedDict):
    reports: list[report.Report]
    next_cursor: str | None
    limit: int


@redirect_look_alikes
async def report_package(request: web.Request) -> web.StreamResponse:
    """Reports a package as malware, as spam or for another reason. Admins read the reports."""
    name, who = name_of(request), principal_of(request)
    body = await read_body(request, ReportRequest)
    if not body.text.strip():
        raise InvalidInput.field("text", "must not be blank")
    received = await report.report_package(request.app[DB], who, name, body.kind, body.text)
    return json_response(received, status=202)


async def list_reports(request: web.Request) -> web.StreamResponse:
    """The reports of packages, newest first. Only admins may read them."""
    limit, before = paging.page_of(request, "reports", start=paging.NEWEST)
    closed = flag_of(request, "closed") if "closed" in request.query else None
    found = await report.list_reports(request.app[DB], principal_of(request), closed, before, limit + 1)
    return no_store(paging.page("reports", found, limit))


async def close_report(request: web.Request) -> web.StreamResponse:
    """Closes a report, or opens it again. Only admins may do this."""
    who = principal_of(request)
    who.require("admin")
    body = await read_body(request, ReportChange)
    number = id_of(request, report.NO_REPORT)
    return json_response(await report.close_report(request.app[DB], who, number, body.closed))


_REPORTS = "/api/v1/admin/reports"
_CLOSED = query("closed", {"type": "boolean"}, "Only closed or only open reports. Without it, all reports.")

ROUTES = group(
    "Reports",
    Route("POST", f"{PACKAGE}/report", report_package, "Report a package to the admins", SIGNED_IN, PACKAGE_REPORTS,
          body={"application/json": ReportRequest}, answers={202: report.Received, 308: None},
          example={"kind": "malware", "text": "Its install script sends your keys away."}),
    Route("GET", _REPORTS, list_reports, "Reports of packages (admins)", SIGNED_IN, READS,
          (_CLOSED, *paging.PARAMETERS), answers={200: ReportsPage}),
    Route("PATCH", f"{_REPORTS}/{{id}}", close_report, "Close a report, or open it again (admins)", SIGNED_IN,
          body={"application/json": ReportChange}, answers={200: report.Report}, example={"closed": True}),
)  # fmt: skip
