"""Adds and removes an authenticator app, and makes recovery codes."""

import logging
from datetime import UTC, datetime
from urllib.parse import urlsplit

from typing_extensions import TypedDict

from registry.accounts import login
from registry.accounts.delays import attempt
from registry.accounts.identity import Principal
from registry.accounts.sessions.manage import lock_user
from registry.db.engine import Connection, Database
from registry.errors import ConfirmationRequired, Conflict, WrongCode
from registry.events import audit
from registry.factors import codes, proof, store
from registry.factors.proof import Proof
from registry.setting_parts import AccountSettings

log = logging.getLogger(__name__)

WRONG_CODE = f"The code is wrong or was used before. {proof.CLOCK_ADVICE}"
EXISTS = "You have an authenticator app already. Remove it first."


class TotpSetup(TypedDict):
    """`secret` is in base 32, to be typed into an app. `uri` is its otpauth:// address, for a QR code."""

    secret: str
    uri: str


async def set_up(
    db: Database, settings: AccountSettings, principal: Principal, given: Proof, address: str, public_url: str | None
) -> TotpSetup:
    """Makes a secret, which is a factor only after `confirm`. An earlier one that was not confirmed is replaced.

    Raises Forbidden, ConfirmationRequired, TooManyFailures, and Conflict if the user has an app.
    """
    user = await proof.confirm(db, settings, principal, given, address)
    secret = codes.new_secret()
    async with db.transaction() as conn:
        await lock_user(conn, principal)
        if not await store.set_totp(conn, user.id, proof.sealer(settings).seal(secret.encode())):
            raise Conflict(EXISTS)
    host = urlsplit(public_url or "").hostname or ""
    return {"secret": secret, "uri": codes.setup_uri(secret, user.username, host)}


async def confirm(db: Database, settings: AccountSettings, principal: Principal, code: str) -> list[str]:
    """Makes the new app a factor, if `code` proves that it works. Returns new recovery codes.

    Raises Forbidden, Conflict if no app waits for its first code, WrongCode, TooManyFailures after too many of them.
    """
    principal.require_login()
    this_attempt = await attempt.begin(db, [attempt.of_session(settings, principal.user_id)])
    try:
        fresh = await _confirm(db, settings, principal, code)
    except WrongCode:
        await this_attempt.failed(login.note_failure(principal.user_id, principal.origin, "first code"))
        raise
    log.info("factor added", extra={"user_id": principal.user_id, "factor": proof.TOTP})
    return fresh


async def _confirm(db: Database, settings: AccountSettings, principal: Principal, code: str) -> list[str]:
    async with db.transaction() as conn:
        await lock_user(conn, principal)
        kept = await store.totp(conn, principal.user_id)
        if kept is None:
            raise Conflict("There is no app to confirm. Begin to add one first.")
        if kept.confirmed_at is not None:
            raise Conflict(EXISTS)
        secret = proof.sealer(settings).open(kept.sealed).decode()
        step = codes.step_of(secret, code, datetime.now(UTC))
        if step is None or not await store.use_step(conn, principal.user_id, step):
            raise WrongCode(WRONG_CODE)
        await store.confirm_totp(conn, principal.user_id, seen=kept.sealed)
        fresh = await renew_recovery_codes(conn, principal.user_id)
        audit.write_with_commit(conn, "factor.add", principal.actor, details={"factor": proof.TOTP})
    return fresh


async def remove(db: Database, settings: AccountSettings, principal: Principal, code: str | None, address: str) -> None:
    """Removes the authenticator app. `code` may be a recovery code.

    Raises Forbidden, Conflict without an app, ConfirmationRequired without a code, WrongCode, TooManyFailures.
    """
    principal.require_login()
    async with db.read() as conn:
        kept = await store.totp(conn, principal.user_id)
    if kept is None or kept.confirmed_at is None:
        raise Conflict("You have no authenticator app.")
    if code is None:
        raise ConfirmationRequired("Confirm this with a `code` of the app, or with a recovery code.")
    try:
        await proof.confirm(db, settings, principal, Proof(code=code), address)
    except ConfirmationRequired:
        raise WrongCode(WRONG_CODE) from None
    async with db.transaction() as conn:
        await lock_user(conn, principal)
        if await store.delete_totp(conn, principal.user_id):
            await drop_codes_without_factor(conn, principal.user_id)
            audit.write_with_commit(conn, "factor.remove", principal.actor, details={"factor": proof.TOTP})
    log.info("factor removed", extra={"user_id": principal.user_id, "factor": proof.TOTP})


async def make_recovery_codes(
    db: Database, settings: AccountSettings, principal: Principal, given: Proof, address: str
) -> list[str]:
    """Replaces the user's recovery codes. Raises Forbidden, ConfirmationRequired, TooManyFailures, Conflict."""
    await proof.confirm(db, settings, principal, given, address)
    async with db.transaction() as conn:
        await lock_user(conn, principal)
        if not (await store.summary(conn, principal.user_id)).has_factor:
            raise Conflict("Recovery codes stand in for a second factor. Add an authenticator app or a passkey first.")
        fresh = await renew_recovery_codes(conn, principal.user_id)
        audit.write_with_commit(conn, "factor.recovery_codes", principal.actor)
    return fresh


async def renew_recovery_codes(conn: Connection, user_id: int) -> list[str]:
    fresh = codes.new_recovery_codes()
    await store.replace_recovery_codes(conn, user_id, [codes.hash_recovery_code(code) for code in fresh])
    return fresh


async def drop_codes_without_factor(conn: Connection, user_id: int) -> None:
    """Deletes the recovery codes if no factor is left for which they could stand in."""
    if not (await store.summary(conn, user_id)).has_factor:
        await store.replace_recovery_codes(conn, user_id, [])
