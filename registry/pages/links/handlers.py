"""The pages that links in mails lead to: they verify an address and set a forgotten password.

A link alone changes nothing, because mail scanners follow links. Only the button of the page does.
"""

import asyncio

from aiohttp import web

from registry.accounts.requests import origin_of
from registry.errors import InvalidInput, InvalidLink, NotFound, RegistryError
from registry.keys import DB, SETTINGS
from registry.mail import addresses, reset
from registry.mail.bodies import MAIL, ResetConfirmation, ResetRequest
from registry.mail.configuration import configuration
from registry.pages.forms import Form, read_form
from registry.pages.frame import page, render
from registry.web.parsing import check
from registry.web.route import OPTIONAL, READS, query

VERIFY, RESET = "/account/verify", "/account/reset"


async def show_verify(request: web.Request) -> web.StreamResponse:
    _require_mail(request)
    return _page(request, "verify", Form(), token=request.query.get("token", ""))


async def verify(request: web.Request) -> web.StreamResponse:
    _require_mail(request)
    form = await read_form(request, from_mail=True)
    try:
        await addresses.verify(request.app[DB], form["token"], origin_of(request))
    except InvalidLink as error:
        # The link is of no use any more, so the page has no button.
        return _page(request, "unusable", Form().refused(error), error=error)
    return _page(request, "verified", Form())


async def show_reset(request: web.Request) -> web.StreamResponse:
    _require_mail(request)
    token = request.query.get("token", "")
    return _page(request, "password" if token else "address", Form(), token=token)


async def set_password(request: web.Request) -> web.StreamResponse:
    """With a token sets the password, without one sends a link to the address."""
    _require_mail(request)
    form = await read_form(request, from_mail=True)
    if "token" not in form:
        return await _send_link(request, form)
    token = form["token"]
    try:
        given = {"token": token, "password": form["password"]}
        body = await asyncio.to_thread(check, ResetConfirmation, given)
        settings = request.app[SETTINGS].accounts
        await reset.confirm(request.app[DB], settings, body.token, body.password, origin_of(request))
    except InvalidLink as error:
        return _page(request, "unusable", Form().refused(error), error=error, is_reset=True)
    except InvalidInput as error:
        return _page(request, "password", form.refused(error), error=error, token=token)
    return _page(request, "set", Form())


async def _send_link(request: web.Request, form: Form) -> web.StreamResponse:
    try:
        body = check(ResetRequest, {"email": form["email"].strip()})
    except InvalidInput as error:
        return _page(request, "address", form.refused(error), error=error)
    await reset.request(request.app[DB], body.email)
    return _page(request, "sent", Form())


_TITLES = {
    "verify": "Verify your e-mail address",
    "verified": "Your address is verified",
    "password": "Set a new password",
    "set": "Your password is set",
    "address": "Reset your password",
    "sent": "Look into your mailbox",
    "unusable": "This link does not work any more",
}


def _page(
    request: web.Request,
    kind: str,
    form: Form,
    *,
    token: str = "",
    error: RegistryError | None = None,
    is_reset: bool = False,
) -> web.StreamResponse:
    return render(
        request, "links/link.html", title=_TITLES[kind], status=error.status if error else 200, keep=False,
        kind=kind, form=form, token=token, is_reset=is_reset,
    )  # fmt: skip


def _require_mail(request: web.Request) -> None:
    if configuration(request.app[SETTINGS]) is None:
        raise NotFound("This registry sends no mail, so it has no such page.")


_TOKEN = (query("token", {"type": "string"}, "The token of the link"),)
ROUTES = (
    page("GET", VERIFY, show_verify, "A page with a button that verifies an address", OPTIONAL, READS, _TOKEN,
         needs_factor=False),
    page("POST", VERIFY, verify, "Verify an address by the form of the page", OPTIONAL, MAIL, needs_factor=False),
    page("GET", RESET, show_reset, "A page that sets a password, or asks for an address", OPTIONAL, READS, _TOKEN,
         needs_factor=False),
    page("POST", RESET, set_password, "Set a password by the form of the page", OPTIONAL, MAIL, needs_factor=False),
)  # fmt: skip
