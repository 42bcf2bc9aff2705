"""Deletes old deliveries, and webhooks that have ended."""

from datetime import timedelta

from registry.db.engine import Database
from registry.webhooks import store as webhooks
from registry.webhooks.deliveries import store

AT_ONCE = 10_000


async def purge(db: Database, age: timedelta) -> int:
    """Deletes deliveries older than `age`, ended webhooks and their deliveries. Returns the number of deliveries."""
    total = 0
    while True:
        async with db.transaction() as conn:
            number = await store.purge(conn, age, AT_ONCE)
        total += number
        if number < AT_ONCE:
            break
    while True:
        async with db.transaction() as conn:
            ended = await webhooks.ended(conn, 1)
            if not ended:
                return total
            number = await store.purge_of(conn, ended[0], AT_ONCE)
            if number < AT_ONCE:
                await webhooks.remove(conn, ended[0])
        total += number
