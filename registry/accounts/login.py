"""Signing in and out, and changing the password."""

import asyncio
from datetime import UTC, datetime

from registry.accounts import passwords, store, tokens
from registry.accounts.identity import Principal, User
from registry.db.engine import Database
from registry.errors import Conflict, FieldError, InvalidInput, Unauthorized
from registry.settings import AccountSettings

# One text for every reason, so that it doesn't tell which users there are.
WRONG = "The user name or the password is wrong."


async def login(
    db: Database, settings: AccountSettings, name_or_email: str, password: str
) -> tuple[User, str, datetime]:
    """(the user, a new token, when it expires). The case of the name doesn't matter.

    Raises Unauthorized, after the same work and with the same text, for an unknown or inactive user and for a wrong
    password.
    """
    found = await _find(db, name_or_email)
    user, stored = found if found is not None and found[0].is_active else (None, None)
    matches = await passwords.verify_password(password, stored, settings.pbkdf2_iterations)
    if user is None or stored is None or not matches:
        raise Unauthorized(WRONG)
    if passwords.needs_rehash(stored, settings.pbkdf2_iterations):
        fresh = await passwords.hash_password(password, settings.pbkdf2_iterations)
        async with db.transaction() as conn:
            await store.rehash(conn, user.id, seen=stored, fresh=fresh)
    return user, *tokens.issue(user, settings, datetime.now(UTC))


async def logout(db: Database, principal: Principal) -> None:
    """Ends the login, or the API token, that `principal` came by. Doing it again changes nothing."""
    async with db.transaction() as conn:
        if principal.token_id is not None:
            await store.delete_api_token(conn, principal.user_id, principal.token_id)
        elif principal.jti is not None and principal.expires_at is not None:
            await store.revoke(conn, principal.jti, principal.expires_at)


async def change_password(
    db: Database, settings: AccountSettings, principal: Principal, current: str, new: str
) -> tuple[User, str, datetime]:
    """(the user, a new token, when it expires); every other login and API token of the user ends.

    Raises Forbidden for an API token, InvalidInput for `current_password` and `new_password`, Conflict when another
    change came first.
    """
    principal.require_login()
    async with db.read() as conn:
        found = await store.user_by_id(conn, principal.user_id)
    if found is None:
        raise Unauthorized(tokens.NOT_VALID)
    user, stored = found
    problems: list[FieldError] = []
    if not await passwords.verify_password(current, stored, settings.pbkdf2_iterations):
        problems.append({"field": "current_password", "message": "is wrong"})
    problems += await asyncio.to_thread(
        passwords.check_strength, new, username=user.username, email=user.email or "", field="new_password"
    )
    if problems:
        raise InvalidInput.of(problems)
    fresh = await passwords.hash_password(new, settings.pbkdf2_iterations)
    async with db.transaction() as conn:
        changed = await store.change_password(conn, user.id, seen=stored, fresh=fresh)
        if changed is None:
            raise Conflict("The password was changed meanwhile. Sign in again.")
        await store.delete_api_tokens(conn, user.id)
    return changed, *tokens.issue(changed, settings, datetime.now(UTC))


async def _find(db: Database, name_or_email: str) -> tuple[User, str] | None:
    # NUL and lone surrogates are in no name or address, and PostgreSQL can't be asked for them.
    if not name_or_email.isprintable():
        return None
    async with db.read() as conn:
        return await store.user_by_login(conn, name_or_email)
