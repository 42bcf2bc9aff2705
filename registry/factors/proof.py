"""Makes a signed-in user prove once more who they are: by the password, or by a code of a second factor.

A stolen session must not be enough to change how the user signs in, so such changes need this proof.
"""

import logging
from datetime import UTC, datetime
from typing import NamedTuple

from registry.accounts import login, passwords, tokens
from registry.accounts import store as accounts
from registry.accounts.delays import attempt
from registry.accounts.identity import Principal, User
from registry.db.engine import Connection, Database
from registry.errors import ConfirmationRequired, Unauthorized
from registry.factors import codes, store
from registry.sealing import Sealer
from registry.setting_parts import AccountSettings

log = logging.getLogger(__name__)

TOTP, RECOVERY_CODE, PASSKEY = "totp", "recovery_code", "passkey"

CLOCK_ADVICE = (
    "Each code works once, and codes of an app change every 30 seconds: check that the clock of your device is right."
)


class Proof(NamedTuple):
    """What the user gives as a proof; either is enough. `code` is one of an authenticator app or a recovery code."""

    password: str | None = None
    code: str | None = None


def sealer(settings: AccountSettings) -> Sealer:
    """Encrypts the secrets of authenticator apps."""
    return Sealer(settings.secret_keys, "totp")


async def confirm(db: Database, settings: AccountSettings, principal: Principal, proof: Proof, address: str) -> User:
    """Returns the user if `proof` is right. Wrong proofs count as wrong logins.

    A principal with `is_confirmed` needs no proof.
    `address` is that of the client, which delays count by. Raises Forbidden for an API token, ConfirmationRequired,
    TooManyFailures after too many wrong proofs.
    """
    principal.require_login()
    async with db.read() as conn:
        found = await accounts.user_by_id(conn, principal.user_id)
    if found is None:
        raise Unauthorized(tokens.NOT_VALID)
    user, stored = found
    if proof.password is None and proof.code is None:
        if principal.is_confirmed:
            return user
        raise ConfirmationRequired("Confirm this with your `password`, or with a `code` of a second factor.")
    known = await attempt.is_known(db, settings, user.username, address)
    counters = [
        attempt.of_session(settings, user.id),
        *attempt.of_login(settings, user.username, address, known=known),
    ]
    this_attempt = await attempt.begin(db, counters)
    if not await _is_right(db, settings, user, stored, proof):
        log.info("confirmation wrong", extra={"user_id": user.id, "client": address})
        await this_attempt.failed(login.note_failure(user.id, principal.origin, "confirmation"))
        raise ConfirmationRequired(f"The password or the code is wrong. {CLOCK_ADVICE}")
    await this_attempt.succeeded(attempt.of_user(settings, user, address, known=known))
    return user


async def has_code(db: Database, user_id: int) -> bool:
    """Whether the user has an authenticator app or recovery codes, so that a code can be a proof."""
    async with db.read() as conn:
        factors = await store.summary(conn, user_id)
    return factors.totp or factors.recovery_codes > 0


async def use_code(conn: Connection, settings: AccountSettings, user_id: int, code: str) -> str | None:
    """Uses up a code of the user. Returns what it is, TOTP or RECOVERY_CODE; None if it is wrong or was used before."""
    if not codes.is_totp(code):
        return RECOVERY_CODE if await store.use_recovery_code(conn, user_id, codes.hash_recovery_code(code)) else None
    kept = await store.totp(conn, user_id)
    if kept is None or kept.confirmed_at is None:
        return None
    step = codes.step_of(sealer(settings).open(kept.sealed).decode(), code, datetime.now(UTC))
    return TOTP if step is not None and await store.use_step(conn, user_id, step) else None


async def _is_right(db: Database, settings: AccountSettings, user: User, stored: str, proof: Proof) -> bool:
    if proof.password is not None and await passwords.verify_password(
        proof.password, stored, settings.pbkdf2_iterations
    ):
        return True
    if proof.code is None:
        return False
    async with db.transaction() as conn:
        return await use_code(conn, settings, user.id, proof.code) is not None
