"""HTTP handlers of owners and invitations."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web
from typing_extensions import TypedDict

from registry.accounts.identity import Principal
from registry.accounts.requests import id_of, no_store, principal_of
from registry.errors import AlreadyOwner, Conflict, EmailNotVerified, InvalidInput, LastOwner, Quarantined
from registry.keys import DB
from registry.owners import invite, members
from registry.owners.bodies import INVITATIONS, InvitationRequest, OwnersChange, RoleChange, TransferRequest
from registry.packages.requests import PACKAGE, name_of, redirect_look_alikes
from registry.web import paging
from registry.web.context import CONTEXT
from registry.web.cursor import encode
from registry.web.parsing import Body, read_body
from registry.web.responses import json_response, metadata_response
from registry.web.route import READS, SIGNED_IN, Route, group


class OwnersPage(TypedDict):
    owners: list[members.Member]
    next_cursor: str | None
    limit: int


class InvitationsPage(TypedDict):
    invitations: list[invite.Invitation]
    next_cursor: str | None
    limit: int


@redirect_look_alikes
async def list_owners(request: web.Request) -> web.StreamResponse:
    """The owners and maintainers of a package, and since when they have their role."""
    limit, after = paging.page_of(request, "owners")
    principal = request[CONTEXT].principal
    who = principal if isinstance(principal, Principal) else None
    found = await members.list_members(request.app[DB], who, name_of(request))
    shown, cursor = found[after : after + limit], after + limit
    next_cursor = encode("owners", (cursor,)) if cursor < len(found) else None
    return metadata_response(request, {"owners": shown, "next_cursor": next_cursor, "limit": limit})


@redirect_look_alikes
async def set_owners(request: web.Request) -> web.StreamResponse:
    """Replaces all owners and maintainers. Only admins may do this, and they give a reason."""
    name, who = name_of(request), principal_of(request)
    who.require("admin")
    body = await read_body(request, OwnersChange)
    if not body.reason.strip():
        raise InvalidInput.field("reason", "must not be blank")
    wanted = [members.Wanted(each.username, each.role) for each in body.owners]
    after = await members.set_members(request.app[DB], who, name, wanted, body.reason)
    return json_response({"owners": after, "next_cursor": None, "limit": members.MAX_MEMBERS})


@redirect_look_alikes
async def change_role(request: web.Request) -> web.StreamResponse:
    """Makes a maintainer an owner, or an owner a maintainer. A package keeps at least one owner."""
    name, who, username = name_of(request), principal_of(request), _username_of(request)
    body = await read_body(request, RoleChange)
    return json_response(await members.change_role(request.app[DB], who, name, username, body.role))


@redirect_look_alikes
async def remove_owner(request: web.Request) -> web.StreamResponse:
    """Removes an owner or a maintainer. Everybody may remove themselves, but the last owner stays."""
    await members.remove_member(request.app[DB], principal_of(request), name_of(request), _username_of(request))
    return web.Response(status=204)


@redirect_look_alikes
async def invite_owner(request: web.Request) -> web.StreamResponse:
    """Invites a user by name or by e-mail address to become an owner or a maintainer. The invitation is valid for 14
    days.
    """
    name, who, db = name_of(request), principal_of(request), request.app[DB]
    body = await read_body(request, InvitationRequest)
    if (body.username is None) == (body.email is None):
        raise InvalidInput.field("username", "or email must be given, but not both")
    if body.username is not None:
        sent = await invite.invite_user(db, who, name, body.username, body.role)
    else:
        sent = await invite.invite_email(db, who, name, body.email or "", body.role)
    return json_response(sent, status=201)


@redirect_look_alikes
async def transfer_package(request: web.Request) -> web.StreamResponse:
    """Invites a user to become the only owner. When the invitation is accepted, the former owners are removed;
    maintainers stay.
    """
    name, who = name_of(request), principal_of(request)
    body = await read_body(request, TransferRequest)
    sent = await invite.invite_user(request.app[DB], who, name, body.username, "owner", is_transfer=True)
    return json_response(sent, status=201)


@redirect_look_alikes
async def list_package_invitations(request: web.Request) -> web.StreamResponse:
    """The open invitations to a package, for its owners."""
    limit, after = paging.page_of(request, "invitations")
    found = await invite.package_invitations(request.app[DB], principal_of(request), name_of(request), after, limit + 1)
    return _invitations(found, limit)


@redirect_look_alikes
async def withdraw_invitation(request: web.Request) -> web.StreamResponse:
    """Withdraws an open invitation to a package."""
    await invite.withdraw(request.app[DB], principal_of(request), name_of(request), _id_of(request))
    return web.Response(status=204)


async def list_invitations(request: web.Request) -> web.StreamResponse:
    """The open invitations that were sent to you."""
    limit, after = paging.page_of(request, "invitations")
    found = await invite.my_invitations(request.app[DB], principal_of(request), after, limit + 1)
    return _invitations(found, limit)


async def accept_invitation(request: web.Request) -> web.StreamResponse:
    """Accepts an invitation that was sent to you. You then have the role."""
    return json_response(await invite.accept(request.app[DB], principal_of(request), _id_of(request)))


async def decline_invitation(request: web.Request) -> web.StreamResponse:
    """Declines an invitation that was sent to you."""
    await invite.decline(request.app[DB], principal_of(request), _id_of(request))
    return web.Response(status=204)


def _invitations(found: Sequence[invite.Invitation], limit: int) -> web.Response:
    return no_store(paging.page("invitations", found, limit))


def _username_of(request: web.Request) -> str:
    return request.match_info["username"].encode("ascii", "replace").decode()


def _id_of(request: web.Request) -> int:
    return id_of(request, invite.NO_INVITATION)


_INVITED: dict[int, Any] = {201: invite.InvitationSent, 308: None}
_OWNERS = f"{PACKAGE}/owners"
_INVITATIONS = f"{PACKAGE}/invitations"
_MINE = "/api/v1/auth/invitations"


def _json(model: type[Body]) -> dict[str, type[Body]]:
    return {"application/json": model}


ROUTES = group(
    "Owners",
    Route("GET", _OWNERS, list_owners, "Owners and maintainers of a package", limit=READS, parameters=paging.PARAMETERS,
          answers={200: OwnersPage, 301: None, 304: None}, errors=(Quarantined,)),
    Route("PUT", _OWNERS, set_owners, "Set all owners and maintainers (admins)", SIGNED_IN, INVITATIONS,
          body=_json(OwnersChange), answers={200: OwnersPage, 308: None}, errors=(Conflict,),
          example={"owners": [{"username": "ada", "role": "owner"}], "reason": "Its owner has left."}),
    Route("PATCH", f"{_OWNERS}/{{username}}", change_role, "Change the role of an owner or maintainer (owners)",
          SIGNED_IN, INVITATIONS, body=_json(RoleChange), answers={200: members.Member, 308: None},
          errors=(LastOwner, Quarantined), example={"role": "maintainer"}),
    Route("DELETE", f"{_OWNERS}/{{username}}", remove_owner, "Remove an owner or maintainer, or yourself", SIGNED_IN,
          INVITATIONS, answers={204: None, 308: None}, errors=(LastOwner, Quarantined)),
    Route("POST", _INVITATIONS, invite_owner, "Invite an owner or maintainer (owners)", SIGNED_IN, INVITATIONS,
          body=_json(InvitationRequest), answers=_INVITED, errors=(AlreadyOwner, Conflict, Quarantined),
          example={"username": "grace", "role": "maintainer"}),
    Route("GET", _INVITATIONS, list_package_invitations, "Open invitations to a package (owners)", SIGNED_IN, READS,
          paging.PARAMETERS, answers={200: InvitationsPage, 301: None}),
    Route("DELETE", f"{_INVITATIONS}/{{id}}", withdraw_invitation, "Withdraw an invitation (owners)", SIGNED_IN,
          INVITATIONS, answers={204: None, 308: None}, errors=(Quarantined,)),
    Route("POST", f"{PACKAGE}/transfer", transfer_package, "Invite a user to become the only owner (owners)", SIGNED_IN,
          INVITATIONS, body=_json(TransferRequest), answers=_INVITED,
          errors=(AlreadyOwner, Conflict, Quarantined), example={"username": "grace"}),
    Route("GET", _MINE, list_invitations, "Your open invitations", SIGNED_IN, READS, paging.PARAMETERS,
          answers={200: InvitationsPage}),
    Route("POST", f"{_MINE}/{{id}}/accept", accept_invitation, "Accept an invitation", SIGNED_IN, INVITATIONS,
          answers={200: invite.Accepted}, publishes=True,
          errors=(AlreadyOwner, Conflict, EmailNotVerified, Quarantined)),
    Route("POST", f"{_MINE}/{{id}}/decline", decline_invitation, "Decline an invitation", SIGNED_IN, INVITATIONS,
          answers={204: None}, errors=(EmailNotVerified,)),
)  # fmt: skip
