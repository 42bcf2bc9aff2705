"""Changes who owns and maintains a package. A package that has a version keeps at least one owner."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from typing_extensions import TypedDict

from registry.accounts import store as accounts
from registry.accounts.identity import Principal
from registry.db.engine import Connection, Database, Row
from registry.errors import Conflict, FieldError, InvalidInput, LastOwner, NotFound
from registry.events import audit
from registry.events import log as event_log
from registry.owners import store
from registry.packages import store as packages
from registry.packages.owners import store as roles
from registry.packages.read import check_name, no_package
from registry.packages.rights import (
    MAINTAINER,
    OWNER,
    Action,
    authorize,
    check_credentials,
    check_quarantine,
    quarantined,
)

MAX_MEMBERS = 100
STRANGER = 0
"""Stands for somebody who is not signed in. No user has this id."""


class Member(TypedDict):
    """An owner or a maintainer. `since` is when the user got this role."""

    username: str
    role: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Wanted:
    """A user name and the role that an admin gives to it."""

    username: str
    role: str


async def list_members(db: Database, who: Principal | None, name: str) -> list[Member]:
    """The owners and maintainers of a package. Raises NotFound, OtherSpelling, Quarantined."""
    async with db.read() as conn:
        package = await find_package(conn, who, name)
        return [_member(row) for row in await roles.members(conn, package.id)]


async def remove_member(db: Database, who: Principal, name: str, username: str) -> None:
    """Removes an owner or a maintainer. Everybody may remove themselves.

    Raises NotFound, OtherSpelling, Forbidden, LastOwner.
    """
    async with db.transaction() as conn:
        package = await lock_package(conn, who, name)
        if username.lower() == who.username.lower():
            check_credentials(who, Action.MANAGE, package.name)
        else:
            authorize(who, Action.MANAGE, package.name, package.role)
        members = await roles.members(conn, package.id)
        leaving = _named(members, package.name, username)
        _keep_an_owner(members, leaving, package.name)
        await remove_roles(conn, package.id, [leaving])
        await conclude(conn, who, package, "owner.remove", {"user_id": leaving.id, "role": leaving.role})


async def change_role(db: Database, who: Principal, name: str, username: str, role: str) -> Member:
    """Makes a maintainer an owner, or an owner a maintainer. Raises NotFound, OtherSpelling, Forbidden, LastOwner."""
    async with db.transaction() as conn:
        package = await lock_package(conn, who, name)
        authorize(who, Action.MANAGE, package.name, package.role)
        members = await roles.members(conn, package.id)
        changed = _named(members, package.name, username)
        if changed.role == role:
            return _member(changed)
        if role == MAINTAINER:
            _keep_an_owner(members, changed, package.name)
            await store.end_of_inviter(conn, package.id, changed.id)
        await give_role(conn, package.id, changed.id, role)
        after = _named(await roles.members(conn, package.id), package.name, username)
        await conclude(conn, who, package, "owner.role", {"user_id": changed.id, "role": role})
        return _member(after)


async def set_members(db: Database, who: Principal, name: str, wanted: Sequence[Wanted], reason: str) -> list[Member]:
    """Replaces all owners and maintainers, also of a package that has no version left. Admins only.

    Raises NotFound, OtherSpelling, Forbidden, Conflict, and InvalidInput for unknown or repeated users.
    """
    check_credentials(who, Action.SET_OWNERS)
    async with db.transaction() as conn:
        package = await lock_package(conn, who, name)
        authorize(who, Action.SET_OWNERS, package.name, package.role)
        chosen = await _users_of(conn, wanted)
        members = await roles.members(conn, package.id)
        removed = [member for member in members if member.id not in chosen]
        await remove_roles(conn, package.id, removed)
        for member in members:
            if member.role == OWNER and chosen.get(member.id) == MAINTAINER:
                await store.end_of_inviter(conn, package.id, member.id)
        for user_id, role in chosen.items():
            if not await give_role(conn, package.id, user_id, role):
                raise Conflict("The account of one of these users has just ended. Name other users.")
        after = [_member(row) for row in await roles.members(conn, package.id)]
        details = {
            "owners": [{"user_id": user, "role": role} for user, role in chosen.items()],
            "removed": [{"user_id": member.id} for member in removed],
            "reason": reason,
        }
        await conclude(conn, who, package, "owner.set", details)
        return after


async def find_package(conn: Connection, who: Principal | None, name: str) -> Any:
    """The package with the role of `who`, who may be a stranger. Its owners and admins see it in quarantine, too.

    Raises NotFound, OtherSpelling, Quarantined.
    """
    package = await packages.find(conn, name, who.user_id if who else STRANGER)
    package = _visible(check_name(package, name), who)
    may_see = package.role == OWNER or (who is not None and who.is_admin)
    if package.quarantine_reason is not None and not may_see:
        raise quarantined(package.name, package.quarantine_reason)
    return package


async def lock_package(conn: Connection, who: Principal, name: str) -> Any:
    """Locks and returns the package with the role of `who`, for a change.

    Raises NotFound, OtherSpelling, and Quarantined unless `who` is an admin.
    """
    package = check_name(await packages.find(conn, name, who.user_id, lock=True), name)
    check_quarantine(who, package.name, package.quarantine_reason)
    return _visible(package, who)


async def give_role(conn: Connection, package_id: int, user_id: int, role: str) -> bool:
    """Gives a user a role, and ends the user's invitations to this role and to lower ones.

    Returns False if the user's account has ended meanwhile. From here on, it can't end before this transaction does.
    """
    await roles.set_role(conn, package_id, user_id, role)
    found = await accounts.user_by_id(conn, user_id)
    email = found[0].email if found else None
    lower = [OWNER, MAINTAINER] if role == OWNER else [MAINTAINER]
    await store.end_of_invited(conn, package_id, user_id, email, lower)
    return found is not None and found[0].is_active


async def remove_roles(conn: Connection, package_id: int, leaving: Sequence[Row]) -> None:
    """Removes members, and ends the invitations that they sent."""
    for member in leaving:
        await roles.remove(conn, package_id, member.id)
        await store.end_of_inviter(conn, package_id, member.id)


async def conclude(
    conn: Connection,
    who: Principal,
    package: Any,
    action: str,
    details: dict[str, Any],
    event: str = event_log.PACKAGE_OWNERS_CHANGED,
) -> None:
    """Writes the audit entry and the event of a change of roles."""
    audit.write_with_commit(conn, action, who.actor, package_id=package.id, details=details)
    await event_log.append(conn, event, package_id=package.id, package=package.name, actor_id=who.user_id)


def _visible(package: Any, who: Principal | None) -> Any:
    """Returns the package. Raises NotFound if it has no version, unless `who` has a role in it or is an admin."""
    is_empty = package.latest_version_id is None and package.quarantine_reason is None
    if is_empty and package.role is None and not (who and who.is_admin):
        raise no_package(package.name)
    return package


def _member(row: Row) -> Member:
    return {"username": row.username, "role": row.role, "since": row.since}


def _named(members: Sequence[Row], package: str, username: str) -> Row:
    for member in members:
        if member.username.lower() == username.lower():
            return member
    raise NotFound(f"{package} has no such owner or maintainer. The list of its owners names all.")


def _keep_an_owner(members: Sequence[Row], leaving: Row, package: str) -> None:
    """Raises LastOwner if no owner would be left without `leaving`."""
    if leaving.role == OWNER and not any(each.role == OWNER and each.id != leaving.id for each in members):
        raise LastOwner(f"{leaving.username} is the last owner of {package}. Make somebody else an owner first.")


async def _users_of(conn: Connection, wanted: Sequence[Wanted]) -> dict[int, str]:
    """Roles by user id. Raises InvalidInput with each unknown or repeated user, and without any owner."""
    chosen: dict[int, str] = {}
    problems: list[FieldError] = []
    for index, each in enumerate(wanted):
        user = await accounts.user_by_username(conn, each.username)
        field = f"owners.{index}.username"
        if user is None or not user.is_active:
            problems.append({"field": field, "message": "is not a user of this registry"})
        elif user.id in chosen:
            problems.append({"field": field, "message": "is named twice"})
        else:
            chosen[user.id] = each.role
    if not problems and OWNER not in chosen.values():
        problems.append({"field": "owners", "message": "must have at least one user with the role owner"})
    if problems:
        raise InvalidInput.of(problems)
    return chosen


def check_number(members: Sequence[Row], package: str) -> None:
    """Raises Conflict if the package can't have another member."""
    if len(members) >= MAX_MEMBERS:
        raise Conflict(f"{package} has {MAX_MEMBERS} owners and maintainers, which is the limit. Remove one first.")
