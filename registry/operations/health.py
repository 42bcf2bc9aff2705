"""Whether the service can do its work, part by part."""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime

from typing_extensions import TypedDict

from registry import __version__
from registry.db.engine import Database
from registry.errors import RegistryError
from registry.search.index import SearchIndex
from registry.storage.base import Storage

CHECK_SECONDS = 3.0
HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"


class Component(TypedDict):
    status: str
    detail: str


class Health(TypedDict):
    """`status` is healthy, degraded (packages are served, something else is away) or unhealthy."""

    status: str
    timestamp: datetime
    version: str
    components: dict[str, Component]


class Alive(TypedDict):
    status: str


async def health(db: Database, storage: Storage, index: SearchIndex) -> Health:
    """Asks every server at once, each for CHECK_SECONDS at most."""
    names = ("database", "storage", "search")
    found = await asyncio.gather(_check(_ping(db)), _check(storage.check()), _check(index.health()))
    components = dict(zip(names, found, strict=True))
    away = {name for name, component in components.items() if component["status"] != HEALTHY}
    status = UNHEALTHY if away & {"database", "storage"} else DEGRADED if away else HEALTHY
    return {
        "status": status,
        "timestamp": datetime.now(UTC),
        "version": __version__,
        "components": components,
    }


async def _ping(db: Database) -> None:
    async with db.read() as conn:
        await conn.command("SELECT 1")


async def _check(asked: Awaitable[object]) -> Component:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await asked
    except RegistryError as error:
        return {"status": UNHEALTHY, "detail": error.detail}
    except TimeoutError:
        return {"status": UNHEALTHY, "detail": f"no answer within {CHECK_SECONDS:g} seconds"}
    return {"status": HEALTHY, "detail": ""}
