"""Checks that nobody has altered the log of changes."""

from registry.changes.stored import StoredLog
from registry.changes.verify import DoesNotFit, verify
from registry.doctor.check import Check, Found, Registry


async def _verify(registry: Registry) -> Found:
    found = Found()
    try:
        await verify(StoredLog(registry.db))
    except DoesNotFit as fault:
        found.add(str(fault))
    return found


CHECKS = (
    Check(
        "change chain",
        "the hash of each change follows from its content and from the change before it, and checkpoints agree",
        "restore the altered rows of `events` and `changes` from a backup; docs/changes.md explains what to do without",
        _verify,
    ),
)
