"""The two pages that links in mails lead to: they verify an address and set a forgotten password.

A link alone changes nothing, because mail scanners follow links. Only the button of the page does.
"""

import asyncio
import base64
import hashlib
import importlib.resources
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from aiohttp import hdrs, web

from registry.accounts.requests import origin_of
from registry.errors import Forbidden, InvalidInput, InvalidLink, NotFound, RegistryError, UnsupportedMediaType
from registry.keys import DB, SETTINGS
from registry.mail import addresses, reset
from registry.mail.bodies import MAIL, ResetConfirmation, ResetRequest
from registry.mail.configuration import configuration
from registry.mail.message import templates
from registry.settings import Settings
from registry.web.parsing import check, read_raw
from registry.web.route import OPEN, READS, Route, query

VERIFY, RESET = "/account/verify", "/account/reset"
FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 10
# The style sheet is part of the page. Browsers apply it because the policy has its hash.
STYLE = importlib.resources.files("registry.mail").joinpath("templates/page.css").read_text("utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    hdrs.CACHE_CONTROL: "no-store",
    # The address of the page has a secret, so no other site may see it. With `no-referrer`, browsers would send
    # `Origin: null` with the form.
    "Referrer-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Form:
    """A form with a button, and at most one field, whose name is also its type."""

    action: str
    button: str
    token: str = ""
    field: str = ""
    label: str = ""
    value: str = ""
    autocomplete: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows: its heading, a text, and either a form or a link with its label."""

    title: str
    text: str = ""
    form: Form | None = None
    link: str = ""
    label: str = ""


async def show_verify(request: web.Request) -> web.StreamResponse:
    _require_mail(request)
    return _render(request, _verify_page(request.query.get("token", "")))


async def verify(request: web.Request) -> web.StreamResponse:
    _require_mail(request)
    given = await _form(request)
    try:
        await addresses.verify(request.app[DB], given.get("token", ""), origin_of(request))
    except InvalidLink as error:
        # The link is of no use any more, so the page has no button.
        return _render(request, Page(_VERIFY_TITLE), error=error)
    return _render(request, Page("Your address is verified", "You can close this page."))


async def show_reset(request: web.Request) -> web.StreamResponse:
    _require_mail(request)
    token = request.query.get("token", "")
    return _render(request, _password_page(token) if token else _address_page(""))


async def set_password(request: web.Request) -> web.StreamResponse:
    """With a token sets the password, without one sends a link to the address."""
    _require_mail(request)
    given = await _form(request)
    if "token" not in given:
        return await _send_link(request, given)
    try:
        body = await asyncio.to_thread(check, ResetConfirmation, given)
        settings = request.app[SETTINGS].accounts
        await reset.confirm(request.app[DB], settings, body.token, body.password, origin_of(request))
    except InvalidLink as error:
        return _render(request, Page(_PASSWORD_TITLE, link=RESET, label="Ask for another link"), error=error)
    except InvalidInput as error:
        return _render(request, _password_page(given["token"]), error=error)
    text = "Sign in with it. All sessions and API tokens of your account have ended."
    return _render(request, Page("Your password is set", text))


async def _send_link(request: web.Request, given: dict[str, str]) -> web.StreamResponse:
    try:
        body = check(ResetRequest, given)
    except InvalidInput as error:
        return _render(request, _address_page(given.get("email", "")), error=error)
    await reset.request(request.app[DB], body.email)
    text = "If an account has this address, it gets a mail with a link that works for 30 minutes."
    return _render(request, Page("Look into your mailbox", text))


_VERIFY_TITLE, _PASSWORD_TITLE = "Verify your e-mail address", "Set a new password"


def _verify_page(token: str) -> Page:
    return Page(_VERIFY_TITLE, "The button verifies that this address is yours.", Form(VERIFY, "Verify", token))


def _password_page(token: str) -> Page:
    form = Form(RESET, "Set password", token, field="password", label="New password", autocomplete="new-password")
    return Page(_PASSWORD_TITLE, "Setting it ends all sessions and API tokens of your account.", form)


def _address_page(address: str) -> Page:
    form = Form(RESET, "Send reset link", field="email", label="E-mail address", value=address, autocomplete="email")
    return Page("Reset your password", "A link is sent to the address of your account.", form)


def render_error(request: web.Request, error: RegistryError, request_id: str) -> web.Response:
    """An error as a page."""
    page = Page(HTTPStatus(error.status).phrase, f"The id of this request is {request_id}.")
    return _render(request, page, error=error)


def _render(request: web.Request, page: Page, *, error: RegistryError | None = None) -> web.Response:
    settings = request.app[SETTINGS]
    text = (
        templates()
        .get_template("page.html")
        .render(
            style=STYLE,
            title=page.title,
            text=page.text,
            form=page.form,
            link=page.link,
            label=page.label,
            problems=_problems(error) if error else (),
            site=urlsplit(settings.public_url or "").hostname or "Synapse Registry",
        )
    )
    return web.Response(
        text=text,
        status=error.status if error else HTTPStatus.OK,
        content_type="text/html",
        headers={**HEADERS, **(error.headers if error else {})},
    )


def _problems(error: RegistryError) -> list[str]:
    """The texts for a person: `The password is too short`, not the names of members."""
    if not error.errors:
        return [error.detail]
    return [f"The {each['field']} {each['message']}." for each in error.errors]


def _require_mail(request: web.Request) -> None:
    if configuration(request.app[SETTINGS]) is None:
        raise NotFound("This registry sends no mail, so it has no such page.")


async def _form(request: web.Request) -> dict[str, str]:
    """The fields of the form. Raises Forbidden for a form of another site, UnsupportedMediaType, InvalidInput."""
    _check_origin(request)
    if request.content_type != FORM:
        raise UnsupportedMediaType(f"Send the form as {FORM}.")
    raw = await read_raw(request)
    try:
        return dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise InvalidInput(f"The form has more than {MAX_FIELDS} fields.") from None


def _check_origin(request: web.Request) -> None:
    given = request.headers.get(hdrs.ORIGIN)
    if given is None and (referer := request.headers.get(hdrs.REFERER)) is not None:
        parts = urlsplit(referer)
        given = f"{parts.scheme}://{parts.netloc}"
    if given is not None and given not in _own_origins(request.app[SETTINGS]):
        raise Forbidden("This form was sent by another site. Open the link of the mail again.")


def _own_origins(settings: Settings) -> set[str]:
    """The origin of REGISTRY_PUBLIC_URL. Until it is set, the addresses of this machine."""
    if settings.web.public_url:
        return {settings.web.public_url}
    return {f"http://{host}:{settings.web.port}" for host in ("localhost", "127.0.0.1", "[::1]")}


_TOKEN = (query("token", {"type": "string"}, "The token of the link"),)
_HTML = {200: "text/html"}
ROUTES = (
    Route("GET", VERIFY, show_verify, "A page with a button that verifies an address", OPEN, READS, _TOKEN,
          answers=_HTML, documented=False, render_error=render_error),
    Route("POST", VERIFY, verify, "Verify an address by the form of the page", OPEN, MAIL,
          answers=_HTML, documented=False, render_error=render_error),
    Route("GET", RESET, show_reset, "A page that sets a password, or asks for an address", OPEN, READS, _TOKEN,
          answers=_HTML, documented=False, render_error=render_error),
    Route("POST", RESET, set_password, "Set a password by the form of the page", OPEN, MAIL,
          answers=_HTML, documented=False, render_error=render_error),
)  # fmt: skip
