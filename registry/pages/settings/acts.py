"""The forms on the settings page. Each calls the use case of an API route, with the same checks and rate limit."""

from collections.abc import Awaitable, Callable
from functools import wraps

from aiohttp import web

from registry.accounts.identity import Principal
from registry.accounts.requests import principal_of
from registry.errors import Conflict, FieldError, InvalidInput, NotFound
from registry.keys import DB
from registry.owners import invite, members
from registry.owners.bodies import InvitationRequest, OwnersChange, RoleChange, TransferRequest
from registry.packages import manage
from registry.packages.bodies import PackageChange, Yank, message_of
from registry.packages.read import NoVersion
from registry.packages.requests import name_of
from registry.pages.forms import Form, read_form, require_fresh
from registry.pages.frame import see_other
from registry.pages.package.head import package_page
from registry.pages.publishers.fields import body_of
from registry.pages.settings.view import address, show
from registry.publishers import manage as publishers
from registry.publishers.bodies import wanted_of
from registry.publishers.keys import ISSUERS
from registry.web.parsing import check
from registry.web.route import Handler

Act = Callable[[web.Request, Principal, str, Form], Awaitable[str]]
"""Does what a form asks for: (request, user, package, form). Returns a key of view.DONE, or a path to lead to."""


def _act(shown_as: str, **names: str) -> Callable[[Act], Handler]:
    """A decorator that reads the form, and shows it again as the form `shown_as` of the page if it is refused.

    `names` maps the API's names of fields to those of the form.
    """

    def decorate(act: Act) -> Handler:
        @package_page
        @wraps(act)
        async def handle(request: web.Request) -> web.StreamResponse:
            form, who, name = await read_form(request), principal_of(request), name_of(request)
            try:
                done = await act(request, who, name, form)
            except NoVersion as missing:
                errors: list[FieldError] = [{"field": "version", "message": "is not a version of this package"}]
                return await show(request, shown_as, form.refused(NotFound(missing.detail, errors=errors)), 404)
            except (InvalidInput, Conflict, NotFound) as error:
                return await show(request, shown_as, form.refused(error, **names), error.status)
            return see_other(done) if done.startswith("/") else see_other(address(name), done)

        return handle

    return decorate


@_act("invite", email="username")
async def invite_member_form(request: web.Request, who: Principal, name: str, form: Form) -> str:
    """Invites a user by name or by e-mail address."""
    whom = form["username"].strip()
    body = check(InvitationRequest, {"email" if "@" in whom else "username": whom, "role": form["role"]})
    if body.email is not None:
        await invite.invite_email(request.app[DB], who, name, body.email, body.role)
    else:
        await invite.invite_user(request.app[DB], who, name, body.username or "", body.role)
    return "invited"


@_act("invitations")
async def withdraw_invitation_form(request: web.Request, who: Principal, name: str, form: Form) -> str:
    """Withdraws an open invitation."""
    await invite.withdraw(request.app[DB], who, name, form.number("id"))
    return "withdrawn"


@_act("members")
async def change_role_form(request: web.Request, who: Principal, name: str, form: Form) -> str:
    """Makes a maintainer an owner, or an owner a maintainer."""
    body = check(RoleChange, {"role": form["role"]})
    await members.change_role(request.app[DB], who, name, form["username"], body.role)
    return "role"


@_act("members")
async def remove_member_form(request: web.Request, who: Principal, name: str, form: Form) -> str:
    """Takes the role of a user away."""
    await members.remove_member(request.app[DB], who, name, form["username"])
    # A user who left may not see the settings any more.
    return "removed" if form["username"] != who.username or who.is_admin else f"/packages/{name}"


@_act("transfer", username="new_owner")
async def transfer_package_form(request: web.Request, who: Principal, name: str, form: Form) -> str:
    """Invites a user to become the only owner."""
    body = check(TransferRequest, {"username": form["new_owner"].strip()})
    await require_fresh(request, form)
    await invite.invite_user(request.app[DB], who, name, body.username, "owner", is_transfer=True)
    return "transfer"


@_act("set_owners")
async def set_owners_form(request: web.Request, who: Principal, name: str, form: Form) -> str:
    """Replaces all owners and maintainers (admins)."""
    wanted = [
        {"username": username, "role": role}
        for field, role in (("owners", "owner"), ("maintainers", "maintainer"))
        for username in form[field].replace(",", " ").split()
    ]
    if not form["reason"].strip():
        raise InvalidInput.field("reason", "is required")
    body = check(OwnersChange, {"owners": wanted, "reason": form["reason"].strip()})
    await require_fresh(request, form)
    chosen = [members.Wanted(each.username, each.role) for each in body.owners]
    await members.set_members(request.app[DB], who, name, chosen, body.reason)
    return "set"


@_act("yank")
async def yank_version_form(request: web.Request, who: Principal, name: str, form: Form) -> str:
    """Yanks a version, with a reason."""
    body = check(Yank, {"yanked": True, "reason": form["reason"].strip()})
    await manage.yank_version(request.app[DB], who, name, _version(form), body.yanked, body.reason)
    return "yanked"


@_act("unyank")
async def unyank_version_form(request: web.Request, who: Principal, name: str, form: Form) -> str:
    """Ends a yank."""
    await manage.yank_version(request.app[DB], who, name, _version(form), False, "")
    return "unyanked"


@_act("delete_version")
async def delete_version_form(request: web.Request, who: Principal, name: str, form: Form) -> str:
    """Deletes the version whose number was typed."""
    version = _version(form)
    await require_fresh(request, form)
    await manage.delete_version(request.app[DB], who, name, version)
    return "version-deleted"


@_act("deprecate")
async def deprecate_package_form(request: web.Request, who: Principal, name: str, form: Form) -> str:
    """Deprecates the package, with a message and a successor."""
    body = check(
        PackageChange,
        {"deprecated": True, "message": form["message"].strip(), "successor": form["successor"].strip().lower()},
    )
    await manage.deprecate_package(request.app[DB], who, name, message_of(body), body.successor or None)
    return "deprecated"


@_act("undeprecate")
async def undeprecate_package_form(request: web.Request, who: Principal, name: str, form: Form) -> str:  # noqa: ARG001
    """Ends the deprecation."""
    await manage.deprecate_package(request.app[DB], who, name, None)
    return "undeprecated"


@_act("delete_package")
async def delete_package_form(request: web.Request, who: Principal, name: str, form: Form) -> str:
    """Deletes all versions of the package whose name was typed."""
    if form["package"].strip().lower() != name:
        raise InvalidInput.field("package", f"must be {name}, to show that you mean this package")
    await require_fresh(request, form)
    await manage.delete_package(request.app[DB], who, name)
    return "deleted"


@_act("publisher")
async def add_publisher_form(request: web.Request, who: Principal, name: str, form: Form) -> str:
    """Lets a workflow publish the package."""
    await publishers.add(request.app[DB], request.app[ISSUERS], who, name, wanted_of(body_of(form)))
    return "publisher-added"


@_act("publishers")
async def remove_publisher_form(request: web.Request, who: Principal, name: str, form: Form) -> str:
    """Removes a trusted publisher."""
    await publishers.remove(request.app[DB], who, name, form.number("id"))
    return "publisher-removed"


def _version(form: Form) -> str:
    version = form["version"].strip()
    if not version:
        raise InvalidInput.field("version", "is required")
    return version
