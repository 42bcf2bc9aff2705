"""What operators and admins do with accounts of others, and the purge of expired logins.

`who` is the admin, or None for a command on the server, which may do everything. An admin can't change their own
account here, so that one admin always remains.
"""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from registry.accounts import passwords, store
from registry.accounts.delays import attempt
from registry.accounts.identity import ROLES, Principal, User
from registry.accounts.sessions import manage as sessions
from registry.db.engine import Database
from registry.errors import Conflict, InvalidInput, NotFound
from registry.events import audit
from registry.events.audit import OPERATOR, Actor
from registry.setting_parts import AccountSettings

log = logging.getLogger(__name__)

# Revoked logins are kept this long after they expire, because a machine's clock may be slow.
CLOCK_TOLERANCE = timedelta(hours=1)


def actor_of(who: Principal | None) -> Actor:
    """The actor of an act on somebody's account. Raises Forbidden unless `who` is an admin or None."""
    if who is None:
        return OPERATOR
    who.require("admin")
    return who.actor


def check_other(who: Principal | None, user: User) -> None:
    """Raises Conflict if `user` is the account of `who`."""
    if who is not None and who.user_id == user.id:
        raise Conflict("This is your own account. Ask another admin, or use the command `synapse-registry user`.")


async def set_role(db: Database, username: str, role: str, who: Principal | None = None) -> User:
    """Changes the role of a user, effective at once.

    Raises InvalidInput for an unknown role, NotFound, Forbidden, and Conflict for the admin's own account.
    """
    actor = actor_of(who)
    if role not in ROLES:
        raise InvalidInput.field("role", f"must be {' or '.join(ROLES)}")
    async with db.transaction() as conn:
        user = _found(await store.set_role(conn, username, role), username)
        check_other(who, user)
        audit.write_with_commit(conn, "user.role", actor, account_id=user.id, details={"role": role})
    log.info("role changed", extra={"user_id": user.id, "role": role})
    return user


async def reset_password(db: Database, settings: AccountSettings, username: str, password: str) -> User:
    """Sets the password of a user. Ends all logins, API tokens and login delays of the user.

    Raises InvalidInput for a weak password, NotFound.
    """
    async with db.read() as conn:
        user = _found(await store.user_by_username(conn, username), username)
    problems = await asyncio.to_thread(
        passwords.check_strength,
        password,
        username=user.username,
        email=user.email or "",
        breached=settings.breached_passwords,
    )
    if problems:
        raise InvalidInput.of(problems)
    password_hash = await passwords.hash_password(password, settings.pbkdf2_iterations)
    async with db.transaction() as conn:
        await store.set_password(conn, user.id, password_hash)
        await store.delete_api_tokens(conn, user.id)
        await attempt.forget(conn, settings, user)
        audit.write_with_commit(conn, "password.reset", OPERATOR, account_id=user.id)
    log.info("password reset", extra={"user_id": user.id})
    return user


async def deactivate(db: Database, username: str, who: Principal | None = None) -> User:
    """Deactivates the account: its logins and API tokens end for good, and it can't sign in.

    Raises NotFound, Forbidden, and Conflict for the admin's own account.
    """
    actor = actor_of(who)
    async with db.transaction() as conn:
        user = _found(await store.set_active(conn, username, active=False), username)
        check_other(who, user)
        await store.delete_api_tokens(conn, user.id)
        audit.write_with_commit(conn, "user.deactivate", actor, account_id=user.id)
    log.info("user deactivated", extra={"user_id": user.id})
    return user


async def reactivate(db: Database, username: str, who: Principal | None = None) -> User:
    """Lets a deactivated user sign in again. Raises NotFound, Forbidden, and Conflict for the admin's own account."""
    actor = actor_of(who)
    async with db.transaction() as conn:
        user = _found(await store.set_active(conn, username, active=True), username)
        check_other(who, user)
        audit.write_with_commit(conn, "user.reactivate", actor, account_id=user.id)
    log.info("user reactivated", extra={"user_id": user.id})
    return user


async def verify_email(db: Database, username: str) -> User:
    """Marks the address of a user as verified, in a registry without mail. Raises NotFound, Conflict without one."""
    async with db.transaction() as conn:
        user = _found(await store.user_by_username(conn, username), username)
        if user.email is None:
            raise Conflict(f"{user.username} has no e-mail address.")
        if await store.verify_email(conn, user.id):
            audit.write_with_commit(conn, "email.verify", OPERATOR, account_id=user.id)
    log.info("address verified", extra={"user_id": user.id})
    return user


async def purge_expired(db: Database) -> int:
    """Deletes revoked logins that have expired, and the sessions that are over. Returns how many logins."""
    await sessions.purge(db)
    async with db.transaction() as conn:
        return await store.purge_revoked(conn, datetime.now(UTC) - CLOCK_TOLERANCE)


def _found(user: User | None, username: str) -> User:
    if user is None:
        raise NotFound(f"There is no user {username!r}.")
    return user
