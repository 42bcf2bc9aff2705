"""Does anything wait for ever in this machine's spool folder?"""

import asyncio
import time
from pathlib import Path

from registry.doctor.check import SETTLE_SECONDS, Check, Found, Registry
from registry.downloads.record import DownloadRecorder
from registry.packages.sweep import ORPHAN_AGE
from registry.web import spool


def _named(registry: Registry, pattern: str, *, older_than: float = 0.0) -> set[Path]:
    before = time.time() - older_than
    found = set()
    for path in registry.settings.limits.spool_path.glob(pattern):
        try:
            if path.stat().st_mtime <= before:
                found.add(path)
        except FileNotFoundError:  # taken meanwhile
            continue
    return found


async def _find_waiting(registry: Registry) -> Found:
    """Batches that nobody takes: as long as they get fewer, somebody is at it."""
    waiting = await asyncio.to_thread(_named, registry, "*.downloads.json")
    while waiting:
        await asyncio.sleep(SETTLE_SECONDS)
        left = waiting & await asyncio.to_thread(_named, registry, "*.downloads.json")
        if left == waiting:
            break
        waiting = left
    return Found(len(waiting), sorted(path.name for path in waiting)[:5])


async def _replay(registry: Registry) -> None:
    await DownloadRecorder(registry.db, registry.settings.limits.spool_path).replay()


async def _find_damaged(registry: Registry) -> Found:
    found = Found()
    for path in sorted(await asyncio.to_thread(_named, registry, "*.damaged")):
        found.add(str(path))
    return found


async def _left(registry: Registry) -> set[Path]:
    """What dead processes left: folders of uploads, and batches that were never written to their end."""
    folders = await asyncio.to_thread(spool.abandoned, registry.settings.limits.spool_path)
    files = await asyncio.to_thread(_named, registry, "*.tmp", older_than=ORPHAN_AGE.total_seconds())
    return {*folders, *files}


async def _find_left(registry: Registry) -> Found:
    left = await _left(registry)
    if left:
        # The next process to start would remove it.
        await asyncio.sleep(SETTLE_SECONDS)
        left &= await _left(registry)
    return Found(len(left), sorted(str(path) for path in left)[:5])


async def _remove_left(registry: Registry) -> None:
    root = registry.settings.limits.spool_path
    await asyncio.to_thread(spool.abandoned, root, remove=True)
    for path in await asyncio.to_thread(_named, registry, "*.tmp", older_than=ORPHAN_AGE.total_seconds()):
        await asyncio.to_thread(path.unlink, missing_ok=True)


CHECKS = (
    Check(
        "spooled downloads",
        "no batch of downloads waits in this machine's spool folder although PostgreSQL is there",
        "count them; a batch that was counted is known by its id",
        _find_waiting,
        _replay,
    ),
    Check(
        "damaged downloads",
        "no batch of downloads was set aside because it can't be read",
        "read what can be read of these files, then remove them: the downloads in them are not counted",
        _find_damaged,
    ),
    Check(
        "spool leftovers",
        "dead processes left nothing in this machine's spool folder",
        "remove it",
        _find_left,
        _remove_left,
    ),
)
