"""The user's pending publishers: workflows that may publish packages that don't exist yet."""

from aiohttp import web

from registry.accounts.requests import principal_of
from registry.errors import Conflict, Forbidden, InvalidInput, NotFound
from registry.keys import DB
from registry.pages.forms import Form, read_form
from registry.pages.frame import page, render, see_other
from registry.pages.publishers.fields import body_of, kinds
from registry.publishers import manage
from registry.publishers.bodies import PUBLISHERS, wanted_of
from registry.publishers.keys import ISSUERS
from registry.web.route import READS, SIGNED_IN

PATH = "/account/publishers"
DONE = {
    "added": "The workflow may publish the package. Its first version takes the name for you.",
    "removed": "The publisher is removed.",
}


async def account_publishers(request: web.Request) -> web.StreamResponse:
    """The pending publishers, and the form to add one."""
    return await _show(request, Form())


async def add_pending_publisher_form(request: web.Request) -> web.StreamResponse:
    """Lets a workflow publish a package that doesn't exist yet."""
    form, who = await read_form(request), principal_of(request)
    try:
        package = form["package"].strip().lower()
        await manage.add_pending(request.app[DB], request.app[ISSUERS], who, package, wanted_of(body_of(form)))
    except (InvalidInput, Conflict, Forbidden) as error:
        return await _show(request, form.refused(error), error.status)
    return see_other(PATH, "added")


async def remove_pending_publisher_form(request: web.Request) -> web.StreamResponse:
    """Removes a pending publisher."""
    form = await read_form(request)
    try:
        await manage.remove_pending(request.app[DB], principal_of(request), form.number("id"))
    except NotFound as error:
        return await _show(request, form.refused(error), error.status)
    return see_other(PATH, "removed")


async def _show(request: web.Request, form: Form, status: int = 200) -> web.Response:
    found = await manage.list_pending(request.app[DB], principal_of(request), 0, manage.MAX_PENDING)
    return render(
        request,
        "publishers/pending.html",
        title="Trusted publishers",
        status=status,
        form=form,
        blank=Form(),
        publishers=found,
        kinds=kinds(request),
        done=DONE.get(request.query.get("done", ""), ""),
    )


ROUTES = (
    page("GET", PATH, account_publishers, "Your pending publishers", SIGNED_IN, READS),
    page("POST", PATH, add_pending_publisher_form, "Add a pending publisher", SIGNED_IN, PUBLISHERS, publishes=True),
    page("POST", f"{PATH}/remove", remove_pending_publisher_form, "Remove a pending publisher", SIGNED_IN, PUBLISHERS),
)
