"""Checks whether the servers that the registry needs answer."""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime

from typing_extensions import TypedDict

from registry import __version__
from registry.db.engine import Database
from registry.downloads.record import DownloadRecorder
from registry.errors import DatabaseUnavailable, RegistryError, SearchUnavailable, StorageUnavailable
from registry.events import consumer
from registry.search.index import SearchIndex
from registry.storage.base import Storage

CHECK_SECONDS = 3.0
HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"


class Component(TypedDict):
    status: str
    detail: str


class Health(TypedDict):
    """`status` is healthy, degraded (only search is away or behind) or unhealthy."""

    status: str
    timestamp: datetime
    version: str
    components: dict[str, Component]


class Alive(TypedDict):
    status: str


async def health(db: Database, storage: Storage, index: SearchIndex, recorder: DownloadRecorder) -> Health:
    """Checks all servers at the same time, for CHECK_SECONDS at most."""
    names = ("database", "storage", "search")
    found = await asyncio.gather(_check(_ping(db)), _check(_storage(storage, recorder)), _check(_search(db, index)))
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


async def _storage(storage: Storage, recorder: DownloadRecorder) -> str:
    """Raises StorageUnavailable if packages can't be read, or if the spool folder takes no downloads."""
    await storage.check()
    try:
        await recorder.check()
    except OSError as error:
        raise StorageUnavailable(f"The spool folder takes no downloads: {error.strerror}.") from error
    refused = storage.refused_headers
    return f"the S3 server refuses {' and '.join(refused)}; the registry works without" if refused else ""


async def _search(db: Database, index: SearchIndex) -> None:
    """Raises SearchUnavailable if Elasticsearch can't answer searches, or takes no documents from a consumer."""
    await index.health()
    try:
        async with db.read() as conn:
            failures = await consumer.failures(conn)
    except DatabaseUnavailable:
        return  # the component "database" says so
    if failures:
        raise SearchUnavailable("; ".join(f"{name}: {reason}" for name, reason in failures))


async def _check(asked: Awaitable[str | None]) -> Component:
    """`asked` may return a remark on a server that works."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            detail = await asked
    except RegistryError as error:
        return {"status": UNHEALTHY, "detail": error.detail}
    except TimeoutError:
        return {"status": UNHEALTHY, "detail": f"no answer within {CHECK_SECONDS:g} seconds"}
    return {"status": HEALTHY, "detail": detail or ""}
