"""Signing in and out, and changing the password."""

import asyncio
import logging
from datetime import UTC, datetime

from registry.accounts import passwords, store, tokens
from registry.accounts.delays import attempt
from registry.accounts.identity import Principal, User
from registry.db.engine import Database
from registry.errors import Conflict, FieldError, InvalidInput, Unauthorized
from registry.settings import AccountSettings

log = logging.getLogger(__name__)

# One text for every reason, so that it doesn't tell which users there are.
WRONG = "The user name or the password is wrong."


async def login(
    db: Database, settings: AccountSettings, name_or_email: str, password: str, address: str = ""
) -> tuple[User, str, datetime]:
    """(the user, a new token, when it expires). The case of the name doesn't matter; `address` is the client's.

    Raises Unauthorized, after the same work and with the same text, for an unknown or inactive user and for a wrong
    password; TooManyFailures, before any work, when this name or this address failed too often lately.
    """
    known = await attempt.is_known(db, settings, name_or_email, address)
    trying = await attempt.begin(db, attempt.of_login(settings, name_or_email, address, known=known))
    found = await _find(db, name_or_email)
    user, stored = found if found is not None and found[0].is_active else (None, None)
    match = await passwords.verify_password(password, stored, settings.pbkdf2_iterations)
    if user is None or stored is None or not match:
        log.info("login failed", extra={"user_id": found[0].id if found else None, "client": address})
        await trying.failed()
        raise Unauthorized(WRONG)
    await trying.succeeded(
        attempt.of_user(settings, user, address, known=known), attempt.sign_ins(settings, user, address)
    )
    if match is passwords.Match.OUTDATED:
        fresh = await passwords.hash_password(password, settings.pbkdf2_iterations)
        async with db.transaction() as conn:
            await store.rehash(conn, user.id, seen=stored, fresh=fresh)
    return user, *tokens.issue(user, settings, datetime.now(UTC))


async def warn_of_breach(settings: AccountSettings, user: User, password: str) -> bool:
    """Whether the password that `user` signed in with is known from a breach, which is logged then."""
    breached = await passwords.is_breached(password, settings.breached_passwords)
    if breached:
        log.warning("login with a breached password", extra={"user_id": user.id})
    return breached


async def logout(db: Database, principal: Principal) -> None:
    """Ends the login, or the API token, that `principal` came by. Doing it again changes nothing."""
    async with db.transaction() as conn:
        if principal.token_id is not None:
            await store.delete_api_token(conn, principal.user_id, principal.token_id)
        elif principal.jti is not None and principal.expires_at is not None:
            await store.revoke(conn, principal.jti, principal.expires_at)


async def change_password(
    db: Database, settings: AccountSettings, principal: Principal, current: str, new: str, address: str = ""
) -> tuple[User, str, datetime]:
    """(the user, a new token, when it expires); every other login and API token of the user ends.

    Raises Forbidden for an API token, InvalidInput for `current_password` and `new_password`, Conflict when another
    change came first, TooManyFailures when the current password was wrong too often lately.
    """
    principal.require_login()
    session = attempt.of_session(settings, principal.user_id)
    trying = await attempt.begin(db, [session, *attempt.of_address(settings, address)])
    async with db.read() as conn:
        found = await store.user_by_id(conn, principal.user_id)
    if found is None:
        raise Unauthorized(tokens.NOT_VALID)
    user, stored = found
    problems: list[FieldError] = []
    if not await passwords.verify_password(current, stored, settings.pbkdf2_iterations):
        problems.append({"field": "current_password", "message": "is wrong"})
        log.info("current password wrong", extra={"user_id": user.id, "client": address})
        await trying.failed()
    else:
        await trying.succeeded([session])
    problems += await asyncio.to_thread(
        passwords.check_strength,
        new,
        username=user.username,
        email=user.email or "",
        field="new_password",
        breached=settings.breached_passwords,
    )
    if problems:
        raise InvalidInput.of(problems)
    fresh = await passwords.hash_password(new, settings.pbkdf2_iterations)
    async with db.transaction() as conn:
        changed = await store.change_password(conn, user.id, seen=stored, fresh=fresh)
        if changed is None:
            raise Conflict("The password was changed meanwhile. Sign in again.")
        await store.delete_api_tokens(conn, user.id)
        await attempt.forget_networks(conn, settings, user)
        await attempt.remember_network(conn, settings, user, address)
    log.info("password changed", extra={"user_id": user.id})
    return changed, *tokens.issue(changed, settings, datetime.now(UTC))


async def _find(db: Database, name_or_email: str) -> tuple[User, str] | None:
    # NUL and lone surrogates are in no name or address, and PostgreSQL can't be asked for them. A letter of another
    # script is in no name, but PostgreSQL may fold one into it, and its failures would be counted by themselves.
    if not name_or_email.isprintable() or not (name_or_email.isascii() or "@" in name_or_email):
        return None
    async with db.read() as conn:
        return await store.user_by_login(conn, name_or_email)
