"""Describes the signed-in user, and ends the user's account."""

import logging

from typing_extensions import TypedDict

from registry.accounts import store as accounts
from registry.accounts.delays import attempt
from registry.accounts.identity import Principal, User
from registry.accounts.sessions import store as sessions
from registry.accounts.sessions.manage import lock_user
from registry.db.engine import Database
from registry.errors import LastOwner, NotFound
from registry.events import audit
from registry.events import log as event_log
from registry.factors import proof, store
from registry.factors.proof import Proof
from registry.owners import store as invitations
from registry.packages.owners import store as roles
from registry.publishers import store as publishers
from registry.setting_parts import AccountSettings
from registry.webhooks import store as webhooks

log = logging.getLogger(__name__)

MOST_NAMED = 100


class Factors(TypedDict):
    """Whether there is an authenticator app, and how many passkeys and unused recovery codes."""

    totp: bool
    passkeys: int
    recovery_codes: int


async def read(db: Database, principal: Principal) -> tuple[User, Factors]:
    """The user of `principal` and the user's factors. Raises NotFound if the account has ended."""
    async with db.read() as conn:
        found = await accounts.user_by_id(conn, principal.user_id)
        if found is None:
            raise NotFound("This user no longer exists.")
        has = await store.summary(conn, principal.user_id)
    return found[0], {"totp": has.totp, "passkeys": has.passkeys, "recovery_codes": has.recovery_codes}


async def end(db: Database, settings: AccountSettings, principal: Principal, given: Proof, address: str) -> None:
    """Ends the account for good. Everything that it could sign in or act with ends at once; its packages stay.

    Raises Forbidden, ConfirmationRequired, TooManyFailures, and LastOwner with the packages that would have no owner.
    """
    user = await proof.confirm(db, settings, principal, given, address)
    async with db.transaction() as conn:
        # A change of roles locks the package before its foreign keys lock the user. The other order could deadlock.
        await roles.lock_packages_of(conn, user.id)
        await lock_user(conn, principal)
        await accounts.lock_for_end(conn, user.id)
        # Again, because the user may have got a role in between. The locks keep other owners from leaving.
        held = await roles.lock_packages_of(conn, user.id)
        alone = await roles.solely_owned(conn, user.id, MOST_NAMED)
        if alone:
            raise LastOwner(
                f"You are the only owner of {', '.join(alone)}. Transfer them or delete their versions first.",
                members={"packages": alone},
            )
        await roles.remove_user(conn, user.id)
        await invitations.end_of_account(conn, user.id, user.email)
        await publishers.end_of_account(conn, user.id)
        await webhooks.end_of_account(conn, user.id)
        await store.delete_all(conn, user.id)
        await sessions.end_all(conn, user.id)
        await attempt.forget(conn, settings, user)
        await accounts.end_account(conn, user.id)
        audit.write_with_commit(conn, "account.delete", principal.actor, tell=user.email)
        for package in held:
            details = {"user_id": user.id, "role": package.role, "account_deleted": True}
            await audit.write(conn, "owner.remove", principal.actor, package_id=package.id, details=details)
        for package in held:
            await event_log.append(
                conn,
                event_log.PACKAGE_OWNERS_CHANGED,
                package_id=package.id,
                package=package.name,
                actor_id=user.id,
            )
    log.info("account ended", extra={"user_id": user.id})
