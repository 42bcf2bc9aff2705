"""The user's own audit log."""

from functools import partial

from aiohttp import web

from registry.accounts.requests import principal_of
from registry.audit.read import user_audit
from registry.keys import DB
from registry.pages.audit.view import answer
from registry.pages.frame import page
from registry.web.route import READS, SIGNED_IN


async def account_audit(request: web.Request) -> web.StreamResponse:
    """What the user did, and what happened to the account."""
    read = partial(user_audit, request.app[DB], principal_of(request))
    return await answer(request, "audit/account.html", read, title="Audit log")


ROUTES = (page("GET", "/account/audit", account_audit, "Your audit log", SIGNED_IN, READS),)
