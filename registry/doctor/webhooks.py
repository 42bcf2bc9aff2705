"""Finds secrets of webhooks that can't be decrypted, and deliveries that nobody sends."""

from datetime import timedelta

from registry.db.engine import Connection
from registry.doctor.check import Check, Found, Registry, pages, reading
from registry.sealing import Sealer
from registry.webhooks import store
from registry.webhooks.deliveries import store as deliveries
from registry.webhooks.hooks import PURPOSE

LATE = timedelta(hours=1)
PAGE = 500


async def _find_unreadable(registry: Registry) -> Found:
    sealer = Sealer(registry.settings.accounts.secret_keys, PURPOSE)
    found = Found()
    async for rows in pages(registry, store.secrets, "id", 0, PAGE):
        for row in rows:
            if not sealer.can_open(row.secret):
                found.add(f"webhook {row.id}")
    return found


async def _find_late(conn: Connection) -> Found:
    found = Found()
    for row in await deliveries.late(conn, LATE, PAGE):
        found.add(f"webhook {row.id} to {row.host} has a delivery that is due since {row.due_at:%Y-%m-%d %H:%M}Z")
    return found


CHECKS = (
    Check(
        "webhook secrets",
        "REGISTRY_SECRET_KEY decrypts the secret of every webhook",
        "add the key that encrypted it to REGISTRY_SECRET_KEY, after the newest one, or rotate the webhook's secret",
        _find_unreadable,
    ),
    Check(
        "late deliveries",
        "every delivery to a webhook is tried within an hour after it is due",
        "start `synapse-registry serve` or `worker`; deliveries also wait for receivers that don't answer",
        reading(_find_late),
    ),
)
