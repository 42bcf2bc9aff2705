"""The list of all users, for admins. Accounts that have ended are not in it."""

from dataclasses import dataclass
from datetime import datetime

from registry.accounts.identity import Principal
from registry.accounts.listing import store
from registry.db.engine import Database, Row
from registry.errors import NotFound


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which users are wanted. `text` is a part of the name or the address, in any case. None means any."""

    text: str = ""
    role: str | None = None
    active: bool | None = None


@dataclass(frozen=True, slots=True)
class ListedUser:
    """A user as admins see it. `last_sign_in_at` is None if the audit log has no sign-in of the user."""

    id: int
    username: str
    email: str | None
    email_verified_at: datetime | None
    role: str
    is_active: bool
    created_at: datetime
    has_authenticator: bool
    passkeys: int
    packages: int
    last_sign_in_at: datetime | None

    @property
    def has_factors(self) -> bool:
        return self.has_authenticator or self.passkeys > 0


async def list_users(db: Database, who: Principal, wanted: Wanted, before: int, count: int) -> list[ListedUser]:
    """Up to `count` users with ids below `before`, newest first. Raises Forbidden unless `who` is an admin."""
    who.require("admin")
    async with db.read() as conn:
        rows = await store.page(conn, wanted.text, wanted.role, wanted.active, before, count)
    return [_listed(row) for row in rows]


async def find_user(db: Database, who: Principal, username: str) -> ListedUser:
    """The user of this name, in any case. Raises NotFound, and Forbidden unless `who` is an admin."""
    who.require("admin")
    async with db.read() as conn:
        row = await store.find(conn, username)
    if row is None:
        raise NotFound(f"There is no user {username!r}.")
    return _listed(row)


def _listed(row: Row) -> ListedUser:
    return ListedUser(**{name: getattr(row, name) for name in ListedUser.__slots__})
