"""The settings of a package, for its owners, its maintainers and admins."""

from collections.abc import Sequence
from functools import partial

from aiohttp import web

from registry.accounts.requests import principal_of
from registry.audit.read import package_audit
from registry.keys import DB
from registry.owners.bodies import INVITATIONS
from registry.owners.standing import standing
from registry.packages.bodies import DELETES
from registry.packages.requests import name_of
from registry.pages.audit.view import answer
from registry.pages.frame import page, see_other
from registry.pages.package.head import package_page
from registry.pages.settings import acts
from registry.pages.settings.view import address, head, rights_of, sections_of, show
from registry.publishers.bodies import PUBLISHERS
from registry.web.route import DEFAULT, READS, SIGNED_IN, Handler, Limit, Route

SETTINGS_PATH = "/packages/{name}/settings"


@package_page
async def package_settings(request: web.Request) -> web.StreamResponse:
    """Everything that owners, maintainers and admins change of a package."""
    return await show(request)


@package_page
async def package_settings_audit(request: web.Request) -> web.StreamResponse:
    """What happened to a package, for its owners and admins."""
    db, who, name = request.app[DB], principal_of(request), name_of(request)
    read = partial(package_audit, db, who, name)
    found = await standing(db, who, name)
    sections = sections_of(found, rights_of(who, found))
    title = f"Audit log of {found.name}"
    shown = {"package": found, "head": await head(request, found), "sections": sections}
    return await answer(request, "settings/audit.html", read, title=title, **shown)


@package_page
async def package_settings_form(request: web.Request) -> web.StreamResponse:
    """Leads from the address of a form to the page that has it."""
    return see_other(address(name_of(request)))


_FORMS: Sequence[tuple[str, Handler, str, Limit]] = (
    ("invite", acts.invite_member_form, "Invite an owner or maintainer", INVITATIONS),
    ("withdraw", acts.withdraw_invitation_form, "Withdraw an invitation", INVITATIONS),
    ("role", acts.change_role_form, "Change a role", INVITATIONS),
    ("remove", acts.remove_member_form, "Remove an owner or maintainer", INVITATIONS),
    ("transfer", acts.transfer_package_form, "Transfer the package", INVITATIONS),
    ("owners", acts.set_owners_form, "Set all owners and maintainers", INVITATIONS),
    ("yank", acts.yank_version_form, "Yank a version", DEFAULT),
    ("unyank", acts.unyank_version_form, "End a yank", DEFAULT),
    ("deprecate", acts.deprecate_package_form, "Deprecate the package", DEFAULT),
    ("undeprecate", acts.undeprecate_package_form, "End the deprecation", DEFAULT),
    ("delete-version", acts.delete_version_form, "Delete a version", DELETES),
    ("delete", acts.delete_package_form, "Delete the package", DELETES),
    ("publishers", acts.add_publisher_form, "Add a trusted publisher", PUBLISHERS),
    ("remove-publisher", acts.remove_publisher_form, "Remove a trusted publisher", PUBLISHERS),
)


def _routes() -> list[Route]:
    routes = [
        page("GET", SETTINGS_PATH, package_settings, "Settings of a package", SIGNED_IN, READS),
        page("GET", f"{SETTINGS_PATH}/audit", package_settings_audit, "Audit log of a package", SIGNED_IN, READS),
    ]
    for name, handler, summary, limit in _FORMS:
        path = f"{SETTINGS_PATH}/{name}"
        # Adding a publisher makes the user a publisher, who may need a second factor.
        publishes = name == "publishers"
        routes.append(page("POST", path, handler, summary, SIGNED_IN, limit, publishes=publishes))
        routes.append(page("GET", path, package_settings_form, summary, SIGNED_IN, READS))
    return routes


ROUTES = tuple(_routes())
