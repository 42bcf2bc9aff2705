"""Adds, lists and removes trusted publishers: those of packages, and pending ones for names that don't exist yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from typing_extensions import TypedDict

from registry.accounts.identity import Principal
from registry.accounts.sessions.manage import lock_user
from registry.db.engine import Connection, Database, Row
from registry.errors import Conflict, InvalidInput, NotFound
from registry.events import audit
from registry.owners.members import lock_package
from registry.package_format import names
from registry.packages import store as packages
from registry.packages.publication import store as publication
from registry.packages.publication.check import check_name as check_publishable_name
from registry.packages.read import check_name
from registry.packages.rights import Action, authorize, check_quarantine
from registry.publishers import store
from registry.publishers.issuers import Issuers
from registry.publishers.matching import MEMBERS

MAX_OF_PACKAGE = 50
MAX_PENDING = 50
NO_PUBLISHER = "There is no such trusted publisher."


class PublisherInfo(TypedDict):
    """A trusted publisher. It also has the members that its kind demands, such as `repository`.

    `repository_id` and `repository_owner_id` are bound at first use, and None before it.
    """

    id: int
    kind: str
    issuer: str
    repository_id: str | None
    repository_owner_id: str | None
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new publisher demands. `issuer` None means the usual one of the kind.

    `members` maps the members of the kind to their values, or to None where nothing is demanded.
    """

    kind: str
    issuer: str | None
    members: Mapping[str, str | None]

    def given(self) -> dict[str, str]:
        return {name: value for name, value in self.members.items() if value is not None}


async def add(db: Database, issuers: Issuers, who: Principal, name: str, wanted: Wanted) -> dict[str, Any]:
    """Adds a publisher to a package. Needs a signed-in owner.

    Raises Forbidden, NotFound, OtherSpelling, Conflict, and InvalidInput for an issuer that is not allowed.
    """
    who.require_login()
    issuer = _issuer(issuers, wanted)
    async with db.transaction() as conn:
        package = await lock_package(conn, who, name)
        authorize(who, Action.TRUST, package.name, package.role)
        known = await store.of_package(conn, package.id, 0, MAX_OF_PACKAGE)
        _check_new(known, wanted, issuer, MAX_OF_PACKAGE)
        row = await store.add(
            conn, who.user_id, kind=wanted.kind, issuer=issuer, wanted=wanted.given(), package_id=package.id
        )
        _audit(conn, who, "publisher.create", row)
    return shown(row)


async def add_pending(db: Database, issuers: Issuers, who: Principal, name: str, wanted: Wanted) -> dict[str, Any]:
    """Adds a publisher for a package that doesn't exist. It reserves nothing. Needs a signed-in user.

    Raises Forbidden, InvalidInput, NameReserved, NameTooSimilar, NameClosed, Quarantined, Conflict.
    """
    who.require_login()
    problem = names.name_problem(name)
    if problem is not None:
        raise InvalidInput.field("package", problem)
    issuer = _issuer(issuers, wanted)
    async with db.transaction() as conn:
        # Without the lock, concurrent requests could exceed MAX_PENDING.
        await lock_user(conn, who)
        await _check_free(conn, who, name)
        known = await store.pending_of(conn, who.user_id, 0, MAX_PENDING)
        _check_new([row for row in known if row.pending_name == name], wanted, issuer, MAX_PENDING)
        if len(known) >= MAX_PENDING:
            raise Conflict(f"You have {MAX_PENDING} pending publishers, which is the limit. Remove one first.")
        row = await store.add(
            conn, who.user_id, kind=wanted.kind, issuer=issuer, wanted=wanted.given(), pending_name=name
        )
        _audit(conn, who, "publisher.create", row)
    return shown(row)


async def list_of_package(db: Database, who: Principal, name: str, after: int, count: int) -> list[dict[str, Any]]:
    """Publishers of a package with ids above `after`. Raises NotFound, OtherSpelling, Forbidden, Quarantined."""
    async with db.read() as conn:
        package = check_name(await packages.find(conn, name, who.user_id), name)
        check_quarantine(who, package.name, package.quarantine_reason)
        authorize(who, Action.LIST_PUBLISHERS, package.name, package.role)
        return [shown(row) for row in await store.of_package(conn, package.id, after, count)]


async def list_pending(db: Database, who: Principal, after: int, count: int) -> list[dict[str, Any]]:
    """The user's pending publishers with ids above `after`. Raises Forbidden.

    An API token that is bound to packages sees only those for the names of these.
    """
    who.require("manage")
    async with db.read() as conn:
        return [shown(row) for row in await store.pending_of(conn, who.user_id, after, count, within=who.packages)]


async def read_pending(db: Database, who: Principal, publisher: int) -> dict[str, Any]:
    """A pending publisher of the user. Raises NotFound, Forbidden."""
    who.require("manage")
    async with db.read() as conn:
        row = await store.find_pending(conn, who.user_id, publisher)
    if row is None or not who.may("manage", row.pending_name):
        raise NotFound(NO_PUBLISHER)
    return shown(row)


async def remove(db: Database, who: Principal, name: str, publisher: int) -> None:
    """Removes a publisher of a package, and ends its tokens. Raises NotFound, OtherSpelling, Forbidden."""
    async with db.transaction() as conn:
        package = await lock_package(conn, who, name)
        authorize(who, Action.LIST_PUBLISHERS, package.name, package.role)
        row = await store.end_of_package(conn, package.id, publisher)
        if row is None:
            raise NotFound(NO_PUBLISHER)
        _audit(conn, who, "publisher.delete", row)


async def remove_pending(db: Database, who: Principal, publisher: int) -> None:
    """Removes a pending publisher of the user, and ends its tokens. Raises NotFound, Forbidden."""
    who.require("manage")
    async with db.transaction() as conn:
        row = await store.end_pending(conn, who.user_id, publisher)
        if row is None or not who.may("manage", row.pending_name):
            raise NotFound(NO_PUBLISHER)
        _audit(conn, who, "publisher.delete", row)


async def purge(db: Database) -> int:
    """Deletes what has expired: API tokens of publishers, and ID tokens that were used. Returns how many."""
    async with db.transaction() as conn:
        return await store.purge(conn)


def shown(row: Row) -> dict[str, Any]:
    """A publisher as clients see it: PublisherInfo, the members of its kind, and `package` if it is pending."""
    info: PublisherInfo = {
        "id": row.id,
        "kind": row.kind,
        "issuer": row.issuer,
        "repository_id": row.repository_id,
        "repository_owner_id": row.repository_owner_id,
        "created_at": row.created_at,
        "last_used_at": row.last_used_at,
    }
    members = {name: row.wanted.get(name) for name in MEMBERS.get(row.kind, ())} or {"claims": row.wanted}
    return {**members, **info, **({"package": row.pending_name} if row.pending_name else {})}


def _issuer(issuers: Issuers, wanted: Wanted) -> str:
    """The issuer of a new publisher. Raises InvalidInput unless the operator allows it for this kind."""
    if wanted.issuer is None:
        return issuers.default(wanted.kind)
    if not issuers.allows(wanted.kind, wanted.issuer):
        raise InvalidInput.field("issuer", "is not one that this registry allows for this kind of publisher")
    return wanted.issuer


def _check_new(known: Sequence[Row], wanted: Wanted, issuer: str, most: int) -> None:
    if any((row.issuer, row.wanted) == (issuer, wanted.given()) for row in known):
        raise Conflict("There is such a trusted publisher already.")
    if len(known) >= most:
        raise Conflict(f"There are {most} trusted publishers, which is the limit. Remove one first.")


async def _check_free(conn: Connection, who: Principal, name: str) -> None:
    """Raises Conflict if a package has this name, and what the first publish under this name would raise."""
    found = await publication.read(conn, name, "", who.user_id)
    check_publishable_name(who, name, found)
    if found.id is not None:
        raise Conflict(f"{name} exists. Its owners add publishers to the package itself.")


def _audit(conn: Connection, who: Principal, action: str, row: Row) -> None:
    details = {"publisher": row.id, "kind": row.kind, "issuer": row.issuer, "wanted": row.wanted}
    if row.pending_name:
        details["package"] = row.pending_name
    audit.write_with_commit(conn, action, who.actor, package_id=row.package_id, details=details)
