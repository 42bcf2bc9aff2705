"""Finds second factors whose secret can't be decrypted."""

from registry.doctor.check import Check, Found, Registry
from registry.factors import administer


async def _find_unreadable(registry: Registry) -> Found:
    found = Found()
    for user_id in await administer.unreadable(registry.db, registry.settings.accounts):
        found.add(f"the authenticator app of user {user_id}")
    return found


CHECKS = (
    Check(
        "second factors",
        "the secret of every authenticator app can be decrypted",
        "add the missing key to REGISTRY_SECRET_KEY again, or run `synapse-registry user reset-factors NAME`",
        _find_unreadable,
    ),
)
