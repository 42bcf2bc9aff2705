"""The pages of webhooks: the list with the form for a new one, and one webhook with its deliveries."""

from typing import Any

from aiohttp import web

from registry.accounts.requests import id_of, principal_of
from registry.errors import InvalidInput
from registry.keys import DB
from registry.packages.requests import visible_name
from registry.pages.forms import Form
from registry.pages.frame import render
from registry.web import paging
from registry.webhooks import hooks
from registry.webhooks.deliveries import log

PATH = "/account/webhooks"
SHOWN_DELIVERIES = 20
VERSION_EVENTS = sorted(each for each in hooks.EVENTS if each.startswith("version."))
PACKAGE_EVENTS = sorted(each for each in hooks.EVENTS if each.startswith("package."))
DONE = {
    "changed": "The webhook is changed.",
    "removed": "The webhook is removed. Nothing is sent to it any more.",
    "enabled": "The webhook is enabled. It hears about changes from now on.",
    "disabled": "The webhook is disabled. You can enable it again.",
    "ping": "The ping is on its way. Reload the page to see the answer.",
    "queued": "The deliveries are queued. Reload the page to see the answers.",
}


async def show_list(request: web.Request, form: Form | None = None, status: int = 200) -> web.Response:
    """All webhooks of the user, and the form for a new one."""
    who = principal_of(request)
    found = await hooks.list_hooks(request.app[DB], who, 0, hooks.MAX_HOOKS)
    scopes = [("owner", "All packages that I own"), ("package", "One package")]
    if who.is_admin:
        scopes.append(("all", "All packages of the registry"))
    return render(
        request,
        "webhooks/list.html",
        title="Webhooks",
        status=status,
        webhooks=found,
        form=form or Form(),
        sent=form is not None,
        package=request.query.get("package", ""),
        scopes=scopes,
        **_common(request),
    )


async def show_one(
    request: web.Request, secret: str = "", refused: str = "", form: Form | None = None, status: int = 200
) -> web.Response:
    """The webhook in the address, or the one that was just made, with its deliveries. `secret` is shown if given."""
    return await show_webhook(request, id_of(request, hooks.NO_WEBHOOK), secret, refused, form, status)


async def show_webhook(
    request: web.Request,
    webhook: int,
    secret: str = "",
    refused: str = "",
    form: Form | None = None,
    status: int = 200,
) -> web.Response:
    """A webhook with its deliveries, newest first. `secret` is a new secret, which no other page shows.

    `refused` names the form that is shown again. Raises NotFound.
    """
    db, who = request.app[DB], principal_of(request)
    hook = await hooks.get(db, who, webhook)
    _, before = paging.page_of(request, "deliveries", start=paging.NEWEST)
    found = await log.deliveries(db, who, webhook, before, SHOWN_DELIVERIES + 1)
    listed = paging.page("deliveries", found, SHOWN_DELIVERIES, key="number")
    path = f"{PATH}/{webhook}"
    return render(
        request,
        "webhooks/one.html",
        title="Webhook",
        status=status,
        hook=hook,
        secret=secret,
        hook_path=path,
        deliveries=listed["deliveries"],
        newest=path if "cursor" in request.query else "",
        older=f"{path}?cursor={listed['next_cursor']}" if listed["next_cursor"] else "",
        refused=refused,
        form=form or Form(),
        blank=Form(),
        **_common(request),
    )


def new_webhook(request: web.Request, form: Form) -> dict[str, Any]:
    """The body of the API's request for a new webhook."""
    scopes = {"owner": {"owner": "me"}, "all": "all", "package": {"package": form["package"].strip()}}
    if form["scope"] == "package":
        if not form["package"].strip():
            raise InvalidInput.field("package", "is required for the scope of one package")
        scopes["package"] = {"package": visible_name(request, form["package"].strip())}
    return {
        "url": form["url"].strip(),
        "scope": scopes.get(form["scope"], form["scope"]),
        "events": form.list("events"),
        "description": form["description"].strip(),
    }


def _common(request: web.Request) -> dict[str, Any]:
    return {
        "version_events": [(each, _label(each)) for each in VERSION_EVENTS],
        "package_events": [(each, _label(each)) for each in PACKAGE_EVENTS],
        "done": DONE.get(request.query.get("done", ""), ""),
    }


def _label(event: str) -> str:
    family, _, kind = event.partition(".")
    return f"every change of a {family}" if kind == "*" else f"{kind.replace('_', ' ')}"
