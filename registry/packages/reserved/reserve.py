"""Reserved names: only admins may publish a new package under them.

Some names are reserved in every registry (`package_format/names.py`). Admins reserve more. A package that exists
already is not affected.
"""

from datetime import datetime

from typing_extensions import TypedDict

from registry.accounts.identity import Principal
from registry.db.engine import Database
from registry.errors import Conflict, NameReserved, NotFound
from registry.events import audit
from registry.package_format import names
from registry.packages.reserved import store


class ReservedName(TypedDict):
    """A name that `username` reserved. `has_package` says whether a package has it, or one that is too similar."""

    id: int
    name: str
    reason: str
    username: str
    created_at: datetime
    has_package: bool


def refuse_reserved(who: Principal, name: str, *, is_reserved: bool) -> None:
    """Raises NameReserved if `name` is reserved and `who` is no admin. Call it for names that have no package.

    `is_reserved` says whether an admin has reserved the name.
    """
    if (is_reserved or name in names.RESERVED) and not who.is_admin:
        raise NameReserved(f"The name {name} is reserved. Choose another name.")


async def list_names(db: Database, who: Principal, before: int, count: int) -> list[ReservedName]:
    """Up to `count` names that admins reserved, newest first. Raises Forbidden unless `who` is an admin."""
    who.require("admin")
    async with db.read() as conn:
        rows = await store.page(conn, before, count)
    return [
        {
            "id": row.id,
            "name": row.name,
            "reason": row.reason,
            "username": row.username,
            "created_at": row.created_at,
            "has_package": row.has_package,
        }
        for row in rows
    ]


async def reserve_name(db: Database, who: Principal, name: str, reason: str) -> None:
    """Reserves a name. Raises InvalidInput, Forbidden unless `who` is an admin, Conflict if it is reserved already."""
    who.require("admin")
    names.validate_name(name)
    async with db.transaction() as conn:
        key = names.similarity_key(name)
        if name in names.RESERVED or not await store.add(conn, name, key, reason, who.user_id):
            raise Conflict(f"The name {name}, or one that is too similar, is reserved already.")
        audit.write_with_commit(conn, "name.reserve", who.actor, details={"name": name, "reason": reason})


async def release_name(db: Database, who: Principal, reserved: int) -> None:
    """Lets everybody publish under a reserved name. Raises NotFound, Forbidden unless `who` is an admin."""
    who.require("admin")
    async with db.transaction() as conn:
        name = await store.delete(conn, reserved)
        if name is None:
            raise NotFound("There is no reserved name with this id.")
        audit.write_with_commit(conn, "name.release", who.actor, details={"name": name})
