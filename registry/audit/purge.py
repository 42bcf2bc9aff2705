"""Deletes entries of the audit log that are older than REGISTRY_AUDIT_RETENTION."""

import logging
from datetime import timedelta

from registry.audit import store
from registry.db.engine import Database

log = logging.getLogger(__name__)


async def purge(db: Database, retention: timedelta | None) -> int:
    """Deletes old entries in batches. Returns how many; without a retention, nothing is deleted."""
    total = 0
    while retention is not None:
        async with db.transaction() as conn:
            purged = await store.purge(conn, retention)
        total += purged
        if purged < store.PURGED_AT_ONCE:
            break
    if total:
        log.info("audit log purged", extra={"entries": total})
    return total
