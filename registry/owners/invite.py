"""Invitations to own or maintain a package.

An invitation is open for 14 days. It ends when it is accepted, declined or withdrawn, when its inviter is no longer an
owner, or when the invited user gets the role in another way.
"""

from datetime import datetime, timedelta
from typing import Any

from typing_extensions import TypedDict

from registry.accounts import store as accounts
from registry.accounts.identity import Principal, User
from registry.accounts.tokens import NOT_VALID
from registry.db.engine import Connection, Database, Row
from registry.errors import AlreadyOwner, Conflict, EmailNotVerified, NotFound, Unauthorized
from registry.events import audit
from registry.events import log as event_log
from registry.owners import members, store
from registry.packages.owners import store as roles
from registry.packages.rights import MAINTAINER, OWNER, Action, authorize, check_credentials

VALID_FOR = timedelta(days=14)
MAX_OPEN = 100

NO_INVITATION = "There is no such invitation for you. It may have expired, or its inviter is no longer an owner."


class Invitation(TypedDict):
    """`username` is None for an invitation by e-mail, and `email` is None for one by user name. `transfer` is true if
    accepting it removes the former owners.
    """

    id: int
    package: str
    username: str | None
    email: str | None
    role: str
    transfer: bool
    inviter: str
    created_at: datetime
    expires_at: datetime


class InvitationSent(TypedDict):
    id: int
    username: str | None
    role: str
    expires_at: datetime


class Accepted(TypedDict):
    """The role that the user has now."""

    success: bool
    package: str
    role: str


async def invite_user(
    db: Database, who: Principal, name: str, username: str, role: str, *, is_transfer: bool = False
) -> InvitationSent:
    """Invites a user. An open invitation of the same user to the same role is replaced.

    Raises NotFound, OtherSpelling, Forbidden, AlreadyOwner, Conflict.
    """
    async with db.transaction() as conn:
        package = await _managed(conn, who, name)
        user = await accounts.user_by_username(conn, username)
        if user is None or not user.is_active:
            raise NotFound(f"There is no user {username}.")
        current = await roles.members(conn, package.id)
        has = next((member.role for member in current if member.id == user.id), None)
        owners = sum(member.role == OWNER for member in current)
        # A transfer to an owner makes sense only if it removes others.
        removes_others = is_transfer and owners > 1 and user.id != who.user_id
        if has == role == MAINTAINER or (has == OWNER and not removes_others):
            raise _already(user.username, has, package.name)
        if has is None:
            members.check_number(current, package.name)
        sent = await _send(conn, who, package, user=user, email=None, role=role, is_transfer=is_transfer)
    return {"id": sent.id, "username": user.username, "role": role, "expires_at": sent.expires_at}


async def invite_email(db: Database, who: Principal, name: str, email: str, role: str) -> InvitationSent:
    """Invites whoever has verified `email`, now or later. The answer doesn't tell whether there is such an account.

    Raises NotFound, OtherSpelling, Forbidden, Conflict.
    """
    async with db.transaction() as conn:
        package = await _managed(conn, who, name)
        sent = await _send(conn, who, package, user=None, email=email, role=role, is_transfer=False)
    return {"id": sent.id, "username": None, "role": role, "expires_at": sent.expires_at}


async def my_invitations(db: Database, who: Principal, after: int, count: int) -> list[Invitation]:
    """Up to `count` open invitations of the user with ids above `after`. Raises Forbidden.

    An API token that is bound to packages sees only invitations to these.
    """
    who.require("manage")
    async with db.read() as conn:
        rows = await store.for_user(conn, who.user_id, after, count, within=who.packages)
    return [_invitation(row) for row in rows]


async def package_invitations(db: Database, who: Principal, name: str, after: int, count: int) -> list[Invitation]:
    """Up to `count` open invitations to a package with ids above `after`, for its owners and admins.

    Raises NotFound, OtherSpelling, Forbidden.
    """
    async with db.read() as conn:
        package = await members.find_package(conn, who, name)
        authorize(who, Action.AUDIT, package.name, package.role)
        return [_invitation(row) for row in await store.of_package(conn, package.id, after, count)]


async def accept(db: Database, who: Principal, invitation: int) -> Accepted:
    """Gives the user the role of the invitation.

    Raises NotFound, Forbidden, EmailNotVerified, AlreadyOwner, Conflict, and Unauthorized if the account has ended
    meanwhile.
    """
    async with db.transaction() as conn:
        found = await _mine(conn, who, invitation)
        package = await members.lock_package(conn, who, found.package)
        # Between the two reads, the invitation may have ended.
        found = await _mine(conn, who, invitation)
        current = await roles.members(conn, package.id)
        has = next((member.role for member in current if member.id == who.user_id), None)
        if not found.is_transfer and has in (OWNER, found.role):
            # An invitation by e-mail may reach an owner. It must not take the role away.
            raise _already(who.username, has, package.name)
        if has is None:
            members.check_number(current, package.name)
        event = event_log.PACKAGE_OWNERS_CHANGED
        former: list[Row] = []
        if found.is_transfer:
            event = event_log.PACKAGE_TRANSFERRED
            former = [member for member in current if member.role == OWNER and member.id != who.user_id]
            await members.remove_roles(conn, package.id, former)
        if not await members.give_role(conn, package.id, who.user_id, found.role):
            raise Unauthorized(NOT_VALID)
        await store.end(conn, found.id)
        details = {"inviter": {"user_id": found.inviter_id}, "role": found.role, "transfer": found.is_transfer}
        if former:
            details["removed"] = [{"user_id": member.id} for member in former]
        await members.conclude(conn, who, package, "owner.accept", details, event)
    return {"success": True, "package": package.name, "role": found.role}


async def decline(db: Database, who: Principal, invitation: int) -> None:
    """Ends an invitation of the user. Raises NotFound, Forbidden, EmailNotVerified."""
    async with db.transaction() as conn:
        found = await _mine(conn, who, invitation)
        await store.end(conn, found.id)
        details = {"inviter": {"user_id": found.inviter_id}, "role": found.role}
        await audit.write(conn, "owner.decline", who.actor, package_id=found.package_id, details=details)


async def withdraw(db: Database, who: Principal, name: str, invitation: int) -> None:
    """Ends an invitation to a package. Raises NotFound, OtherSpelling, Forbidden."""
    async with db.transaction() as conn:
        package = await _managed(conn, who, name)
        found = await store.find(conn, invitation)
        if found is None or found.package_id != package.id:
            raise NotFound(f"There is no open invitation with this id to {package.name}.")
        await store.end(conn, found.id)
        await audit.write(
            conn,
            "owner.withdraw",
            who.actor,
            package_id=package.id,
            details={**_invited(found.user_id), "role": found.role},
        )


async def purge(db: Database) -> int:
    """Deletes invitations that have expired. Returns how many."""
    async with db.transaction() as conn:
        return await store.purge(conn)


async def _managed(conn: Connection, who: Principal, name: str) -> Any:
    package = await members.lock_package(conn, who, name)
    authorize(who, Action.MANAGE, package.name, package.role)
    return package


async def _send(
    conn: Connection,
    who: Principal,
    package: Any,
    *,
    user: User | None,
    email: str | None,
    role: str,
    is_transfer: bool,
) -> Row:
    await store.end_of_invited(conn, package.id, user.id if user else None, email, [role])
    if await store.count(conn, package.id) >= MAX_OPEN:
        raise Conflict(f"{package.name} has {MAX_OPEN} open invitations, which is the limit. Withdraw one first.")
    sent = await store.add(
        conn,
        package.id,
        user_id=user.id if user else None,
        email=email,
        role=role,
        is_transfer=is_transfer,
        inviter_id=who.user_id,
        valid_for=VALID_FOR,
    )
    details = {**_invited(user.id if user else None), "role": role, "invitation": sent.id}
    await audit.write(
        conn,
        "package.transfer" if is_transfer else "owner.invite",
        who.actor,
        package_id=package.id,
        details=details,
        tell=email,
    )
    return sent


async def _mine(conn: Connection, who: Principal, invitation: int) -> Row:
    """An open invitation of the user. Raises NotFound, Forbidden, EmailNotVerified."""
    found = await store.find(conn, invitation)
    user = await accounts.user_by_id(conn, who.user_id)
    if found is None or user is None:
        raise NotFound(NO_INVITATION)
    if found.email is not None:
        is_theirs = (user[0].email or "").lower() == found.email.lower()
        if not is_theirs or user[0].email_verified_at is None:
            raise EmailNotVerified(
                "The invitation was sent to an e-mail address. Your account must have this address, and it must be "
                "verified."
            )
    elif found.user_id != who.user_id:
        raise NotFound(NO_INVITATION)
    check_credentials(who, Action.MANAGE, found.package)
    return found


def _already(username: str, role: str, package: str) -> AlreadyOwner:
    article = "an" if role == OWNER else "a"
    return AlreadyOwner(f"{username} is {article} {role} of {package} already.")


def _invited(user_id: int | None) -> dict[str, Any]:
    """Who was invited, for the audit log. It keeps no e-mail addresses, since its entries can't be deleted."""
    return {"by_email": True} if user_id is None else {"user_id": user_id}


def _invitation(row: Row) -> Invitation:
    return {
        "id": row.id,
        "package": row.package,
        "username": row.username,
        "email": row.email,
        "role": row.role,
        "transfer": row.is_transfer,
        "inviter": row.inviter,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
    }
