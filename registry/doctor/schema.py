"""Checks that the database schema fits this release."""

import asyncio

from registry.db import migrate
from registry.doctor.check import Check, Found, Registry


async def _pending(registry: Registry) -> Found:
    found = Found()
    if await asyncio.to_thread(migrate.pending, registry.settings.database):
        found.add(f"the schema is older than revision {migrate.head()}")
    return found


async def _lacking(registry: Registry) -> Found:
    found = Found()
    for each in await asyncio.to_thread(migrate.lacking, registry.settings.database):
        found.add(each)
    return found


CHECKS = (
    Check(
        "schema revision",
        "the schema is the one of this release or of a later one",
        "run `synapse-registry migrate`; nothing else was checked",
        _pending,
        vital=True,
    ),
    Check(
        "schema objects",
        "every table, column, index and constraint exists",
        "create what is missing; registry/db/tables/ defines it",
        _lacking,
    ),
)
