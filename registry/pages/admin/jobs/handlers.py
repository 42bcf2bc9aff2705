"""The admins' pages about background jobs."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from registry.accounts.requests import id_of, principal_of
from registry.errors import Conflict, NotFound
from registry.keys import DB
from registry.operations import jobs
from registry.pages.admin import lists
from registry.pages.forms import read_form
from registry.pages.frame import page, render, see_other
from registry.web.route import DEFAULT, READS, SIGNED_IN

PATH = "/admin/jobs"
DONE = {"retried": "The job is in the queue again.", "discarded": "The job is deleted. Its work will not be done."}


async def admin_jobs(request: web.Request) -> web.StreamResponse:
    """The background jobs in one state, newest first."""
    return await _show(request)


async def _show(request: web.Request, problem: str = "", status: int = 200) -> web.Response:
    db, who, query = request.app[DB], principal_of(request), request.query
    state = query.get("state", "")
    state = state if state in jobs.STATES else jobs.STATES[0]
    counts = await jobs.count_jobs(db, who)
    found = await jobs.list_jobs(db, who, state, lists.start_of(query, "jobs"), lists.SHOWN + 1)
    shown, following = lists.page_of(found, PATH, query, "jobs", "state")
    return render(
        request,
        "admin/jobs.html",
        title="Jobs",
        status=status,
        jobs=shown,
        next=following,
        state=state,
        counts=counts,
        problem=problem,
        done=DONE.get(query.get("done", ""), ""),
    )


async def _change(request: web.Request, act: Callable[..., Awaitable[None]], done: str) -> web.StreamResponse:
    """Changes a job by `act`, which gets (database, admin, job)."""
    await read_form(request)
    try:
        await act(request.app[DB], principal_of(request), id_of(request, jobs.NO_JOB))
    except (Conflict, NotFound) as error:
        return await _show(request, error.detail, error.status)
    return see_other(PATH, done)


async def retry_job_form(request: web.Request) -> web.StreamResponse:
    """Makes a dead job due again."""
    return await _change(request, jobs.retry_job, "retried")


async def discard_job_form(request: web.Request) -> web.StreamResponse:
    """Deletes a dead job."""
    return await _change(request, jobs.discard_job, "discarded")


ROUTES = (
    page("GET", PATH, admin_jobs, "Background jobs (admins)", SIGNED_IN, READS),
    page("POST", f"{PATH}/{{id}}/retry", retry_job_form, "Retry a dead job (admins)", SIGNED_IN, DEFAULT),
    page("POST", f"{PATH}/{{id}}/discard", discard_job_form, "Delete a dead job (admins)", SIGNED_IN, DEFAULT),
)
