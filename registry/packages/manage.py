"""Changes to published packages: delete, restore, yank, deprecate, quarantine.

Each change locks the package row, checks the rights, changes the row of the package or version, copies the metadata of
the latest version to the package row, and appends an event.
"""

from datetime import datetime
from typing import Any

from typing_extensions import TypedDict

from registry.accounts.identity import Principal
from registry.db.engine import Connection, Database
from registry.errors import Conflict, InvalidInput
from registry.events import audit
from registry.events import log as event_log
from registry.package_format import names
from registry.package_format.versions import canonical_of, is_address_of
from registry.packages import store
from registry.packages.owners import store as owners
from registry.packages.read import check_name, no_package, no_version
from registry.packages.rights import Action, authorize, check_quarantine
from registry.packages.status import store as status

# The names of the acts in the audit log.
_ACTIONS = {
    event_log.VERSION_DELETED: "version.delete",
    event_log.VERSION_RESTORED: "version.restore",
    event_log.VERSION_YANKED: "version.yank",
    event_log.VERSION_UNYANKED: "version.unyank",
    event_log.PACKAGE_DEPRECATED: "package.deprecate",
    event_log.PACKAGE_UNDEPRECATED: "package.undeprecate",
    event_log.PACKAGE_QUARANTINED: "package.quarantine",
    event_log.PACKAGE_RELEASED: "package.release",
}


async def delete_version(db: Database, who: Principal, name: str, version: str) -> None:
    """Marks a version as deleted. Its row stays as a tombstone, so that its number is never used again.

    Raises NotFound, OtherSpelling, Forbidden, Quarantined.
    """
    async with db.transaction() as conn:
        package, state = await _find_version(conn, who, Action.DELETE, name, version)
        await store.delete_version(conn, state.id)
        await _conclude(conn, who, package, state.version, event_log.VERSION_DELETED)


async def delete_package(db: Database, who: Principal, name: str) -> int:
    """Marks all versions of a package as deleted, in one transaction. Returns how many.

    Its name stays closed to other users. Raises NotFound, OtherSpelling, Forbidden, Quarantined.
    """
    async with db.transaction() as conn:
        package = await _find_package(conn, who, name)
        authorize(who, Action.DELETE, package.name, package.role)
        deleted = await store.delete_versions(conn, package.id)
        await store.refresh(conn, package.id)
        await audit.write_versions(conn, _ACTIONS[event_log.VERSION_DELETED], who.actor, deleted, package_id=package.id)
        await event_log.append_all(
            conn,
            event_log.VERSION_DELETED,
            deleted,
            actor_id=who.user_id,
            package_id=package.id,
            package=package.name,
        )
    return len(deleted)


async def restore_version(db: Database, who: Principal, name: str, version: str) -> None:
    """Restores a deleted version within its grace period. Admins only.

    Raises Forbidden, NotFound, OtherSpelling, and Conflict when it is not deleted, its tarball is gone or the package
    has no owner.
    """
    authorize(who, Action.RESTORE, name, None)
    async with db.transaction() as conn:
        package = check_name(await store.find(conn, name, who.user_id, lock=True), name)
        state = await store.version_state(conn, package.id, canonical_of(version))
        if state is None or not is_address_of(version, state.version):
            raise no_version(name, version)
        if state.deleted_at is None:
            raise Conflict(f"{package.name} {state.version} is not deleted.")
        if not await owners.has_owner(conn, package.id):
            raise Conflict(
                f"{package.name} has no owner. Set its owners first: PUT /api/v1/packages/{package.name}/owners."
            )
        if not await store.restore_version(conn, state.id):
            raise Conflict(
                f"{package.name} {state.version} can't be restored: its grace period is over and its tarball is gone."
            )
        await _conclude(conn, who, package, state.version, event_log.VERSION_RESTORED)


async def yank_version(db: Database, who: Principal, name: str, version: str, yanked: bool, reason: str) -> None:
    """Yanks a version, or undoes a yank.

    A yanked version can still be installed, but it is the latest one only when every version is yanked.

    Raises NotFound, OtherSpelling, Forbidden, Quarantined.
    """
    async with db.transaction() as conn:
        package, state = await _find_version(conn, who, Action.YANK, name, version)
        reason = reason if yanked else ""
        if (state.yanked, state.yank_reason) == (yanked, reason):
            return
        await status.yank(conn, state.id, yanked, reason)
        kind = event_log.VERSION_YANKED if yanked else event_log.VERSION_UNYANKED
        await _conclude(conn, who, package, state.version, kind, {"reason": reason} if yanked else None)


async def deprecate_package(
    db: Database, who: Principal, name: str, message: str | None, successor: str | None = None
) -> None:
    """Deprecates a package with a text for its users and the name of a package to use instead, which need not exist.

    Without a text it ends the deprecation. Raises NotFound, OtherSpelling, Forbidden, Quarantined, and InvalidInput
    if the successor is no package name or is the package itself.
    """
    if message is None:
        successor = None
    elif successor is not None and (problem := names.name_problem(successor)):
        raise InvalidInput.field("successor", problem)
    async with db.transaction() as conn:
        package = await _find_package(conn, who, name)
        authorize(who, Action.DEPRECATE, package.name, package.role)
        if successor is not None and names.similarity_key(successor) == names.similarity_key(package.name):
            raise InvalidInput.field("successor", "must be another package")
        if (package.deprecated, message and package.deprecation_successor) == (message, successor):
            return
        await status.deprecate(conn, package.id, message, successor)
        if message is None:
            await _conclude(conn, who, package, None, event_log.PACKAGE_UNDEPRECATED)
        else:
            data = {"message": message, "successor": successor}
            await _conclude(conn, who, package, None, event_log.PACKAGE_DEPRECATED, data)


async def quarantine_package(db: Database, who: Principal, name: str, reason: str | None) -> None:
    """Puts a package in quarantine: nobody can read it, publish to it or find it. None releases it. Admins only.

    Nothing is deleted, and admins may still change the package. Raises NotFound, OtherSpelling, Forbidden.
    """
    authorize(who, Action.QUARANTINE, name, None)
    async with db.transaction() as conn:
        package = check_name(await store.find(conn, name, who.user_id, lock=True), name)
        if package.quarantine_reason == reason:
            return
        await status.quarantine(conn, package.id, reason)
        if reason is None:
            await _conclude(conn, who, package, None, event_log.PACKAGE_RELEASED)
        else:
            await _conclude(conn, who, package, None, event_log.PACKAGE_QUARANTINED, {"reason": reason})


class QuarantinedPackage(TypedDict):
    """A package in quarantine. `since` is None if the audit log no longer has the entry."""

    id: int
    name: str
    description: str
    reason: str
    since: datetime | None


async def list_quarantined(db: Database, who: Principal, before: int, count: int) -> list[QuarantinedPackage]:
    """Up to `count` packages in quarantine with ids below `before`, newest first. Raises Forbidden: admins only."""
    who.require("admin")
    async with db.read() as conn:
        rows = await status.quarantine_page(conn, before, count)
    return [
        {
            "id": row.id,
            "name": row.name,
            "description": row.description,
            "reason": row.reason,
            "since": row.since,
        }
        for row in rows
    ]


async def _find_version(conn: Connection, who: Principal, action: Action, name: str, version: str) -> tuple[Any, Any]:
    """Locks the package and returns it with its live version. Raises Forbidden unless `who` may do `action`."""
    package = await _find_package(conn, who, name)
    state = await store.version_state(conn, package.id, canonical_of(version))
    if state is None or state.deleted_at is not None or not is_address_of(version, state.version):
        raise no_version(name, version)
    authorize(who, action, package.name, package.role)
    return package, state


async def _find_package(conn: Connection, who: Principal, name: str) -> Any:
    """Locks and returns the package with the role of `who`.

    Raises NotFound when it has no live version, and Quarantined unless `who` is an admin.
    """
    package = check_name(await store.find(conn, name, who.user_id, lock=True), name)
    check_quarantine(who, package.name, package.quarantine_reason)
    if package.latest_version_id is None and package.quarantine_reason is None:
        raise no_package(name)
    return package


async def _conclude(
    conn: Connection, who: Principal, package: Any, version: str | None, kind: str, data: dict[str, Any] | None = None
) -> None:
    await store.refresh(conn, package.id)
    audit.write_with_commit(conn, _ACTIONS[kind], who.actor, package_id=package.id, version=version, details=data)
    await event_log.append(
        conn, kind, package_id=package.id, package=package.name, version=version, actor_id=who.user_id, data=data
    )
