"""What owners and admins do to what is published: delete, restore, yank, deprecate.

Each locks the package row, checks the right, changes one thing, refreshes what the package shows and appends the event.
"""

from typing import Any

from registry.accounts.identity import Principal
from registry.db.engine import Connection, Database
from registry.errors import Conflict, Forbidden
from registry.events import log as event_log
from registry.packages import store
from registry.packages.read import canonical_of, no_package, no_version, same


async def delete_version(db: Database, who: Principal, name: str, version: str) -> None:
    """Leaves a tombstone: gone from every read, its number spent. Raises NotFound, Elsewhere, Forbidden."""
    async with db.transaction() as conn:
        package, state = await _owned(conn, who, name, version)
        await store.delete_version(conn, state.id)
        await _conclude(conn, who, package, state.version, event_log.VERSION_DELETED)


async def restore_version(db: Database, who: Principal, name: str, version: str) -> None:
    """Brings a deleted version back within its grace. Admins only.

    Raises Forbidden, NotFound, Elsewhere, and Conflict when it is not deleted or its tarball is gone.
    """
    if not who.is_admin:
        raise Forbidden("Only an admin can restore a deleted version.")
    async with db.transaction() as conn:
        package = same(await store.find(conn, name, lock=True), name)
        state = await store.version_state(conn, package.id, canonical_of(version))
        if state is None:
            raise no_version(name, version)
        if state.deleted_at is None:
            raise Conflict(f"{package.name} {state.version} is not deleted.")
        if not await store.restore_version(conn, state.id):
            raise Conflict(f"{package.name} {state.version} can't be restored: its grace is over and its tarball gone.")
        await _conclude(conn, who, package, state.version, event_log.VERSION_RESTORED)


async def yank_version(db: Database, who: Principal, name: str, version: str, yanked: bool, reason: str) -> None:
    """Marks a version as one that nobody should newly depend on (or unmarks it); it stays installable.

    Raises NotFound, Elsewhere, Forbidden.
    """
    async with db.transaction() as conn:
        package, state = await _owned(conn, who, name, version)
        reason = reason if yanked else ""
        if (state.yanked, state.yank_reason) == (yanked, reason):
            return
        await store.yank(conn, state.id, yanked, reason)
        kind = event_log.VERSION_YANKED if yanked else event_log.VERSION_UNYANKED
        await _conclude(conn, who, package, state.version, kind, {"reason": reason} if yanked else None)


async def deprecate_package(db: Database, who: Principal, name: str, text: str | None) -> None:
    """Sets the sentence that tells users what to take instead; None takes it back.

    Raises NotFound, Elsewhere, Forbidden.
    """
    async with db.transaction() as conn:
        package = await _shown(conn, name)
        _check_owner(who, package)
        await store.deprecate(conn, package.id, text)
        kind = event_log.PACKAGE_DEPRECATED if text else event_log.PACKAGE_UNDEPRECATED
        await _conclude(conn, who, package, None, kind, {"text": text} if text else None)


async def _owned(conn: Connection, who: Principal, name: str, version: str) -> tuple[Any, Any]:
    """The locked package and the live version, which `who` may change."""
    package = await _shown(conn, name)
    state = await store.version_state(conn, package.id, canonical_of(version))
    if state is None or state.deleted_at is not None:
        raise no_version(name, version)
    _check_owner(who, package)
    return package, state


async def _shown(conn: Connection, name: str) -> Any:
    """The locked package, which has a live version."""
    package = same(await store.find(conn, name, lock=True), name)
    if package.latest_version_id is None:
        raise no_package(name)
    return package


def _check_owner(who: Principal, package: Any) -> None:
    who.require("yank", package.name)
    if package.owner_id != who.user_id and not who.is_admin:
        raise Forbidden(f"{package.name} belongs to somebody else; only its owner or an admin can do this.")


async def _conclude(
    conn: Connection, who: Principal, package: Any, version: str | None, kind: str, data: dict[str, Any] | None = None
) -> None:
    await store.refresh(conn, package.id)
    await event_log.append(
        conn, kind, package_id=package.id, package=package.name, version=version, actor_id=who.user_id, data=data
    )
