"""What operators and admins do with second factors of others, and the upkeep of their rows."""

import logging
from datetime import UTC, datetime, timedelta

from registry.accounts import store as accounts
from registry.accounts.administer import actor_of, check_other
from registry.accounts.identity import Principal
from registry.db.engine import Database
from registry.errors import NotFound
from registry.events import audit
from registry.factors import codes, proof, store
from registry.sealing import Sealer
from registry.setting_parts import AccountSettings

log = logging.getLogger(__name__)

PAGE = 500
# The clocks of machines differ, and codes of the next and the previous step are good, too.
STEPS_KEPT = timedelta(minutes=10)


async def reset_factors(db: Database, username: str, who: Principal | None = None) -> None:
    """Removes the factors and recovery codes of a user who lost them. The password stays.

    `who` is the admin, or None for a command on the server. Raises NotFound, Forbidden, and Conflict for the own
    account.
    """
    actor = actor_of(who)
    async with db.transaction() as conn:
        user = await accounts.user_by_username(conn, username)
        if user is None:
            raise NotFound(f"There is no user {username!r}.")
        check_other(who, user)
        await accounts.lock_user(conn, user.id)  # so that no factor is being added meanwhile
        await store.delete_all(conn, user.id)
        audit.write_with_commit(conn, "factor.reset", actor, account_id=user.id)
    log.info("factors reset", extra={"user_id": user.id})


async def purge(db: Database) -> None:
    """Deletes challenges that have expired, and marks of used codes that are no longer good."""
    now = datetime.now(UTC)
    async with db.transaction() as conn:
        await store.purge(conn, now, int((now - STEPS_KEPT).timestamp()) // codes.STEP_SECONDS)


async def reseal(db: Database, settings: AccountSettings) -> int:
    """Encrypts the secrets that an older key of REGISTRY_SECRET_KEY encrypted with the newest. Returns how many."""
    sealer, newest = proof.sealer(settings), Sealer(settings.secret_keys[:1], proof.TOTP)
    done = after = 0
    while True:
        async with db.transaction() as conn:
            rows = await store.all_totp(conn, after, PAGE)
            for row in rows:
                # The doctor reports secrets that no key opens.
                if not newest.can_open(row.sealed) and sealer.can_open(row.sealed):
                    await store.reseal(conn, row.user_id, seen=row.sealed, fresh=sealer.reseal(row.sealed))
                    done += 1
        if not rows:
            return done
        after = rows[-1].user_id


async def unreadable(db: Database, settings: AccountSettings) -> list[int]:
    """The ids of the users whose secret no key of REGISTRY_SECRET_KEY decrypts."""
    found: list[int] = []
    sealer, after = proof.sealer(settings), 0
    while True:
        async with db.read() as conn:
            rows = await store.all_totp(conn, after, PAGE)
        if not rows:
            return found
        found += [row.user_id for row in rows if not sealer.can_open(row.sealed)]
        after = rows[-1].user_id
