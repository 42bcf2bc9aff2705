"""The admins' pages about the registry itself: what needs attention, health, the doctor, the audit log."""

from functools import partial

from aiohttp import web

from registry.accounts.requests import principal_of
from registry.audit.read import registry_audit
from registry.doctor.runs.keep import Run, last_runs
from registry.downloads.keys import RECORDER
from registry.keys import DB, STORAGE
from registry.operations import health
from registry.operations.attention import attention
from registry.pages.audit.view import answer
from registry.pages.frame import page, render
from registry.search.keys import SEARCH
from registry.web.route import READS, SIGNED_IN


async def admin_overview(request: web.Request) -> web.StreamResponse:
    """What needs the attention of an admin."""
    app, who = request.app, principal_of(request)
    figures = await attention(app[DB], who)
    runs = await last_runs(app[DB], who, 1)
    return render(
        request,
        "admin/overview.html",
        title="Administration",
        figures=figures,
        health=await health.health(app[DB], app[STORAGE], app[SEARCH], app[RECORDER]),
        run=runs[0] if runs else None,
    )


async def admin_health(request: web.Request) -> web.StreamResponse:
    """The state of each server that the registry uses."""
    app, who = request.app, principal_of(request)
    who.require("admin")
    used, size, most = app[DB].use()
    found = await health.health(app[DB], app[STORAGE], app[SEARCH], app[RECORDER])
    return render(request, "admin/health.html", title="Health", health=found, connections=(used, size, most))


async def admin_doctor(request: web.Request) -> web.StreamResponse:
    """The findings of the doctor's last runs."""
    runs = await last_runs(request.app[DB], principal_of(request))
    return render(
        request, "admin/doctor.html", title="Doctor", runs=runs, run=_chosen(runs, request.query.get("run", ""))
    )


def _chosen(runs: list[Run], wanted: str) -> Run | None:
    """The run with this id, or else the newest one."""
    return next((run for run in runs if str(run.id) == wanted), runs[0] if runs else None)


async def admin_audit(request: web.Request) -> web.StreamResponse:
    """Everything that was done in the registry, as a page or as CSV."""
    who = principal_of(request)
    who.require("admin")
    return await answer(request, "admin/audit.html", partial(registry_audit, request.app[DB], who), title="Audit log")


ROUTES = (
    page("GET", "/admin", admin_overview, "What needs attention (admins)", SIGNED_IN, READS),
    page("GET", "/admin/health", admin_health, "Health of each server (admins)", SIGNED_IN, READS),
    page("GET", "/admin/doctor", admin_doctor, "Findings of the doctor (admins)", SIGNED_IN, READS),
    page("GET", "/admin/audit", admin_audit, "The audit log of the registry (admins)", SIGNED_IN, READS),
)
