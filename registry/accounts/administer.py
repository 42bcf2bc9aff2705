"""What an operator does to accounts, and the housekeeping of them."""

from datetime import UTC, datetime, timedelta

from registry.accounts import store
from registry.accounts.identity import ROLES, User
from registry.db.engine import Database
from registry.errors import InvalidInput, NotFound

# A revoked login is remembered until no machine, however slow its clock, takes it for one that hasn't expired.
CLOCKS_DIFFER = timedelta(hours=1)


async def set_role(db: Database, username: str, role: str) -> User:
    """Gives the user another of ROLES, at once. Raises InvalidInput for no such role, NotFound for no such user."""
    if role not in ROLES:
        raise InvalidInput.field("role", f"must be {' or '.join(ROLES)}")
    async with db.transaction() as conn:
        return _found(await store.set_role(conn, username, role), username)


async def deactivate(db: Database, username: str) -> User:
    """Ends the account's logins and API tokens for good, and lets it make no others. Raises NotFound."""
    async with db.transaction() as conn:
        user = _found(await store.set_active(conn, username, active=False), username)
        await store.delete_api_tokens(conn, user.id)
    return user


async def reactivate(db: Database, username: str) -> User:
    """Lets a deactivated user sign in again. Raises NotFound."""
    async with db.transaction() as conn:
        return _found(await store.set_active(conn, username, active=True), username)


async def purge_expired(db: Database) -> int:
    """Forgets revoked logins that have expired since; how many."""
    async with db.transaction() as conn:
        return await store.purge_revoked(conn, datetime.now(UTC) - CLOCKS_DIFFER)


def _found(user: User | None, username: str) -> User:
    if user is None:
        raise NotFound(f"There is no user {username!r}.")
    return user
