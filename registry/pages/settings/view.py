"""The settings of a package: one page with everything that its owners change."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from registry.accounts.identity import Principal
from registry.accounts.requests import principal_of
from registry.keys import DB
from registry.owners import invite, members
from registry.owners.standing import Standing, standing
from registry.packages.requests import name_of
from registry.packages.rights import Action, may
from registry.pages.forms import Form
from registry.pages.frame import render
from registry.pages.package.head import Head, head_of
from registry.pages.publishers import fields
from registry.publishers import manage as publishers
from registry.webhooks import hooks

ROLES = (("maintainer", "Maintainer"), ("owner", "Owner"))
DONE = {
    "invited": "The invitation is sent. It is open for 14 days.",
    "withdrawn": "The invitation is withdrawn.",
    "removed": "The user has no role in this package any more.",
    "role": "The role is changed.",
    "transfer": "The transfer waits for the user to accept it. Until then, nothing changes.",
    "set": "The owners and maintainers are set.",
    "yanked": "The version is yanked. It can still be installed by its number.",
    "unyanked": "The version is no longer yanked.",
    "deprecated": "The package is deprecated. Its page and search show your message.",
    "undeprecated": "The package is no longer deprecated.",
    "version-deleted": "The version is deleted. Its number is never used again.",
    "deleted": "All versions are deleted. The name stays closed to others.",
    "publisher-added": "The workflow may publish now.",
    "publisher-removed": "The publisher is removed, and its tokens have ended.",
}


@dataclass(frozen=True, slots=True)
class Rights:
    """What the user may do on the page."""

    manage: bool
    trust: bool
    publishers: bool
    webhooks: bool
    audit: bool
    yank: bool
    deprecate: bool
    delete: bool
    set_owners: bool


def address(name: str, part: str = "") -> str:
    """The address of the settings of a package, or of a page or form below them."""
    return f"/packages/{name}/settings{part}"


def rights_of(who: Principal, found: Standing) -> Rights:
    """While a package is in quarantine, only admins change it. Without versions, nothing can be yanked or deleted."""
    is_open = found.quarantine_reason is None or who.is_admin
    has_versions = bool(found.current or found.yanked)

    def allows(action: Action, *, needs_versions: bool = False) -> bool:
        return is_open and (has_versions or not needs_versions) and may(who, action, found.name, found.role)

    return Rights(
        manage=allows(Action.MANAGE),
        trust=allows(Action.TRUST),
        publishers=allows(Action.LIST_PUBLISHERS) and found.quarantine_reason is None,
        webhooks=allows(Action.WEBHOOK) and found.is_owner,
        audit=may(who, Action.AUDIT, found.name, found.role),
        yank=allows(Action.YANK, needs_versions=True),
        deprecate=allows(Action.DEPRECATE, needs_versions=True),
        delete=allows(Action.DELETE, needs_versions=True),
        set_owners=may(who, Action.SET_OWNERS, found.name, found.role) and not found.is_owner,
    )


async def show(request: web.Request, refused: str = "", form: Form | None = None, status: int = 200) -> web.Response:
    """The page. With `refused`, the name of one of its forms, that form keeps what was typed and says what is wrong.

    Raises NotFound, OtherSpelling, Quarantined, Forbidden.
    """
    db, who = request.app[DB], principal_of(request)
    found = await standing(db, who, name_of(request))
    rights = rights_of(who, found)
    forms: Mapping[str, Form] = defaultdict(Form, {refused: form} if form else {})
    return render(
        request,
        "settings/page.html",
        title=f"Settings of {found.name}",
        status=status,
        package=found,
        head=await head(request, found),
        settings=address(found.name),
        rights=rights,
        sections=sections_of(found, rights),
        forms=forms,
        refused=refused,
        roles=ROLES,
        done=DONE.get(request.query.get("done", ""), ""),
        kinds=fields.kinds(request),
        **await _lists(request, who, found, rights),
    )


async def head(request: web.Request, found: Standing) -> Head | None:
    """The head of the package's pages; None for a package that nobody can read."""
    is_shown = found.quarantine_reason is None and bool(found.current or found.yanked)
    return await head_of(request, "settings") if is_shown else None


async def _lists(request: web.Request, who: Principal, found: Standing, rights: Rights) -> dict[str, Any]:
    """What the sections list, each only if the user may see it."""
    db, name = request.app[DB], found.name
    return {
        "members": await members.list_members(db, who, name) if rights.audit else [],
        "invitations": (await invite.package_invitations(db, who, name, 0, invite.MAX_OPEN) if rights.audit else []),
        "publishers": (
            await publishers.list_of_package(db, who, name, 0, publishers.MAX_OF_PACKAGE) if rights.publishers else []
        ),
        "webhooks": await hooks.list_of_package(db, who, name) if rights.webhooks else [],
    }


def sections_of(found: Standing, rights: Rights) -> list[tuple[str, str]]:
    """(address, label) for the navigation."""
    base = address(found.name)
    parts = [
        ("#owners", "Owners", rights.audit),
        ("#versions", "Versions", rights.yank),
        ("#deprecation", "Deprecation", rights.deprecate),
        ("#publishers", "Trusted publishers", rights.publishers),
        ("#webhooks", "Webhooks", rights.webhooks),
        ("/audit", "Audit log", rights.audit),
        ("#delete", "Delete", rights.delete),
    ]
    return [(base + path, label) for path, label, is_shown in parts if is_shown]
