"""The account's profile, password and sessions, and its end."""

import asyncio
from typing import Any
from urllib.parse import quote

import ua_parser
from aiohttp import web

from registry.accounts import bodies as account_bodies
from registry.accounts import login
from registry.accounts.requests import id_of, principal_of
from registry.accounts.sessions import manage as sessions
from registry.errors import InvalidInput, RegistryError
from registry.factors import account
from registry.factors.proof import Proof
from registry.keys import DB, SETTINGS
from registry.mail import addresses
from registry.mail.bodies import MAIL, EmailChange
from registry.mail.configuration import configuration, require
from registry.pages import cookies
from registry.pages.forms import Form, read_form, require_fresh
from registry.pages.frame import LOGIN, page, render, see_other
from registry.pages.returning import returning
from registry.web import paging
from registry.web.context import CONTEXT
from registry.web.parsing import check
from registry.web.route import DEFAULT, READS, SIGNED_IN, query

ACCOUNT, EMAIL, RESEND = "/account", "/account/email", "/account/email/resend"
PASSWORD, SESSIONS, DELETE = "/account/password", "/account/sessions", "/account/delete"

DONE = {
    "registered": "Welcome. Your account is ready.",
    "email": "Your address is changed. Open the link in the mail to verify it.",
    "sent": "The mail is on its way. Open its link to verify your address.",
    "password": "Your password is changed. All other sessions and your API tokens have ended.",
    "breached": "Your password is known from a breach of another site: anybody may try it. Choose another one.",
    "ended": "The session has ended.",
}


async def show_profile(request: web.Request) -> web.StreamResponse:
    return await _profile(request, Form())


async def change_email(request: web.Request) -> web.StreamResponse:
    settings, db, who = request.app[SETTINGS], request.app[DB], principal_of(request)
    form = await read_form(request)
    require(settings)
    try:
        body = await asyncio.to_thread(check, EmailChange, {"email": form["email"].strip()})
        await require_fresh(request, form)
        await addresses.change(db, who, body.email)
    except RegistryError as error:
        if error.status in (400, 409):
            return await _profile(request, form.refused(error), error)
        raise
    return see_other(ACCOUNT, "email")


async def resend_verification(request: web.Request) -> web.StreamResponse:
    await read_form(request)
    require(request.app[SETTINGS])
    await addresses.resend(request.app[DB], principal_of(request))
    return see_other(ACCOUNT, "sent")


async def delete_account(request: web.Request) -> web.StreamResponse:
    """The user types the name of the account, so that nobody deletes it by accident."""
    form = await read_form(request)
    name = principal_of(request).username
    try:
        if form["name"].strip().lower() != name.lower():
            raise InvalidInput.field("name", f"must be {name}, to confirm that you mean this account")
        await require_fresh(request, form)
        who = principal_of(request)
        await account.end(request.app[DB], request.app[SETTINGS].accounts, who, Proof(), request[CONTEXT].client)
    except RegistryError as error:
        if error.status in (400, 409):
            return await _profile(request, form.refused(error), error)
        raise
    return cookies.end_session(request, see_other(LOGIN, "deleted"))


async def show_password(request: web.Request) -> web.StreamResponse:
    return _password_page(request, Form())


async def change_password(request: web.Request) -> web.StreamResponse:
    form = await read_form(request)
    try:
        given = {"current_password": form["current_password"], "new_password": form["new_password"]}
        body = await asyncio.to_thread(check, account_bodies.PasswordChange, given)
        found = await login.change_password(
            request.app[DB],
            request.app[SETTINGS].accounts,
            principal_of(request),
            body.current_password,
            body.new_password,
            request[CONTEXT].client,
        )
    except RegistryError as error:
        return _password_page(request, form.refused(error), error)
    return cookies.start_session(request, see_other(PASSWORD, "password"), found[1])


async def show_sessions(request: web.Request) -> web.StreamResponse:
    settings = request.app[SETTINGS].accounts
    limit, before = paging.page_of(request, "sessions", start=paging.NEWEST)
    found = await sessions.list_sessions(request.app[DB], settings, principal_of(request), before, limit + 1)
    listed = paging.page("sessions", found, limit)
    shown = listed["sessions"]
    devices = await asyncio.to_thread(lambda: [_device(each["user_agent"]) for each in shown])
    return render(
        request,
        "account/sessions.html",
        title="Sessions",
        sessions=list(zip(shown, devices, strict=True)),
        older=f"{SESSIONS}?cursor={quote(listed['next_cursor'])}" if listed["next_cursor"] else "",
        done=_done(request),
        limits=settings,
    )


async def end_session(request: web.Request) -> web.StreamResponse:
    """Ends a session. Ending the one of this browser signs the user out."""
    await read_form(request)
    who, session = principal_of(request), id_of(request, "You have no session with this id.")
    if await sessions.end(request.app[DB], who, session):
        return cookies.end_session(request, see_other(LOGIN, "signed-out"))
    return see_other(SESSIONS, "ended")


async def _profile(request: web.Request, form: Form, error: RegistryError | None = None) -> web.StreamResponse:
    settings = request.app[SETTINGS]
    user, factors = await account.read(request.app[DB], principal_of(request))
    return render(
        request,
        "account/profile.html",
        title="Profile",
        status=error.status if error else 200,
        form=form,
        account=user,
        factors=factors,
        sends_mail=configuration(settings) is not None,
        packages=error.members.get("packages", []) if error else [],
        done=_done(request),
    )


def _password_page(request: web.Request, form: Form, error: RegistryError | None = None) -> web.StreamResponse:
    refused: dict[str, Any] = {"status": error.status, "headers": error.headers} if error else {}
    breached = request.query.get("done") == "breached"
    return render(
        request, "account/password.html", title="Password", **refused, form=form, done=_done(request),
        breached=breached, sends_mail=configuration(request.app[SETTINGS]) is not None,
    )  # fmt: skip


def _done(request: web.Request) -> str | None:
    return DONE.get(request.query.get("done", ""))


def _device(user_agent: str) -> str:
    """The browser and the system, or the name of the program."""
    result = ua_parser.parse(user_agent)
    browser = result.user_agent.family if result.user_agent else ""
    system = result.os.family if result.os else ""
    if not browser or browser == "Other":
        return user_agent.partition("/")[0][:60]
    return f"{browser} on {system}" if system else browser


_TEXT = {"type": "string"}
_DONE = query("done", _TEXT, "What has just been done")
ROUTES = (
    *returning((EMAIL, RESEND, DELETE), ACCOUNT),
    page("GET", ACCOUNT, show_profile, "Your profile", SIGNED_IN, READS, (_DONE,)),
    page("POST", EMAIL, change_email, "Change your address", SIGNED_IN, MAIL),
    page("POST", RESEND, resend_verification, "Send the mail that verifies your address", SIGNED_IN, MAIL),
    page("POST", DELETE, delete_account, "Delete your account", SIGNED_IN, DEFAULT),
    page("GET", PASSWORD, show_password, "The page to change your password", SIGNED_IN, READS, (_DONE,)),
    page("POST", PASSWORD, change_password, "Change your password", SIGNED_IN, account_bodies.LOGIN),
    page("GET", SESSIONS, show_sessions, "Your sessions", SIGNED_IN, READS,
         (_DONE, *paging.PARAMETERS)),
    page("POST", f"{SESSIONS}/{{id}}/end", end_session, "End a session", SIGNED_IN, DEFAULT),
)  # fmt: skip
