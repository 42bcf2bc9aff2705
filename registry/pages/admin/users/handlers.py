"""The admins' pages about users."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from aiohttp import web

from registry.accounts import administer
from registry.accounts.identity import ROLES, Principal
from registry.accounts.listing import users
from registry.accounts.requests import principal_of
from registry.errors import Conflict, InvalidInput
from registry.factors.administer import reset_factors
from registry.keys import DB
from registry.pages.admin import lists
from registry.pages.forms import Form, read_form, require_fresh
from registry.pages.frame import page, render, see_other
from registry.pages.paths import username_of
from registry.web.route import DEFAULT, READS, SIGNED_IN, Handler, Route

PATH = "/admin/users"
MAX_TEXT = 254
STATES = {"active": True, "deactivated": False}
DONE = {
    "role": "The role has changed. It counts from now on.",
    "deactivated": "The account can't sign in any more, and its tokens have ended.",
    "activated": "The account can sign in again.",
    "factors": "The second factors are removed. The password alone signs in now.",
}

Act = Callable[[web.Request, str, Principal, Form], Awaitable[object]]
"""Changes a user: (request, name, admin, form)."""


async def admin_users(request: web.Request) -> web.StreamResponse:
    """The users, newest first."""
    query = request.query
    wanted = users.Wanted(
        text=query.get("text", "").replace("\0", "").strip()[:MAX_TEXT],
        role=query["role"] if query.get("role") in ROLES else None,
        active=STATES.get(query.get("state", "")),
    )
    start = lists.start_of(query, "users")
    found = await users.list_users(request.app[DB], principal_of(request), wanted, start, lists.SHOWN + 1)
    shown, following = lists.page_of(found, PATH, query, "users", "text", "role", "state")
    return render(request, "admin/users.html", title="Users", users=shown, next=following, wanted=wanted)


async def admin_user(request: web.Request) -> web.StreamResponse:
    """One user."""
    return await _show(request)


async def _show(request: web.Request, problem: str = "", status: int = 200) -> web.Response:
    who = principal_of(request)
    found = await users.find_user(request.app[DB], who, username_of(request))
    return render(
        request,
        "admin/user.html",
        title=f"User {found.username}",
        status=status,
        shown=found,
        is_own=found.id == who.user_id,
        problem=problem,
        done=DONE.get(request.query.get("done", ""), ""),
    )


async def _change(request: web.Request, act: Act, done: str) -> web.StreamResponse:
    """Does what a form of the page asks for, after the admin has confirmed it recently."""
    who, name = principal_of(request), username_of(request)
    who.require("admin")
    form = await read_form(request)
    await require_fresh(request, form)
    try:
        await act(request, name, who, form)
    except (Conflict, InvalidInput) as error:
        return await _show(request, error.detail, error.status)
    return see_other(f"{PATH}/{quote(name)}", done)


async def change_role_form(request: web.Request) -> web.StreamResponse:
    """Makes a user an admin, or an admin a user."""

    async def act(request: web.Request, name: str, who: Principal, form: Form) -> None:
        await administer.set_role(request.app[DB], name, form["role"], who)

    return await _change(request, act, "role")


async def deactivate_form(request: web.Request) -> web.StreamResponse:
    """Keeps a user from signing in, and ends the tokens."""
    return await _change(request, _without_form(administer.deactivate), "deactivated")


async def activate_form(request: web.Request) -> web.StreamResponse:
    """Lets a user sign in again."""
    return await _change(request, _without_form(administer.reactivate), "activated")


async def reset_factors_form(request: web.Request) -> web.StreamResponse:
    """Removes the second factors of a user who lost them."""
    return await _change(request, _without_form(reset_factors), "factors")


def _without_form(change: Callable[..., Awaitable[object]]) -> Act:
    """`change` gets (database, name, admin)."""
    return lambda request, name, who, _: change(request.app[DB], name, who)


def _form(path: str, handler: Handler, summary: str) -> Route:
    return page("POST", f"{PATH}/{{username}}/{path}", handler, summary, SIGNED_IN, DEFAULT)


ROUTES = (
    page("GET", PATH, admin_users, "Users (admins)", SIGNED_IN, READS),
    page("GET", f"{PATH}/{{username}}", admin_user, "One user (admins)", SIGNED_IN, READS),
    _form("role", change_role_form, "Change the role of a user (admins)"),
    _form("deactivate", deactivate_form, "Deactivate a user (admins)"),
    _form("activate", activate_form, "Activate a user (admins)"),
    _form("reset-factors", reset_factors_form, "Remove the second factors of a user (admins)"),
)
