"""The account's page of second factors: the authenticator app, passkeys and recovery codes."""

import asyncio
from urllib.parse import urlsplit

import segno
from aiohttp import web
from markupsafe import Markup

from registry.accounts.requests import id_of, no_store, principal_of
from registry.errors import ConfirmationRequired, Conflict, InvalidInput, RegistryError, WrongCode
from registry.factors import account, bodies, codes, passkeys, totp
from registry.factors.proof import Proof
from registry.keys import DB, SETTINGS
from registry.pages.forms import PASSWORD, Form, read_form, require_fresh
from registry.pages.frame import FACTORS, page, render, see_other
from registry.pages.passkeys import credential_in
from registry.pages.returning import returning
from registry.web.context import CONTEXT
from registry.web.parsing import check
from registry.web.route import DEFAULT, READS, SIGNED_IN, query

TOTP, TOTP_CONFIRM, TOTP_REMOVE = f"{FACTORS}/totp", f"{FACTORS}/totp/confirm", f"{FACTORS}/totp/remove"
PASSKEYS, PASSKEY_OPTIONS = f"{FACTORS}/passkeys", f"{FACTORS}/passkeys/options"
CODES = f"{FACTORS}/recovery-codes"

DONE = {
    "needed": "This registry requires a second factor. Add an authenticator app or a passkey to go on.",
    "passkey": "The passkey is added. Your next sign-in asks for it.",
    "removed": "It is removed. It is no factor of your account any more.",
    "confirmed": "Thank you. Press Add passkey again.",
}


async def show_factors(request: web.Request) -> web.StreamResponse:
    return await _factors_page(request, Form())


async def set_up_totp(request: web.Request) -> web.StreamResponse:
    """Shows the secret of a new authenticator app. It is a factor once its first code was right."""
    form = await read_form(request)
    await require_fresh(request, form)
    settings = request.app[SETTINGS]
    try:
        setup = await totp.set_up(
            request.app[DB], settings.accounts, principal_of(request), Proof(), request[CONTEXT].client,
            settings.public_url,
        )  # fmt: skip
    except Conflict as error:
        return await _factors_page(request, form.refused(error), error)
    return await _setup_page(request, Form(), setup["secret"])


async def confirm_totp(request: web.Request) -> web.StreamResponse:
    form = await read_form(request)
    settings = request.app[SETTINGS].accounts
    try:
        code = check(bodies.CodeGiven, {"code": form["code"].strip()}).code
        fresh = await totp.confirm(request.app[DB], settings, principal_of(request), code)
    except (WrongCode, InvalidInput) as error:
        return await _setup_page(request, form.refused(error), form["secret"], error)
    except Conflict as error:
        return await _factors_page(request, Form().refused(error), error)
    return _codes_page(request, fresh, "Your authenticator app is set up.")


async def remove_totp(request: web.Request) -> web.StreamResponse:
    """Asks for a code even if the session is fresh, as the API does."""
    form = await read_form(request)
    settings, code = request.app[SETTINGS].accounts, form["code"].strip() or None
    try:
        code = check(bodies.CodeConfirmation, {"code": code}).code
        await totp.remove(request.app[DB], settings, principal_of(request), code, request[CONTEXT].client)
    except (Conflict, WrongCode, ConfirmationRequired, InvalidInput) as error:
        return await _factors_page(request, form.refused(error), error)
    return see_other(FACTORS, "removed")


async def passkey_options(request: web.Request) -> web.StreamResponse:
    """The options of WebAuthn as JSON, for the page's script."""
    form = await read_form(request)
    await require_fresh(request, form)
    settings = request.app[SETTINGS]
    site = passkeys.site_of(settings.public_url)
    found = await passkeys.registration_options(
        request.app[DB], settings.accounts, principal_of(request), Proof(), request[CONTEXT].client, site
    )
    return no_store(found)


async def add_passkey(request: web.Request) -> web.StreamResponse:
    """Adds the passkey that the browser made.

    If the session must be confirmed first, the script sends the form without a passkey, and the user begins again.
    A passkey answers options that only a confirmed session gets.
    """
    form = await read_form(request)
    settings = request.app[SETTINGS]
    if not form["credential"]:
        await require_fresh(request, form)
        if PASSWORD in form:
            return see_other(FACTORS, "confirmed")
    try:
        credential = credential_in(form)
        name = check(bodies.PasskeyName, {"name": form["name"].strip() or bodies.DEFAULT_NAME}).name
        site = passkeys.site_of(settings.public_url)
        _, fresh = await passkeys.register(
            request.app[DB], settings.accounts, principal_of(request), credential, name, site
        )
    except (InvalidInput, Conflict) as error:
        return await _factors_page(request, form.refused(error), error)
    if fresh:
        return _codes_page(request, fresh, "Your passkey is added.")
    return see_other(FACTORS, "passkey")


async def remove_passkey(request: web.Request) -> web.StreamResponse:
    form = await read_form(request)
    await require_fresh(request, form)
    key = id_of(request, "You have no passkey with this id.")
    settings = request.app[SETTINGS].accounts
    await passkeys.remove(request.app[DB], settings, principal_of(request), key, Proof(), request[CONTEXT].client)
    return see_other(FACTORS, "removed")


async def replace_codes(request: web.Request) -> web.StreamResponse:
    form = await read_form(request)
    await require_fresh(request, form)
    settings = request.app[SETTINGS].accounts
    try:
        fresh = await totp.make_recovery_codes(
            request.app[DB], settings, principal_of(request), Proof(), request[CONTEXT].client
        )
    except Conflict as error:
        return await _factors_page(request, form.refused(error), error)
    return _codes_page(request, fresh, "You have new recovery codes. The old ones are not valid any more.")


async def _factors_page(request: web.Request, form: Form, error: RegistryError | None = None) -> web.StreamResponse:
    settings, db, who = request.app[SETTINGS], request.app[DB], principal_of(request)
    _, factors = await account.read(db, who)
    listed = await passkeys.list_passkeys(db, who, 0, passkeys.MAX_PASSKEYS)
    done = request.query.get("done", "")
    return render(
        request,
        "factors/factors.html",
        title="Two-factor sign-in",
        status=error.status if error else 200,
        form=form,
        factors=factors,
        passkeys=listed,
        has_passkeys=passkeys.site_or_none(settings.public_url) is not None,
        done=DONE.get(done),
        is_needed=done == "needed",
        policy=settings.accounts.require_2fa,
    )


async def _setup_page(
    request: web.Request, form: Form, secret: str, error: RegistryError | None = None
) -> web.StreamResponse:
    host = urlsplit(request.app[SETTINGS].public_url or "").hostname or ""
    uri = codes.setup_uri(secret, principal_of(request).username, host)
    return render(
        request,
        "factors/totp.html",
        title="Set up an authenticator app",
        status=error.status if error else 200,
        form=form,
        secret=secret,
        grouped=" ".join(secret[at : at + 4] for at in range(0, len(secret), 4)),
        uri=uri,
        qr=await asyncio.to_thread(_qr, uri),
    )


def _codes_page(request: web.Request, fresh: list[str], text: str) -> web.StreamResponse:
    return render(request, "factors/codes.html", title="Recovery codes", codes=fresh, text=text)


def _qr(uri: str) -> Markup:
    """A QR code as SVG, black on white in every theme: many cameras can't read the opposite."""
    drawn = segno.make(uri, error="m").svg_inline(omitsize=True, svgclass="qr", lineclass=None, light="#fff")
    return Markup(drawn)  # noqa: S704 - the library draws only squares


_DONE = (query("done", {"type": "string"}, "What has just been done"),)
ROUTES = (
    *returning((TOTP, TOTP_CONFIRM, TOTP_REMOVE, PASSKEYS, CODES), FACTORS),
    page("GET", FACTORS, show_factors, "Your second factors", SIGNED_IN, READS, _DONE, needs_factor=False),
    page("POST", TOTP, set_up_totp, "Begin to add an authenticator app", SIGNED_IN, DEFAULT, needs_factor=False),
    page("POST", TOTP_CONFIRM, confirm_totp, "Add the authenticator app", SIGNED_IN, DEFAULT, needs_factor=False),
    page("POST", TOTP_REMOVE, remove_totp, "Remove the authenticator app", SIGNED_IN, DEFAULT),
    page("POST", PASSKEY_OPTIONS, passkey_options, "Begin to add a passkey", SIGNED_IN, DEFAULT, needs_factor=False),
    page("POST", PASSKEYS, add_passkey, "Add a passkey", SIGNED_IN, DEFAULT, needs_factor=False),
    page("POST", f"{PASSKEYS}/{{id}}/remove", remove_passkey, "Remove a passkey", SIGNED_IN, DEFAULT),
    page("POST", CODES, replace_codes, "Replace your recovery codes", SIGNED_IN, DEFAULT),
)  # fmt: skip
