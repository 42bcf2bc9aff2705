"""Keeps the secrets of webhooks readable when REGISTRY_SECRET_KEY is replaced."""

from collections.abc import Sequence

from registry.db.engine import Database
from registry.sealing import Sealer
from registry.webhooks import store
from registry.webhooks.hooks import PURPOSE

PAGE = 500


async def reseal(db: Database, secret_keys: Sequence[str]) -> int:
    """Encrypts secrets that an older key encrypted with the newest one. Returns of how many webhooks."""
    sealer, newest = Sealer(secret_keys, PURPOSE), Sealer(secret_keys[:1], PURPOSE)
    done = after = 0
    while True:
        async with db.transaction() as conn:
            rows = await store.secrets(conn, after, PAGE)
            for row in rows:
                is_newest = newest.can_open(row.secret) and (row.old_secret is None or newest.can_open(row.old_secret))
                if is_newest or not sealer.can_open(row.secret):
                    continue  # the doctor reports secrets that no key opens
                # An old secret that no key opens signs nothing, so it is removed.
                is_kept = row.old_secret is not None and sealer.can_open(row.old_secret)
                old = sealer.reseal(row.old_secret) if is_kept else None
                fresh = sealer.reseal(row.secret)
                done += await store.reseal(conn, row.id, seen=row.secret, secret=fresh, old_secret=old)
        if not rows:
            return done
        after = rows[-1].id
