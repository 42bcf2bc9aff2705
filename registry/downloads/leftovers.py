"""What dead processes and earlier releases left in the spool folder: batches of downloads that nobody has counted.

An earlier release wrote each batch that PostgreSQL did not accept as JSON to a file `BATCH.downloads.json`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from prometheus_client import Gauge

from registry.downloads import journal
from registry.downloads.journal import PATTERN, Damaged
from registry.downloads.store import Download, Rows
from registry.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

WAITING = Gauge("registry_download_batches_spooled", "Batches of downloads that wait for the database for over 5 s")
BYTES = Gauge("registry_download_journal_bytes", "Size of the files with downloads that wait for the database")
OLDEST = Gauge("registry_download_journal_oldest_seconds", "How long the oldest download has waited for the database")

# A busy process always has a batch in its journal. Longer than this, PostgreSQL is slow or unavailable.
LATE_SECONDS = 5.0
_EARLIER = "*.downloads.json"

Add = Callable[[UUID, Rows], Awaitable[None]]
"""Counts a batch. Does nothing if a batch with this id was counted before."""


async def add_all(folder: Path, add: Add) -> None:
    """Counts all batches of dead processes and removes their files. Renames files that can't be read to `.damaged`.

    A file whose batch can't be added stays. Raises DatabaseUnavailable.
    """
    await asyncio.to_thread(_measure, folder)
    for pattern, add_file in ((PATTERN, _take_over), (_EARLIER, _add_earlier)):
        for path in await asyncio.to_thread(_files, folder, pattern):
            try:
                await add_file(path, add)
            except DatabaseUnavailable:
                raise
            except Exception:  # one batch must not keep the others from being counted
                log.exception("a batch of downloads can't be added", extra={"file": path.name})


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


async def _take_over(path: Path, add: Add) -> None:
    file = await asyncio.to_thread(journal.take_over, path)
    if file is None:
        return
    counted = False
    try:
        batch = await asyncio.to_thread(file.read)
        if batch is not None:
            log.info("counting downloads that no process keeps", extra={"file": path.name})
            await add(batch.id, await asyncio.to_thread(batch.rows))
        counted = True
    except Damaged:
        await asyncio.to_thread(_set_aside, path)
    finally:
        await asyncio.to_thread(file.remove if counted else file.close)


async def _add_earlier(path: Path, add: Add) -> None:
    try:
        batch, rows = await asyncio.to_thread(_read_earlier, path)
    except FileNotFoundError:
        return  # another process was faster
    except (ValueError, TypeError, KeyError):
        await asyncio.to_thread(_set_aside, path)
        return
    await add(batch, rows)
    await asyncio.to_thread(path.unlink, missing_ok=True)


def _read_earlier(path: Path) -> tuple[UUID, list[dict[str, Any]]]:
    rows = orjson.loads(path.read_bytes())
    if not rows:
        raise ValueError("the batch is empty")
    for row in rows:
        Download(**{**row, "at": datetime.fromisoformat(row["at"])})
    return UUID(path.name.partition(".")[0]), rows


def _set_aside(path: Path) -> None:
    log.error("a file of downloads is damaged and was renamed", extra={"file": path.name})
    with contextlib.suppress(FileNotFoundError):
        path.rename(path.with_suffix(".damaged"))


def waiting(folder: Path) -> dict[str, tuple[float, int]]:
    """(Unix time of the first download, size of the file in bytes) of each batch in `folder`, by the batch's id."""
    found = {str(batch): (began_at, size) for batch, began_at, size in journal.waiting(folder)}
    for path in folder.glob(_EARLIER):
        with contextlib.suppress(FileNotFoundError):
            about = path.stat()
            found[path.name.partition(".")[0]] = about.st_mtime, about.st_size
    return found


def _measure(folder: Path) -> None:
    now, found = time.time(), waiting(folder).values()
    WAITING.set(sum(now - began_at > LATE_SECONDS for began_at, _ in found))
    BYTES.set(sum(size for _, size in found))
    OLDEST.set(max((now - began_at for began_at, _ in found), default=0.0))
