"""The pages that sign users in and out, and register them."""

import asyncio
from typing import Any

from aiohttp import web

from registry.accounts import bodies as account_bodies
from registry.accounts import login as accounts
from registry.accounts import register
from registry.accounts.identity import Principal
from registry.accounts.requests import no_store, origin_of
from registry.accounts.sessions.manage import Browser, Login
from registry.errors import Forbidden, InvalidInput, RegistryError, SecondFactorRequired, WrongCode
from registry.events.audit import Actor
from registry.factors import bodies, login, passkeys
from registry.keys import DB, SETTINGS
from registry.mail.configuration import configuration
from registry.pages import cookies, csrf
from registry.pages.forms import Form, read_form
from registry.pages.frame import LOGIN, local_path, page, render, see_other
from registry.pages.passkeys import credential_in
from registry.pages.returning import returning
from registry.web.context import CONTEXT
from registry.web.parsing import check
from registry.web.route import OPTIONAL, READS, query

ACCOUNT = "/account"
PASSKEY, PASSKEY_OPTIONS = f"{LOGIN}/passkey", f"{LOGIN}/passkey/options"
REGISTER, LOGOUT = "/register", "/logout"

DONE = {
    "signed-out": "You are signed out.",
    "deleted": "Your account is deleted. Published versions stay.",
}


async def show_login(request: web.Request) -> web.StreamResponse:
    return _login_page(request, Form(), next_=local_path(request.query.get("next", ""), ""))


async def sign_in(request: web.Request) -> web.StreamResponse:
    """The first step has a name and a password, the second the challenge of the first and a code."""
    form = await read_form(request)
    if "challenge" in form:
        return await _answer_challenge(request, form)
    settings = request.app[SETTINGS]
    try:
        body = await asyncio.to_thread(
            check, account_bodies.Credentials, {"username": form["username"].strip(), "password": form["password"]}
        )
        found = await accounts.login(
            request.app[DB],
            settings.accounts,
            body.username,
            body.password,
            request[CONTEXT].client,
            origin_of(request),
            login.second_step(settings.accounts, passkeys.site_or_none(settings.public_url)),
            browser=_browser(request),
        )
    except SecondFactorRequired as needed:
        return _factor_page(request, Form(), needed.members, _next(form))
    except RegistryError as error:
        return _login_page(request, form.refused(error), _next(form), error)
    if await accounts.warn_of_breach(settings.accounts, found[0], body.password):
        return cookies.start_session(request, see_other("/account/password", "breached"), found[1])
    return _signed_in(request, found, form)


async def _answer_challenge(request: web.Request, form: Form) -> web.StreamResponse:
    try:
        body = check(bodies.SecondFactor, {"challenge": form["challenge"], "code": form["code"].strip()})
        found = await login.answer_with_code(
            request.app[DB],
            request.app[SETTINGS].accounts,
            body.challenge,
            body.code or "",
            request[CONTEXT].client,
            origin_of(request),
            browser=_browser(request),
        )
    except (WrongCode, InvalidInput) as error:
        return _factor_page(request, form.refused(error), _members(form), _next(form), error)
    except RegistryError as error:
        return _login_page(request, Form().refused(error), _next(form), error)
    return _signed_in(request, found, form)


async def passkey_options(request: web.Request) -> web.StreamResponse:
    """The options of WebAuthn as JSON, for the page's script."""
    form = await read_form(request)
    settings = request.app[SETTINGS]
    site = passkeys.site_of(settings.public_url)
    return no_store(await login.options(request.app[DB], settings.accounts, form["challenge"] or None, site))


async def sign_in_with_passkey(request: web.Request) -> web.StreamResponse:
    """With a challenge, the passkey is the second factor after a password. Without one it is enough alone."""
    form = await read_form(request)
    settings, client, origin = request.app[SETTINGS], request[CONTEXT].client, origin_of(request)
    db, challenge, browser = request.app[DB], form["challenge"], _browser(request)
    try:
        credential = credential_in(form)
        site = passkeys.site_of(settings.public_url)
        if challenge:
            found = await login.answer_with_passkey(
                db, settings.accounts, challenge, credential, client, origin, site, browser
            )
        else:
            found = await login.log_in_with_passkey(db, settings.accounts, credential, client, origin, site, browser)
    except RegistryError as error:
        if challenge and error.detail != login.OVER:
            return _factor_page(request, Form().refused(error), _members(form), _next(form), error)
        return _login_page(request, Form().refused(error), _next(form), error)
    return _signed_in(request, found, form)


async def sign_out(request: web.Request) -> web.StreamResponse:
    """Ends the session. Where it has ended already, only the cookie is removed."""
    csrf.check_origin(request)
    principal = request[CONTEXT].principal
    if isinstance(principal, Principal):
        await read_form(request)
        await accounts.logout(request.app[DB], principal)
    return cookies.end_session(request, see_other(LOGIN, "signed-out"))


async def show_registration(request: web.Request) -> web.StreamResponse:
    _require_open(request)
    return _registration_page(request, Form(), local_path(request.query.get("next", ""), ""))


async def register_user(request: web.Request) -> web.StreamResponse:
    """Creates a user and signs the user in."""
    _require_open(request)
    form = await read_form(request)
    settings, db = request.app[SETTINGS].accounts, request.app[DB]
    given = {"username": form["username"].strip(), "password": form["password"], "email": form["email"].strip() or None}
    try:
        body = await asyncio.to_thread(check, account_bodies.Registration, given)
        actor = Actor(origin=origin_of(request))
        await register.register(db, settings, body.username, body.password, body.email, actor=actor)
        found = await accounts.login(
            db,
            settings,
            body.username,
            body.password,
            request[CONTEXT].client,
            origin_of(request),
            browser=_browser(request),
        )
    except RegistryError as error:
        return _registration_page(request, form.refused(error), _next(form), error)
    return _signed_in(request, found, form, default=f"{ACCOUNT}?done=registered")


def _require_open(request: web.Request) -> None:
    if request.app[SETTINGS].accounts.registration != "open":
        raise Forbidden("Registration is closed. An admin of this registry can create an account for you.")


def _browser(request: web.Request) -> Browser:
    """The session that the browser has ends when the user signs in again."""
    principal = request[CONTEXT].principal
    return Browser(principal if isinstance(principal, Principal) else None)


def _next(form: Form) -> str:
    return local_path(form["next"], "")


def _members(form: Form) -> dict[str, Any]:
    """What the page of the second factor needs, from the form of that page itself."""
    methods = [each for each in form["methods"].split(" ") if each in ("totp", "recovery_code", "passkey")]
    return {"challenge": form["challenge"], "methods": methods}


def _signed_in(request: web.Request, found: Login, form: Form, default: str = ACCOUNT) -> web.Response:
    return cookies.start_session(request, see_other(_next(form) or default), found[1])


def _login_page(
    request: web.Request, form: Form, next_: str = "", error: RegistryError | None = None
) -> web.StreamResponse:
    settings = request.app[SETTINGS]
    return render(
        request,
        "sign_in/login.html",
        title="Sign in",
        **_refusal(error),
        form=form,
        next=next_,
        done=DONE.get(request.query.get("done", "")),
        has_passkeys=passkeys.site_or_none(settings.public_url) is not None,
        sends_mail=configuration(settings) is not None,
    )


def _factor_page(
    request: web.Request, form: Form, members: dict[str, Any], next_: str, error: RegistryError | None = None
) -> web.StreamResponse:
    return render(
        request,
        "sign_in/factor.html",
        title="Second factor",
        **_refusal(error),
        form=form,
        next=next_,
        challenge=members["challenge"],
        methods=members["methods"],
    )


def _registration_page(
    request: web.Request, form: Form, next_: str, error: RegistryError | None = None
) -> web.StreamResponse:
    sends_mail = configuration(request.app[SETTINGS]) is not None
    return render(
        request, "sign_in/register.html", title="Register", **_refusal(error), form=form, next=next_,
        sends_mail=sends_mail,
    )  # fmt: skip


def _refusal(error: RegistryError | None) -> dict[str, Any]:
    """Status and headers of the answer to a refused form."""
    if error is None:
        return {}
    return {"status": error.status, "headers": error.headers}


_TEXT = {"type": "string"}
_NEXT = (query("next", _TEXT, "The page to return to"), query("done", _TEXT, "What has just been done"))
ROUTES = (
    *returning((PASSKEY,), LOGIN),
    page("GET", LOGIN, show_login, "The page to sign in", OPTIONAL, READS, _NEXT),
    page("POST", LOGIN, sign_in, "Sign in by the form", OPTIONAL, account_bodies.LOGIN, needs_factor=False,
         works_read_only=True, counts_address=True),
    page("POST", PASSKEY_OPTIONS, passkey_options, "A challenge for a passkey", OPTIONAL, READS, needs_factor=False,
         works_read_only=True),
    page("POST", PASSKEY, sign_in_with_passkey, "Sign in with a passkey", OPTIONAL, account_bodies.LOGIN,
         needs_factor=False, works_read_only=True, counts_address=True),
    page("POST", LOGOUT, sign_out, "Sign out", OPTIONAL, needs_factor=False, works_read_only=True),
    page("GET", REGISTER, show_registration, "The page to register", OPTIONAL, READS, _NEXT),
    page("POST", REGISTER, register_user, "Register by the form", OPTIONAL, account_bodies.REGISTER,
         needs_factor=False),
)  # fmt: skip
