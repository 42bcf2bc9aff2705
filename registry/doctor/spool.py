"""Checks that nothing stays in this machine's spool folder."""

import asyncio
import time
from pathlib import Path

from registry.doctor.check import EXAMPLES, Check, Found, Registry
from registry.downloads import leftovers
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
        except FileNotFoundError:  # another process has removed it
            continue
    return found


async def _find_waiting(registry: Registry) -> Found:
    """Finds batches that no process is adding. While their number falls, a process is adding them."""
    folder = registry.settings.limits.spool_path
    waiting = set(await asyncio.to_thread(leftovers.waiting, folder))
    while waiting:
        await registry.settle()
        left = waiting & set(await asyncio.to_thread(leftovers.waiting, folder))
        if left == waiting:
            break
        waiting = left
    return Found(len(waiting), sorted(waiting)[:EXAMPLES])


async def _take_over(registry: Registry) -> None:
    await DownloadRecorder(registry.db, registry.settings.limits.spool_path).take_over()


async def _find_damaged(registry: Registry) -> Found:
    found = Found()
    for path in sorted(await asyncio.to_thread(_named, registry, "*.damaged")):
        found.add(str(path))
    return found


async def _leftovers(registry: Registry) -> set[Path]:
    """Leftovers of processes that died: folders of uploads, and incomplete batch files."""
    folders = await asyncio.to_thread(spool.abandoned, registry.settings.limits.spool_path)
    files = await asyncio.to_thread(_named, registry, "*.tmp", older_than=ORPHAN_AGE.total_seconds())
    return {*folders, *files}


async def _find_leftovers(registry: Registry) -> Found:
    left = await _leftovers(registry)
    if left:
        # A process that starts just now may be removing them.
        await registry.settle()
        left &= await _leftovers(registry)
    return Found(len(left), sorted(str(path) for path in left)[:EXAMPLES])


async def _remove_leftovers(registry: Registry) -> None:
    root = registry.settings.limits.spool_path
    await asyncio.to_thread(spool.abandoned, root, remove=True)
    for path in await asyncio.to_thread(_named, registry, "*.tmp", older_than=ORPHAN_AGE.total_seconds()):
        await asyncio.to_thread(path.unlink, missing_ok=True)


CHECKS = (
    Check(
        "spooled downloads",
        "no batch of downloads waits in this machine's spool folder while PostgreSQL is available",
        "count those of dead processes; the id of a batch keeps it from being counted twice",
        _find_waiting,
        _take_over,
    ),
    Check(
        "damaged downloads",
        "no file of downloads is unreadable",
        "save what is readable in these files, then remove them; their downloads are not counted",
        _find_damaged,
    ),
    Check(
        "spool leftovers",
        "this machine's spool folder has no files of processes that died",
        "remove them",
        _find_leftovers,
        _remove_leftovers,
    ),
)
