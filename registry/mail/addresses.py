"""Verifies and changes e-mail addresses."""

import logging

from registry.accounts import store as accounts
from registry.accounts.identity import Principal, User
from registry.accounts.register import email_taken
from registry.accounts.sessions.manage import lock_user
from registry.db.engine import Connection, ConstraintViolated, Database
from registry.errors import Conflict, InvalidInput, InvalidLink, NotFound, TooManyRequests
from registry.events import audit
from registry.events.audit import Actor, Origin
from registry.events.notices import KIND, MAX_ATTEMPTS
from registry.jobs import queue
from registry.mail import store
from registry.mail.send import MOST_PER_ADDRESS, PER, hash_token
from registry.mail.texts import OLD_ADDRESS, VERIFY

log = logging.getLogger(__name__)

NOT_VALID = "The link is wrong, was used, or has expired. Ask for another mail."


async def verify(db: Database, token: str, origin: Origin) -> None:
    """Marks the address of a link as verified. Raises InvalidLink."""
    async with db.transaction() as conn:
        found = await store.find_token(conn, hash_token(token), VERIFY)
        # The lock keeps the address from changing until this transaction ends.
        if found is None or await accounts.lock_user(conn, found.user_id) is None:
            raise InvalidLink(NOT_VALID)
        if await store.find_token(conn, hash_token(token), VERIFY) is None:
            raise InvalidLink(NOT_VALID)
        await store.end_tokens(conn, found.user_id, VERIFY)
        await store.verify(conn, found.user_id)
        audit.write_with_commit(conn, "email.verify", Actor(found.user_id, origin=origin))
    log.info("email address verified", extra={"user_id": found.user_id})


async def resend(db: Database, principal: Principal) -> None:
    """Sends the link that verifies the user's address again.

    Raises InvalidInput without an address, Conflict if it is verified, TooManyRequests.
    """
    async with db.transaction() as conn:
        await lock_user(conn, principal)
        user = await _user(conn, principal)
        if not user.email:
            raise InvalidInput.field("email", "is missing: add an address first")
        if user.email_verified_at is not None:
            raise Conflict("Your e-mail address is verified already.")
        if await store.count_tokens(conn, VERIFY, user.email, PER) >= MOST_PER_ADDRESS:
            seconds = int(PER.total_seconds())
            raise TooManyRequests(
                f"{MOST_PER_ADDRESS} mails were sent to this address within an hour. Try again later.",
                headers={"Retry-After": str(seconds)},
            )
        await _send(conn, VERIFY, user.email, user)


async def change(db: Database, principal: Principal, address: str) -> User:
    """Gives the user another address, which must be verified. Mails both addresses. The caller has confirmed the user.

    Raises UserExists if another user has the address.
    """
    try:
        async with db.transaction() as conn:
            await lock_user(conn, principal)
            user = await _user(conn, principal)
            if user.email == address:
                return user
            await store.set_email(conn, user.id, address)
            if user.email and user.email.lower() != address.lower():
                await _send(conn, OLD_ADDRESS, user.email, user)
            await _send(conn, VERIFY, address, user)
            audit.write_with_commit(conn, "email.change", principal.actor)
            changed = await _user(conn, principal)
    except ConstraintViolated as violated:
        if violated.constraint == accounts.EMAIL_TAKEN:
            raise email_taken() from None
        raise
    log.info("email address changed", extra={"user_id": user.id})
    return changed


async def _user(conn: Connection, principal: Principal) -> User:
    found = await accounts.user_by_id(conn, principal.user_id)
    if found is None:
        raise NotFound("This user no longer exists.")
    return found[0]


async def _send(conn: Connection, action: str, to: str, user: User) -> None:
    await queue.enqueue(conn, KIND, {"action": action, "to": to, "name": user.username}, max_attempts=MAX_ATTEMPTS)
