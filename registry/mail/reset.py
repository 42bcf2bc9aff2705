"""Resets a forgotten password by a link in a mail."""

import asyncio
import logging

from registry.accounts import passwords
from registry.accounts import store as accounts
from registry.accounts.delays import attempt
from registry.db.engine import Database
from registry.errors import InvalidInput, InvalidLink
from registry.events import audit
from registry.events.audit import Actor, Origin
from registry.events.notices import KIND
from registry.jobs import queue
from registry.mail import store
from registry.mail.addresses import NOT_VALID
from registry.mail.send import hash_token
from registry.mail.texts import RESET
from registry.setting_parts import AccountSettings

log = logging.getLogger(__name__)

# About ten minutes. The user waits for the link, so later attempts are useless.
ATTEMPTS = 8


async def request(db: Database, address: str) -> None:
    """Sends a link to `address`, if an account has it.

    Whether one has it is decided when the job runs, so that neither the answer nor its time reveals it.
    """
    async with db.transaction() as conn:
        await queue.enqueue(conn, KIND, {"action": RESET, "to": address}, max_attempts=ATTEMPTS)


async def confirm(db: Database, settings: AccountSettings, token: str, password: str, origin: Origin) -> None:
    """Sets the password of the user of a link, and verifies the address.

    Ends all sessions, API tokens, login delays and other links of the user. Second factors stay. Raises InvalidLink,
    and InvalidInput for a weak password, which does not use up the link.
    """
    async with db.read() as conn:
        found = await store.find_token(conn, hash_token(token), RESET)
    if found is None:
        raise InvalidLink(NOT_VALID)
    problems = await asyncio.to_thread(
        passwords.check_strength,
        password,
        username=found.username,
        email=found.email,
        breached=settings.breached_passwords,
    )
    if problems:
        raise InvalidInput.of(problems)
    fresh = await passwords.hash_password(password, settings.pbkdf2_iterations)
    async with db.transaction() as conn:
        # The lock makes two requests with one token follow each other, and keeps the address from changing.
        if await accounts.lock_user(conn, found.user_id) is None:
            raise InvalidLink(NOT_VALID)
        user = await accounts.user_by_id(conn, found.user_id)
        if user is None or await store.find_token(conn, hash_token(token), RESET) is None:
            raise InvalidLink(NOT_VALID)
        await store.end_tokens(conn, found.user_id, RESET)
        await store.verify(conn, found.user_id)
        await accounts.set_password(conn, found.user_id, fresh)
        await accounts.delete_api_tokens(conn, found.user_id)
        await attempt.forget(conn, settings, user[0])
        audit.write_with_commit(conn, "password.reset", Actor(found.user_id, origin=origin))
    log.info("password reset by mail", extra={"user_id": found.user_id})
