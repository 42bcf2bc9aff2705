"""The user's webhooks: making, trying, changing and removing them, and what was sent to them."""

from collections.abc import Awaitable, Callable
from functools import wraps

from aiohttp import web

from registry.accounts.identity import Principal
from registry.accounts.requests import id_of, principal_of
from registry.errors import Conflict, FieldError, Forbidden, InvalidInput, NotFound
from registry.keys import DB
from registry.packages.read import NoPackage
from registry.pages.forms import Form, read_form
from registry.pages.frame import page, see_other
from registry.pages.webhooks.view import PATH, new_webhook, show_list, show_one, show_webhook
from registry.web.parsing import check
from registry.web.route import READS, SIGNED_IN, Handler, Route
from registry.webhooks import hooks
from registry.webhooks.bodies import MAX_SEQ, WEBHOOKS, NewWebhook, WebhookChange
from registry.webhooks.deliveries import log
from registry.webhooks.keys import CHANGES, GUARD, SEALER

Act = Callable[[web.Request, Principal, int, Form], Awaitable[str]]
"""Does what a form asks for: (request, user, webhook, form). Returns a key of view.DONE."""


async def account_webhooks(request: web.Request) -> web.StreamResponse:
    """The list, and the form for a new webhook."""
    return await show_list(request)


async def account_webhook(request: web.Request) -> web.StreamResponse:
    """One webhook and its deliveries."""
    return await show_one(request)


async def add_webhook_form(request: web.Request) -> web.StreamResponse:
    """Makes a webhook. The answer is its page with the secret, which is never shown again."""
    form, who, app = await read_form(request), principal_of(request), request.app
    try:
        body = check(NewWebhook, new_webhook(request, form))
        scope, package = body.scope
        wanted = hooks.Wanted(body.url, scope, package, body.events, body.description)
        made = await hooks.create(app[DB], app[SEALER], app[GUARD], who, wanted)
    except NoPackage as missing:
        errors: list[FieldError] = [{"field": "package", "message": "is not a package of this registry"}]
        return await show_list(request, form.refused(NotFound(missing.detail, errors=errors)), missing.status)
    except (InvalidInput, Conflict, Forbidden) as error:
        return await show_list(request, form.refused(error, scope="package"), error.status)
    return await show_webhook(request, made["id"], made["secret"])


async def rotate_webhook_form(request: web.Request) -> web.StreamResponse:
    """Makes a new secret. The answer shows it once."""
    await read_form(request)
    webhook = id_of(request, hooks.NO_WEBHOOK)
    rotated = await hooks.rotate(request.app[DB], request.app[SEALER], principal_of(request), webhook)
    return await show_one(request, rotated["secret"])


async def remove_webhook_form(request: web.Request) -> web.StreamResponse:
    """Ends a webhook."""
    await read_form(request)
    await hooks.delete(request.app[DB], principal_of(request), id_of(request, hooks.NO_WEBHOOK))
    return see_other(PATH, "removed")


def _act(shown_as: str) -> Callable[[Act], Handler]:
    """A decorator that reads the form, and shows it again as the form `shown_as` of the page if it is refused."""

    def decorate(act: Act) -> Handler:
        @wraps(act)
        async def handle(request: web.Request) -> web.StreamResponse:
            form, webhook = await read_form(request), id_of(request, hooks.NO_WEBHOOK)
            try:
                done = await act(request, principal_of(request), webhook, form)
            except (InvalidInput, Conflict, Forbidden, NotFound) as error:
                return await show_one(request, refused=shown_as, form=form.refused(error), status=error.status)
            return see_other(f"{PATH}/{webhook}", done)

        return handle

    return decorate


@_act("change")
async def change_webhook_form(request: web.Request, who: Principal, webhook: int, form: Form) -> str:
    """Changes the address, the events and the description."""
    given = {
        "url": form["url"].strip(), "events": form.list("events"), "description": form["description"].strip(),
    }  # fmt: skip
    body = check(WebhookChange, given)
    await hooks.change(
        request.app[DB], request.app[GUARD], who, webhook, hooks.Change(body.url, body.events, body.description, None)
    )
    return "changed"


@_act("enable")
async def enable_webhook_form(request: web.Request, who: Principal, webhook: int, form: Form) -> str:
    """Enables or disables the webhook."""
    wanted = form["enabled"] == "true"
    await hooks.change(request.app[DB], request.app[GUARD], who, webhook, hooks.Change(None, None, None, wanted))
    return "enabled" if wanted else "disabled"


@_act("ping")
async def ping_webhook_form(request: web.Request, who: Principal, webhook: int, form: Form) -> str:  # noqa: ARG001
    """Sends a ping."""
    await log.ping(request.app[DB], who, webhook)
    return "ping"


@_act("redeliver")
async def redeliver_form(request: web.Request, who: Principal, webhook: int, form: Form) -> str:
    """Sends one delivery again, or the changes of a range as new deliveries."""
    if "delivery" in form:
        await log.redeliver(request.app[DB], who, webhook, form["delivery"])
    else:
        low, high = _seq(form, "from_seq"), _seq(form, "to_seq")
        await log.redeliver_range(request.app[DB], request.app[CHANGES], who, webhook, low, high)
    return "queued"


def _seq(form: Form, name: str) -> int:
    text = form[name].strip()
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_SEQ)) and int(text) <= MAX_SEQ):
        raise InvalidInput.field(name, "must be the number of a change")
    return int(text)


def _form(path: str, handler: Handler, summary: str) -> Route:
    return page("POST", f"{PATH}{path}", handler, summary, SIGNED_IN, WEBHOOKS)


ROUTES = (
    page("GET", PATH, account_webhooks, "Your webhooks", SIGNED_IN, READS),
    _form("", add_webhook_form, "Make a webhook"),
    page("GET", f"{PATH}/{{id}}", account_webhook, "One of your webhooks", SIGNED_IN, READS),
    _form("/{id}", change_webhook_form, "Change a webhook"),
    _form("/{id}/rotate", rotate_webhook_form, "Make a new secret"),
    _form("/{id}/remove", remove_webhook_form, "Remove a webhook"),
    _form("/{id}/enable", enable_webhook_form, "Enable or disable a webhook"),
    _form("/{id}/ping", ping_webhook_form, "Send a ping"),
    _form("/{id}/redeliver", redeliver_form, "Send deliveries again"),
)
