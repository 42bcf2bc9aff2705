"""HTTP handlers of logins, second factors, and the signed-in user's account."""

import asyncio
from typing import Any

from aiohttp import web

from registry.accounts import bodies as account_bodies
from registry.accounts import login as accounts
from registry.accounts.requests import id_of, no_store, origin_of, principal_of
from registry.accounts.sessions import manage as sessions
from registry.accounts.sessions.manage import Login
from registry.errors import (
    ConfirmationRequired,
    Conflict,
    InvalidInput,
    LastOwner,
    PasskeysNotConfigured,
    SecondFactorRequired,
    TooManyFailures,
    WrongCode,
)
from registry.factors import account, bodies, login, passkeys, totp
from registry.factors.passkeys import Site
from registry.keys import DB, SETTINGS
from registry.web import paging
from registry.web.context import CONTEXT
from registry.web.parsing import check, parse_object, read_body, read_json, require_json
from registry.web.route import OPEN, READS, SIGNED_IN, Route, group


async def log_in(request: web.Request) -> web.StreamResponse:
    """Signs in with a user name or an e-mail address, and a password. If the account has a second factor, the answer
    is 401 `second_factor_required` with a `challenge`. Send the challenge with a `code` or a `passkey` to sign in.
    """
    data = await read_json(request)
    if "challenge" in data:
        return await _second_step(request, check(bodies.SecondFactor, data))
    # Checking a password may normalize a long text.
    body = await asyncio.to_thread(check, account_bodies.Credentials, data)
    db, settings = request.app[DB], request.app[SETTINGS].accounts

    second_step = login.second_step(settings, passkeys.site_or_none(request.app[SETTINGS].public_url))
    found = await accounts.login(
        db, settings, body.username, body.password, request[CONTEXT].client, origin_of(request), second_step
    )
    answer = account_bodies.logged_in(*found)
    if await accounts.warn_of_breach(settings, found[0], body.password):
        answer["password_breached"] = True
    return no_store(answer)


async def _second_step(request: web.Request, body: bodies.SecondFactor) -> web.StreamResponse:
    client, origin = request[CONTEXT].client, origin_of(request)
    db, settings = request.app[DB], request.app[SETTINGS].accounts
    if body.code is not None:
        return _logged_in(await login.answer_with_code(db, settings, body.challenge, body.code, client, origin))
    if body.passkey is not None:
        return _logged_in(
            await login.answer_with_passkey(db, settings, body.challenge, body.passkey, client, origin, _site(request))
        )
    raise InvalidInput.field("code", "is required, unless there is a `passkey`")


async def start_passkey_login(request: web.Request) -> web.StreamResponse:
    """Returns the options that a browser needs to sign in with a passkey, or to answer the `challenge` of a login."""
    body = await _read_optional(request, bodies.Challenge)
    found = await login.options(request.app[DB], request.app[SETTINGS].accounts, body.challenge, _site(request))
    return no_store(found)


async def log_in_with_passkey(request: web.Request) -> web.StreamResponse:
    """Signs in with the answer of a passkey to the options of `start_passkey_login`. No password is needed."""
    credential = await read_json(request)
    return _logged_in(
        await login.log_in_with_passkey(
            request.app[DB],
            request.app[SETTINGS].accounts,
            credential,
            request[CONTEXT].client,
            origin_of(request),
            _site(request),
        )
    )


async def get_me(request: web.Request) -> web.StreamResponse:
    """The signed-in user, and which second factors the account has."""
    return no_store(bodies.me(*await account.read(request.app[DB], principal_of(request))))


async def delete_account(request: web.Request) -> web.StreamResponse:
    """Deletes your account and ends its tokens, sessions, factors, webhooks and invitations. The password or a code
    confirms it. Published versions stay.
    """
    body = await _read_optional(request, bodies.Confirmation)
    await account.end(*_by(request), body.proof, request[CONTEXT].client)
    return web.Response(status=204)


async def set_up_totp(request: web.Request) -> web.StreamResponse:
    """Returns the secret for an authenticator app, and as an address for a QR code. `confirm_totp` completes it."""
    body = await _read_optional(request, bodies.Confirmation)
    public_url = request.app[SETTINGS].public_url
    return no_store(await totp.set_up(*_by(request), body.proof, request[CONTEXT].client, public_url))


async def confirm_totp(request: web.Request) -> web.StreamResponse:
    """Adds the authenticator app. The answer has ten recovery codes, which are shown once."""
    body = await read_body(request, bodies.CodeGiven)
    return no_store({"recovery_codes": await totp.confirm(*_by(request), body.code)})


async def remove_totp(request: web.Request) -> web.StreamResponse:
    """Removes the authenticator app. A code of the app, or a recovery code, confirms it."""
    body = await _read_optional(request, bodies.CodeConfirmation)
    await totp.remove(*_by(request), body.code, request[CONTEXT].client)
    return web.Response(status=204)


async def replace_recovery_codes(request: web.Request) -> web.StreamResponse:
    """Makes ten new recovery codes. The old ones are not valid any more."""
    body = await _read_optional(request, bodies.Confirmation)
    fresh = await totp.make_recovery_codes(*_by(request), body.proof, request[CONTEXT].client)
    return no_store({"recovery_codes": fresh})


async def start_passkey_registration(request: web.Request) -> web.StreamResponse:
    """Returns the options that a browser needs to make a passkey. `add_passkey` completes it."""
    body = await _read_optional(request, bodies.Confirmation)
    site = _site(request)
    return no_store(await passkeys.registration_options(*_by(request), body.proof, request[CONTEXT].client, site))


async def add_passkey(request: web.Request) -> web.StreamResponse:
    """Adds the passkey that a browser has made. The first factor of an account comes with recovery codes."""
    credential = await read_json(request)
    name = check(bodies.PasskeyName, credential).name
    added, fresh = await passkeys.register(*_by(request), credential, name, _site(request))
    return no_store({**added, "recovery_codes": fresh} if fresh else added, status=201)


async def list_passkeys(request: web.Request) -> web.StreamResponse:
    """Your passkeys, page by page."""
    limit, after = paging.page_of(request, "passkeys")
    found = await passkeys.list_passkeys(request.app[DB], principal_of(request), after, limit + 1)
    return no_store(paging.page("passkeys", found, limit))


async def remove_passkey(request: web.Request) -> web.StreamResponse:
    """Removes a passkey. The password or a code confirms it."""
    body = await _read_optional(request, bodies.Confirmation)
    key = id_of(request, "You have no passkey with this id.")
    await passkeys.remove(*_by(request), key, body.proof, request[CONTEXT].client)
    return web.Response(status=204)


async def list_sessions(request: web.Request) -> web.StreamResponse:
    """Your logins, newest first, with the address and the program of each."""
    limit, before = paging.page_of(request, "sessions", start=paging.NEWEST)
    found = await sessions.list_sessions(*_by(request), before, limit + 1)
    return no_store(paging.page("sessions", found, limit))


async def end_session(request: web.Request) -> web.StreamResponse:
    """Ends a login. Its token is not valid any more."""
    session = id_of(request, "You have no session with this id.")
    await sessions.end(request.app[DB], principal_of(request), session)
    return web.Response(status=204)


def _by(request: web.Request) -> tuple[Any, Any, Any]:
    """(the database, the settings of accounts, the principal): the first arguments of most use cases."""
    return request.app[DB], request.app[SETTINGS].accounts, principal_of(request)


def _site(request: web.Request) -> Site:
    return passkeys.site_of(request.app[SETTINGS].public_url)


def _logged_in(found: Login) -> web.Response:
    return no_store(account_bodies.logged_in(*found))


async def _read_optional(request: web.Request, model: Any) -> Any:
    """The JSON body as `model`. An empty body is an empty object."""
    raw = await request.read() if request.can_read_body else b""
    if not raw.strip():
        return model()
    require_json(request)
    return await asyncio.to_thread(check, model, parse_object(raw))


CONFIRMED = {"application/json": bodies.Confirmation}
CONFIRMATION = {"password": "correct horse battery"}
NOT_CONFIRMED = (ConfirmationRequired, TooManyFailures)
WITH_BODY = (408, 413, 415)

AUTH = "/api/v1/auth"
ROUTES = (
    *group(
        "Accounts",
        Route("POST", f"{AUTH}/login", log_in, "Sign in with a password, and with a second factor if there is one",
              OPEN, account_bodies.LOGIN, body={"application/json": bodies.LoginRequest},
              answers={200: account_bodies.LoggedIn},
              errors=(SecondFactorRequired, WrongCode, TooManyFailures, PasskeysNotConfigured),
              example={"username": "ada", "password": "correct horse battery"}, works_read_only=True),
        Route("GET", f"{AUTH}/me", get_me, "The signed-in user", SIGNED_IN, READS, answers={200: bodies.Me},
              needs_factor=False),
        Route("DELETE", f"{AUTH}/me", delete_account, "Delete your account", SIGNED_IN,
              body={**CONFIRMED, "x-required": False}, answers={204: None},
              errors=(LastOwner, *NOT_CONFIRMED, *WITH_BODY), example=CONFIRMATION),
        Route("GET", f"{AUTH}/sessions", list_sessions, "List your logins", SIGNED_IN, READS,
              parameters=paging.PARAMETERS, answers={200: bodies.SessionsPage}),
        Route("DELETE", f"{AUTH}/sessions/{{id}}", end_session, "End a login", SIGNED_IN, answers={204: None}),
    ),
    *group(
        "Second factors",
        Route("POST", f"{AUTH}/passkeys/login/options", start_passkey_login, "Ask for a challenge that a passkey signs",
              OPEN, READS, body={"application/json": bodies.Challenge, "x-required": False},
              answers={200: bodies.REQUEST_OPTIONS}, errors=(401, PasskeysNotConfigured),
              example={"challenge": "c29tZSBjaGFsbGVuZ2U"}, works_read_only=True),
        Route("POST", f"{AUTH}/passkeys/login", log_in_with_passkey, "Sign in with a passkey alone", OPEN,
              account_bodies.LOGIN,
              body={"application/json": bodies.AUTHENTICATION}, answers={200: account_bodies.LoggedIn},
              errors=(401, TooManyFailures, PasskeysNotConfigured), example=bodies.AUTHENTICATION_EXAMPLE,
              works_read_only=True),
        Route("POST", f"{AUTH}/totp", set_up_totp, "Begin to add an authenticator app", SIGNED_IN, body=CONFIRMED,
              answers={200: totp.TotpSetup}, errors=(Conflict, *NOT_CONFIRMED), needs_factor=False,
              example=CONFIRMATION),
        Route("POST", f"{AUTH}/totp/confirm", confirm_totp, "Add the authenticator app by its first code", SIGNED_IN,
              body={"application/json": bodies.CodeGiven}, answers={200: bodies.RecoveryCodes},
              errors=(Conflict, WrongCode, TooManyFailures), needs_factor=False, example={"code": "123456"}),
        Route("DELETE", f"{AUTH}/totp", remove_totp, "Remove the authenticator app", SIGNED_IN,
              body={"application/json": bodies.CodeConfirmation, "x-required": False}, answers={204: None},
              errors=(Conflict, WrongCode, *NOT_CONFIRMED, *WITH_BODY), example={"code": "123456"}),
        Route("POST", f"{AUTH}/recovery-codes", replace_recovery_codes, "Replace your recovery codes", SIGNED_IN,
              body=CONFIRMED, answers={200: bodies.RecoveryCodes}, errors=(Conflict, *NOT_CONFIRMED),
              example=CONFIRMATION),
        Route("POST", f"{AUTH}/passkeys/options", start_passkey_registration, "Begin to add a passkey", SIGNED_IN,
              body=CONFIRMED, answers={200: bodies.CREATION_OPTIONS}, needs_factor=False, example=CONFIRMATION,
              errors=(Conflict, PasskeysNotConfigured, *NOT_CONFIRMED)),
        Route("POST", f"{AUTH}/passkeys", add_passkey, "Add a passkey", SIGNED_IN,
              body={"application/json": bodies.REGISTRATION}, answers={201: bodies.PasskeyAdded},
              errors=(Conflict, PasskeysNotConfigured), needs_factor=False, example=bodies.REGISTRATION_EXAMPLE),
        Route("GET", f"{AUTH}/passkeys", list_passkeys, "List your passkeys", SIGNED_IN, READS,
              parameters=paging.PARAMETERS, answers={200: bodies.PasskeysPage}, needs_factor=False),
        Route("DELETE", f"{AUTH}/passkeys/{{id}}", remove_passkey, "Remove a passkey", SIGNED_IN,
              body={**CONFIRMED, "x-required": False}, answers={204: None},
              errors=(*NOT_CONFIRMED, *WITH_BODY), example=CONFIRMATION),
    ),
)  # fmt: skip
