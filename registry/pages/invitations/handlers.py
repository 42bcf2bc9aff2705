"""The invitations that were sent to the user."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from registry.accounts.requests import principal_of
from registry.errors import Conflict, EmailNotVerified, NotFound
from registry.keys import DB
from registry.owners import invite
from registry.owners.bodies import INVITATIONS
from registry.pages.forms import read_form
from registry.pages.frame import page, render, see_other
from registry.web.route import READS, SIGNED_IN

PATH = "/account/invitations"
SHOWN = 100
DONE = {"accepted": "You have the role now.", "declined": "The invitation is declined."}


async def account_invitations(request: web.Request) -> web.StreamResponse:
    """The open invitations."""
    return await _show(request)


async def accept_invitation_form(request: web.Request) -> web.StreamResponse:
    """Accepts an invitation."""
    return await _answer(request, invite.accept, "accepted")


async def decline_invitation_form(request: web.Request) -> web.StreamResponse:
    """Declines an invitation."""
    return await _answer(request, invite.decline, "declined")


async def _answer(request: web.Request, answer: Callable[..., Awaitable[Any]], done: str) -> web.Response:
    form = await read_form(request)
    try:
        await answer(request.app[DB], principal_of(request), form.number("id"))
    except (Conflict, EmailNotVerified, NotFound) as error:
        return await _show(request, error.detail, error.status)
    return see_other(PATH, done)


async def _show(request: web.Request, problem: str = "", status: int = 200) -> web.Response:
    found = await invite.my_invitations(request.app[DB], principal_of(request), 0, SHOWN)
    return render(
        request,
        "invitations/page.html",
        title="Invitations",
        status=status,
        invitations=found,
        problem=problem,
        done=DONE.get(request.query.get("done", ""), ""),
    )


ROUTES = (
    page("GET", PATH, account_invitations, "Your invitations", SIGNED_IN, READS),
    page("POST", f"{PATH}/accept", accept_invitation_form, "Accept an invitation", SIGNED_IN, INVITATIONS,
         publishes=True),
    page("POST", f"{PATH}/decline", decline_invitation_form, "Decline an invitation", SIGNED_IN, INVITATIONS),
)  # fmt: skip
