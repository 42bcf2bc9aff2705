"""The admins' pages about packages: reports, quarantine, reserved names."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from registry.accounts.requests import id_of, principal_of
from registry.errors import Conflict, InvalidInput, NotFound
from registry.keys import DB
from registry.package_format import names
from registry.packages import manage
from registry.packages.bodies import PackageChange, reason_of
from registry.packages.read import OtherSpelling
from registry.packages.reserved import reserve
from registry.pages.admin import lists
from registry.pages.forms import Form, read_form
from registry.pages.frame import page, render, see_other
from registry.reports import report
from registry.web.parsing import Body, check
from registry.web.route import DEFAULT, READS, SIGNED_IN, Handler, Route

REPORTS, QUARANTINE, NAMES = "/admin/reports", "/admin/quarantine", "/admin/reserved-names"
MAX_REASON = 500
STATES = {"open": False, "closed": True, "all": None}
DONE = {
    "closed": "The report is closed.",
    "opened": "The report is open again.",
    "quarantined": "The package is in quarantine. Nobody but admins and its owners can see it.",
    "released": "The package is released. Everybody can see it again.",
    "reserved": "The name is reserved.",
    "removed": "The name is no longer reserved.",
}


class NewReservation(Body):
    """A name to reserve."""

    name: Annotated[str, Field(max_length=names.MAX_NAME)]
    reason: Annotated[str, Field(max_length=MAX_REASON)]


async def admin_reports(request: web.Request) -> web.StreamResponse:
    """The reports of packages, newest first."""
    return await _show_reports(request)


async def _show_reports(request: web.Request, form: Form | None = None, status: int = 200) -> web.Response:
    query = request.query
    state = query.get("state", "")
    state = state if state in STATES else "open"
    start = lists.start_of(query, "reports")
    found = await report.list_reports(request.app[DB], principal_of(request), STATES[state], start, lists.SHOWN + 1)
    shown, following = lists.page_of(found, REPORTS, query, "reports", "state")
    return render(
        request,
        "admin/reports.html",
        title="Reports",
        status=status,
        reports=shown,
        next=following,
        state=state,
        form=form or Form(),
        done=_done(request),
    )


async def close_report_form(request: web.Request) -> web.StreamResponse:
    """Closes a report, or opens it again."""
    form = await read_form(request)
    closed = form["closed"] == "true"
    await report.close_report(request.app[DB], principal_of(request), id_of(request, report.NO_REPORT), closed)
    return see_other(REPORTS, "closed" if closed else "opened")


async def admin_quarantine(request: web.Request) -> web.StreamResponse:
    """The packages in quarantine, newest first."""
    return await _show_quarantine(request)


async def _show_quarantine(request: web.Request, form: Form | None = None, status: int = 200) -> web.Response:
    start = lists.start_of(request.query, "quarantine")
    found = await manage.list_quarantined(request.app[DB], principal_of(request), start, lists.SHOWN + 1)
    shown, following = lists.page_of(found, QUARANTINE, request.query, "quarantine")
    return render(
        request,
        "admin/quarantine.html",
        title="Quarantine",
        status=status,
        packages=shown,
        next=following,
        form=form or Form(),
        done=_done(request),
    )


async def quarantine_form(request: web.Request) -> web.StreamResponse:
    """Puts a package in quarantine. The form is on the page of the quarantine and, with `report`, in each report."""
    form = await read_form(request)
    try:
        await _set_quarantine(request, form, quarantined=True)
    except (Conflict, InvalidInput, NotFound) as error:
        show = _show_reports if "report" in form else _show_quarantine
        return await show(request, form.refused(error, name="package"), error.status)
    return see_other(REPORTS if "report" in form else QUARANTINE, "quarantined")


async def release_form(request: web.Request) -> web.StreamResponse:
    """Releases a package from quarantine."""
    form = await read_form(request)
    await _set_quarantine(request, form, quarantined=False)
    return see_other(QUARANTINE, "released")


async def _set_quarantine(request: web.Request, form: Form, *, quarantined: bool) -> None:
    """Raises what the API raises for the same change."""
    name = form["package"].strip()
    body = check(PackageChange, {"quarantined": quarantined, **({"reason": form["reason"]} if quarantined else {})})
    try:
        await manage.quarantine_package(request.app[DB], principal_of(request), name, reason_of(body))
    except OtherSpelling as other:
        raise InvalidInput.field("package", f"must be {other.name}, as the package is spelled") from None


async def admin_reserved_names(request: web.Request) -> web.StreamResponse:
    """The reserved names."""
    return await _show_names(request)


async def _show_names(request: web.Request, form: Form | None = None, status: int = 200) -> web.Response:
    start = lists.start_of(request.query, "reserved")
    found = await reserve.list_names(request.app[DB], principal_of(request), start, lists.SHOWN + 1)
    shown, following = lists.page_of(found, NAMES, request.query, "reserved")
    return render(
        request,
        "admin/reserved_names.html",
        title="Reserved names",
        status=status,
        reserved=shown,
        built_in=sorted(names.RESERVED - names.WINDOWS_DEVICES),
        next=following,
        form=form or Form(),
        done=_done(request),
    )


async def reserve_name_form(request: web.Request) -> web.StreamResponse:
    """Reserves a name."""
    form = await read_form(request)
    try:
        body = check(NewReservation, {"name": form["name"].strip(), "reason": form["reason"].strip()})
        await reserve.reserve_name(request.app[DB], principal_of(request), body.name, body.reason)
    except (Conflict, InvalidInput) as error:
        return await _show_names(request, form.refused(error), error.status)
    return see_other(NAMES, "reserved")


async def remove_name_form(request: web.Request) -> web.StreamResponse:
    """Ends a reservation."""
    await read_form(request)
    number = id_of(request, "There is no reserved name with this id.")
    await reserve.release_name(request.app[DB], principal_of(request), number)
    return see_other(NAMES, "removed")


def _done(request: web.Request) -> str:
    return DONE.get(request.query.get("done", ""), "")


def _form(path: str, handler: Handler, summary: str) -> Route:
    return page("POST", path, handler, summary, SIGNED_IN, DEFAULT)


ROUTES = (
    page("GET", REPORTS, admin_reports, "Reports of packages (admins)", SIGNED_IN, READS),
    _form(f"{REPORTS}/{{id}}", close_report_form, "Close a report, or open it again (admins)"),
    page("GET", QUARANTINE, admin_quarantine, "Packages in quarantine (admins)", SIGNED_IN, READS),
    _form(QUARANTINE, quarantine_form, "Put a package in quarantine (admins)"),
    _form(f"{QUARANTINE}/release", release_form, "Release a package from quarantine (admins)"),
    page("GET", NAMES, admin_reserved_names, "Reserved names (admins)", SIGNED_IN, READS),
    _form(NAMES, reserve_name_form, "Reserve a name (admins)"),
    _form(f"{NAMES}/{{id}}/remove", remove_name_form, "End the reservation of a name (admins)"),
)
