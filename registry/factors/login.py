"""Signs in with a second factor after the password, or with a passkey alone."""

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from registry.accounts import login
from registry.accounts import store as accounts
from registry.accounts.delays import attempt
from registry.accounts.identity import User
from registry.accounts.sessions.manage import Browser, Login
from registry.db.engine import Connection, Database
from registry.errors import SecondFactorRequired, Unauthorized, WrongCode
from registry.events.audit import Origin
from registry.factors import passkeys, proof, store
from registry.factors.passkeys import Site
from registry.factors.proof import PASSKEY, RECOVERY_CODE, TOTP
from registry.factors.totp import WRONG_CODE
from registry.setting_parts import AccountSettings

VALID_FOR = timedelta(minutes=5)
MAX_ATTEMPTS = 5

REQUIRED = (
    "A second factor is needed: repeat the request with `challenge` and `code`, or with `challenge` and `passkey`."
)
OVER = "This login has expired, or there were too many wrong codes. Sign in with your password again."

Prove = Callable[[Connection, User], Awaitable[str | None]]
"""Returns the factor that the user proved, None for a wrong code. Raises Unauthorized for a wrong passkey."""


def second_step(settings: AccountSettings, site: Site | None) -> login.SecondStep:
    """The second step of a login with a password. `site` is None where passkeys don't work."""

    async def begin_second_step(conn: Connection, user: User) -> SecondFactorRequired | None:
        return await begin(conn, settings, user, site)

    return begin_second_step


async def begin(
    conn: Connection, settings: AccountSettings, user: User, site: Site | None
) -> SecondFactorRequired | None:
    """Called when the user's password is right. Returns the error that asks for a second factor; None without one.

    Its members are `challenge`, `methods`, and with passkeys `passkey`, the options of WebAuthn.
    """
    factors = await store.summary(conn, user.id)
    if not factors.has_factor:
        return None
    challenge = secrets.token_urlsafe(32)
    await store.add_login(conn, user, _digest(challenge), datetime.now(UTC) + VALID_FOR)
    keys = await store.passkeys_of(conn, user.id) if site else []
    possible = {TOTP: factors.totp, RECOVERY_CODE: factors.recovery_codes > 0, PASSKEY: bool(keys)}
    methods = [method for method, is_possible in possible.items() if is_possible]
    members: dict[str, Any] = {"challenge": challenge, "methods": methods}
    if site and keys:
        members["passkey"] = passkeys.login_options(settings, site, keys)
    return SecondFactorRequired(REQUIRED, members=members)


async def answer_with_code(
    db: Database,
    settings: AccountSettings,
    challenge: str,
    code: str,
    address: str,
    origin: Origin,
    browser: Browser | None = None,
) -> Login:
    """Returns (the user, a new token, its expiry). `code` is one of an app or a recovery code.

    With `browser`, the session is that of a browser.

    Raises WrongCode, Unauthorized if the challenge is over, TooManyFailures.
    """

    async def prove(conn: Connection, user: User) -> str | None:
        return await proof.use_code(conn, settings, user.id, code)

    return await _answer(db, settings, challenge, address, origin, prove, browser)


async def answer_with_passkey(
    db: Database,
    settings: AccountSettings,
    challenge: str,
    credential: dict[str, Any],
    address: str,
    origin: Origin,
    site: Site,
    browser: Browser | None = None,
) -> Login:
    """Returns (the user, a new token, its expiry). With `browser`, the session is that of a browser.

    Raises Unauthorized, TooManyFailures.
    """

    async def prove(conn: Connection, user: User) -> str | None:
        signer = await passkeys.verify(conn, settings, credential, site, must_verify_user=False)
        if signer != user.id:
            raise Unauthorized(passkeys.NOT_ACCEPTED)
        return PASSKEY

    return await _answer(db, settings, challenge, address, origin, prove, browser)


async def options(db: Database, settings: AccountSettings, challenge: str | None, site: Site) -> dict[str, Any]:
    """PublicKeyCredentialRequestOptions as JSON: for the second step of a login, or without `challenge` for any user.

    Raises Unauthorized if the challenge is over.
    """
    if challenge is None:
        return passkeys.login_options(settings, site)
    async with db.read() as conn:
        user = await store.login_user(conn, _digest(challenge), now=datetime.now(UTC), most=MAX_ATTEMPTS)
        if user is None:
            raise Unauthorized(OVER)
        return passkeys.login_options(settings, site, await store.passkeys_of(conn, user.id))


async def log_in_with_passkey(
    db: Database,
    settings: AccountSettings,
    credential: dict[str, Any],
    address: str,
    origin: Origin,
    site: Site,
    browser: Browser | None = None,
) -> Login:
    """Returns (the user, a new token, its expiry). The passkey must have verified the user.

    With `browser`, the session is that of a browser.

    Raises Unauthorized, and TooManyFailures after too many failures from this address.
    """
    this_attempt = await attempt.begin(db, attempt.of_address(settings, address))
    try:
        async with db.transaction() as conn:
            user = await _user_of_passkey(conn, settings, credential, site)
    except Unauthorized:
        await this_attempt.failed(login.note_failure(None, origin, PASSKEY))
        raise
    # `known=True` keeps the failures of other networks: a passkey is not guessed, so it says nothing about them.
    return await login.sign_in(
        settings, this_attempt, user, address, origin, known=True, method=PASSKEY, browser=browser
    )


async def _answer(
    db: Database,
    settings: AccountSettings,
    challenge: str,
    address: str,
    origin: Origin,
    prove: Prove,
    browser: Browser | None,
) -> Login:
    digest, now = _digest(challenge), datetime.now(UTC)
    async with db.read() as conn:
        user = await store.login_user(conn, digest, now=now, most=MAX_ATTEMPTS)
    if user is None:
        raise Unauthorized(OVER)
    known = await attempt.is_known(db, settings, user.username, address)
    this_attempt = await attempt.begin(db, attempt.of_login(settings, user.username, address, known=known))
    # Counted before the check, so that concurrent guesses are limited as well.
    async with db.transaction() as conn:
        user = await store.claim_login(conn, digest, now=now, most=MAX_ATTEMPTS)
    if user is None:
        raise Unauthorized(OVER)
    try:
        async with db.transaction() as conn:
            method = await _end_login(conn, user, digest, prove)
    except Unauthorized:
        await this_attempt.failed(login.note_failure(user.id, origin, "second factor"))
        raise
    return await login.sign_in(
        settings, this_attempt, user, address, origin, known=known, method=method, browser=browser
    )


async def _end_login(conn: Connection, user: User, digest: str, prove: Prove) -> str:
    """Ends the login if its user proves a second factor. Returns which one. Raises WrongCode, Unauthorized."""
    method = await prove(conn, user)
    if method is None:
        raise WrongCode(WRONG_CODE)
    if not await store.end_login(conn, digest):
        raise Unauthorized(OVER)
    return method


async def _user_of_passkey(conn: Connection, settings: AccountSettings, credential: dict[str, Any], site: Site) -> User:
    user_id = await passkeys.verify(conn, settings, credential, site, must_verify_user=True)
    found = await accounts.user_by_id(conn, user_id)
    if found is None or not found[0].is_active:
        raise Unauthorized(passkeys.NOT_ACCEPTED)
    return found[0]


def _digest(challenge: str) -> str:
    return hashlib.sha256(challenge.encode("utf-8", "surrogatepass")).hexdigest()
