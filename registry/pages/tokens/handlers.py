"""The account's page of API tokens."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from registry.accounts import api_tokens, bodies
from registry.accounts.identity import ApiToken, Principal
from registry.accounts.requests import id_of, principal_of
from registry.errors import RegistryError
from registry.keys import DB
from registry.pages.forms import Form, read_form, require_fresh
from registry.pages.frame import page, render, see_other
from registry.web.parsing import check
from registry.web.route import DEFAULT, READS, SIGNED_IN, query

TOKENS = "/account/tokens"

EXPIRIES = (("7", "in 7 days"), ("30", "in 30 days"), ("90", "in 90 days"), ("365", "in a year"), ("", "never"))
ORDER = ("read", "publish", "yank", "manage", "admin")
DONE = {"revoked": "The token is revoked. It is not valid any more."}


async def show_tokens(request: web.Request) -> web.StreamResponse:
    return await _tokens_page(request, Form(), done=DONE.get(request.query.get("done", "")))


async def create_token(request: web.Request) -> web.StreamResponse:
    """Creates a token. The answer is the only page that shows its text."""
    form = await read_form(request)
    try:
        body = await asyncio.to_thread(check, bodies.TokenRequest, _given(form))
        await require_fresh(request, form)
        made, text = await api_tokens.create_api_token(
            request.app[DB], principal_of(request), body.name, body.scopes, body.packages, body.expires_in_days
        )
    except RegistryError as error:
        if error.status in (400, 409):
            return await _tokens_page(request, form.refused(error, expires_in_days="expires"), error)
        raise
    return await _tokens_page(request, Form(), made=made, text=text)


async def revoke_token(request: web.Request) -> web.StreamResponse:
    await read_form(request)
    token = id_of(request, "You have no API token with this id.")
    await api_tokens.delete_api_token(request.app[DB], principal_of(request), token)
    return see_other(TOKENS, "revoked")


def _given(form: Form) -> dict[str, Any]:
    """The form as the body of the API's route."""
    packages = [name for name in re.split(r"[\s,]+", form["packages"]) if name]
    days = form["expires"]
    return {
        "name": form["name"].strip(),
        "scopes": form.list("scopes"),
        "packages": packages or None,
        "expires_in_days": int(days) if days.isascii() and days.isdigit() and len(days) < 9 else days or None,
    }


async def _tokens_page(
    request: web.Request,
    form: Form,
    error: RegistryError | None = None,
    *,
    made: ApiToken | None = None,
    text: str = "",
    done: str | None = None,
) -> web.StreamResponse:
    who = principal_of(request)
    listed = await api_tokens.list_api_tokens(request.app[DB], who)
    return render(
        request,
        "tokens/tokens.html",
        title="API tokens",
        status=error.status if error else 200,
        form=form,
        was_sent=error is not None,
        now=datetime.now(UTC),
        tokens=list(reversed(listed)),
        scopes=_scopes(who),
        expiries=EXPIRIES,
        made=made,
        text=text,
        done=done,
    )


def _scopes(who: Principal) -> list[tuple[str, str]]:
    """The scopes that the user may give, as options of the form."""
    return [(each, each) for each in ORDER if each != "admin" or who.role == "admin"]


_DONE = (query("done", {"type": "string"}, "What has just been done"),)
ROUTES = (
    page("GET", TOKENS, show_tokens, "Your API tokens", SIGNED_IN, READS, _DONE),
    page("POST", TOKENS, create_token, "Create an API token", SIGNED_IN, DEFAULT, publishes=True),
    page("POST", f"{TOKENS}/{{id}}/revoke", revoke_token, "Revoke an API token", SIGNED_IN, DEFAULT),
)  # fmt: skip
