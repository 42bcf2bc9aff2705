"""Signs users in and out, and changes passwords."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from registry.accounts import passwords, store, tokens
from registry.accounts.delays import attempt
from registry.accounts.identity import Principal, User, has_look_alikes
from registry.accounts.sessions import manage as sessions
from registry.accounts.sessions.manage import Browser, Login
from registry.db.engine import Connection, Database
from registry.errors import Conflict, FieldError, InvalidInput, SecondFactorRequired, Unauthorized
from registry.events import audit
from registry.events.audit import UNKNOWN_ORIGIN, Actor, Origin
from registry.setting_parts import AccountSettings

log = logging.getLogger(__name__)

# One text for every reason, so that it doesn't reveal which users exist.
WRONG = "The user name or the password is wrong."

SecondStep = Callable[[Connection, User], Awaitable[SecondFactorRequired | None]]
"""Called once the password is right, while the user is locked. Returns an error if a second factor is needed."""


async def _no_second_step(_: Connection, __: User) -> None:
    """The default SecondStep."""


async def login(
    db: Database,
    settings: AccountSettings,
    name_or_email: str,
    password: str,
    address: str = "",
    origin: Origin = UNKNOWN_ORIGIN,
    second_step: SecondStep = _no_second_step,
    browser: Browser | None = None,
) -> Login:
    """Returns (the user, a new token, its expiry). With `browser`, the session is that of a browser.

    `address` is that of the client, which delays count by. `origin` is what the audit log stores about the client.
    Raises the error of `second_step`, if there is one, instead of starting a session.

    Upper and lower case make no difference in `name_or_email`.
    Raises Unauthorized for an unknown user, a deactivated user and a wrong password, with the same text and after the
    same amount of hashing. Raises TooManyFailures, before hashing, after too many failures of this name or address.
    """
    known = await attempt.is_known(db, settings, name_or_email, address)
    this_attempt = await attempt.begin(db, attempt.of_login(settings, name_or_email, address, known=known))
    found = await _find(db, name_or_email)
    user, stored = found if found is not None and found[0].is_active else (None, None)
    match = await passwords.verify_password(password, stored, settings.pbkdf2_iterations)
    if user is None or stored is None or not match:
        log.info("login failed", extra={"user_id": found[0].id if found else None, "client": address})
        await this_attempt.failed(note_failure(found[0].id if found else None, origin))
        raise Unauthorized(WRONG)
    missing: SecondFactorRequired | None = None
    try:
        session = await sign_in(
            settings, this_attempt, user, address, origin, known=known, second_step=second_step, browser=browser
        )
    except SecondFactorRequired as error:
        missing = error
    if match is passwords.Match.OUTDATED:
        fresh = await passwords.hash_password(password, settings.pbkdf2_iterations)
        async with db.transaction() as conn:
            await store.rehash(conn, user.id, seen=stored, fresh=fresh)
    if missing is not None:
        raise missing
    return session


async def sign_in(
    settings: AccountSettings,
    this_attempt: attempt.Attempt,
    user: User,
    address: str,
    origin: Origin,
    *,
    known: bool,
    method: str = "password",
    second_step: SecondStep = _no_second_step,
    browser: Browser | None = None,
) -> Login:
    """Ends a right attempt and starts a session. `method` is what the user proved last.

    With `browser`, the session is that of a browser.

    Raises TooManyFailures, the error of `second_step`, and Unauthorized if the password was changed or the account was
    deactivated since `user` was read.
    """
    session: list[Login] = []
    missing: list[SecondFactorRequired] = []

    async def start(conn: Connection) -> bool:
        # Without the lock, a session could start after the account has ended, or skip a factor that was just added.
        if await store.lock_user(conn, user.id) != user.credentials_version:
            raise Unauthorized(WRONG)
        error = await second_step(conn, user)
        if error is not None:
            missing.append(error)
            return False
        session.append(await sessions.start(conn, settings, user, origin, browser))
        audit.write_with_commit(conn, "login.succeed", Actor(user.id, origin=origin), details={"method": method})
        return True

    resets = attempt.of_user(settings, user, address, known=known)
    await this_attempt.succeeded(resets, attempt.sign_ins(settings, user, address), start)
    if missing:
        raise missing[0]
    return session[0]


async def warn_of_breach(settings: AccountSettings, user: User, password: str) -> bool:
    """Whether the password that `user` signed in with is known from a breach. Logs a warning if it is."""
    breached = await passwords.is_breached(password, settings.breached_passwords)
    if breached:
        log.warning("login with a breached password", extra={"user_id": user.id})
    return breached


async def logout(db: Database, principal: Principal) -> None:
    """Revokes the login, or deletes the API token, of `principal`. A repeated call changes nothing."""
    async with db.transaction() as conn:
        if principal.token_id is not None:
            await store.delete_api_token(conn, principal.user_id, principal.token_id)
            details = {"token": principal.token_id}
            audit.write_with_commit(conn, "token.delete", principal.actor, details=details)
        else:
            await sessions.end_own(conn, principal)


async def change_password(
    db: Database, settings: AccountSettings, principal: Principal, current: str, new: str, address: str = ""
) -> Login:
    """Changes the password and ends all logins and API tokens of the user. Returns (the user, a new token, its expiry).

    The new session is a browser's if that of `principal` is.
    Raises Forbidden for an API token, InvalidInput for `current_password` and `new_password`, Conflict if a concurrent
    change came first, TooManyFailures after too many wrong current passwords.
    """
    principal.require_login()
    guesses = attempt.of_session(settings, principal.user_id)
    this_attempt = await attempt.begin(db, [guesses, *attempt.of_address(settings, address)])
    async with db.read() as conn:
        found = await store.user_by_id(conn, principal.user_id)
    if found is None:
        raise Unauthorized(tokens.NOT_VALID)
    user, stored = found
    problems: list[FieldError] = []
    if not await passwords.verify_password(current, stored, settings.pbkdf2_iterations):
        problems.append({"field": "current_password", "message": "is wrong"})
        log.info("current password wrong", extra={"user_id": user.id, "client": address})
        await this_attempt.failed(note_failure(user.id, principal.origin, "password change"))
    else:
        await this_attempt.succeeded([guesses])
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
            raise Conflict("Another request changed the password. Sign in again.")
        await store.delete_api_tokens(conn, user.id)
        await attempt.forget_networks(conn, settings, user)
        await attempt.remember_network(conn, settings, user, address)
        browser = None if principal.confirmed_at is None else Browser()
        session = await sessions.start(conn, settings, changed, principal.origin, browser)
        audit.write_with_commit(conn, "password.change", principal.actor)
    log.info("password changed", extra={"user_id": user.id})
    return session


def note_failure(user_id: int | None, origin: Origin, step: str = "password") -> attempt.Note:
    """Writes an audit entry about a failed login. A name that no user has is not stored: it may be a password."""

    async def note(conn: Connection) -> None:
        audit.write_with_commit(conn, "login.fail", Actor(user_id, origin=origin), details={"step": step})

    return note


async def _find(db: Database, name_or_email: str) -> tuple[User, str] | None:
    # PostgreSQL refuses NUL and lone surrogates, which no name contains. User names are ASCII, but PostgreSQL's lower()
    # turns some other letters into ASCII letters, such as U+0130 into i. Such a spelling would find the account
    # and have a failure counter of its own, so a guesser would get more guesses.
    is_other_script = has_look_alikes(name_or_email) or not (name_or_email.isascii() or "@" in name_or_email)
    if is_other_script or not name_or_email.isprintable():
        return None
    async with db.read() as conn:
        return await store.user_by_login(conn, name_or_email)
