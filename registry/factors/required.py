"""REGISTRY_REQUIRE_2FA: a user who lacks a second factor may sign in and add one, but do nothing else."""

from registry.accounts.identity import Principal
from registry.db.engine import Database
from registry.errors import SecondFactorNeeded
from registry.factors import store
from registry.setting_parts import AccountSettings
from registry.web.route import READ, Route

OFF, PUBLISHERS, ALL = "off", "publishers", "all"

NEEDED = (
    "This registry requires a second factor. Add an authenticator app with POST /api/v1/auth/totp, "
    "or a passkey with POST /api/v1/auth/passkeys/options."
)


async def check(db: Database, settings: AccountSettings, principal: Principal, route: Route) -> None:
    """Raises SecondFactorNeeded if `principal` needs a second factor before it may call `route`.

    API tokens need none. A user without a factor may read what strangers may read.
    """
    if settings.require_2fa == OFF or not principal.is_login or not route.needs_factor:
        return
    if route.access == READ and settings.access == "public":
        return
    async with db.read() as conn:
        factors = await store.summary(conn, principal.user_id)
    if factors.has_factor:
        return
    if settings.require_2fa == ALL or factors.is_publisher or route.publishes:
        raise SecondFactorNeeded(NEEDED)
