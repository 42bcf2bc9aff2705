"""Checks that every version has its tarball and that the storage has no other files."""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import timedelta

from registry.db.engine import Connection, Row
from registry.doctor import store
from registry.doctor.check import PAGE, Check, Found, Registry, pages
from registry.packages import sweep
from registry.storage.base import BlobMissing, InvalidKey, Storage, is_key

AT_ONCE = 8
READ_AT_ONCE = 2
# The service sweeps every few seconds. A deleted version is overdue this long after its grace period.
OVERDUE = timedelta(minutes=10)


async def _find_missing(registry: Registry) -> Found:
    """Lists the storage once, and asks for single tarballs only if they are not in the list."""
    found = Found()
    async with registry.db.session() as (conn, _):
        await _list(registry, conn)
        after = 0
        while rows := await store.not_listed(conn, after, PAGE):
            sizes = await _sizes(registry.storage, [row.tarball_path for row in rows])
            wrong = [(row, size) for row, size in zip(rows, sizes, strict=True) if size != row.tarball_size]
            # A sweep marks the row before it removes the blob, so a version that is swept just now is no fault.
            unswept = await store.unswept(conn, [row.id for row, _ in wrong])
            for row, size in wrong:
                if row.id in unswept:
                    state = "is missing" if size is None else f"has {size} bytes instead of {row.tarball_size}"
                    found.add(f"{row.name} {row.version}: {row.tarball_path} {state}")
            after = rows[-1].id
    return found


async def _list(registry: Registry, conn: Connection) -> None:
    await store.begin_list(conn)
    listed = 0
    page: list[tuple[str, int]] = []
    async for blob in registry.storage.list():
        page.append((blob.key, blob.size))
        if len(page) == PAGE:
            await store.list_blobs(conn, *zip(*page, strict=True))
            listed += len(page)
            page = []
            registry.progress(f"tarballs: {listed} listed")
    if page:
        await store.list_blobs(conn, *zip(*page, strict=True))
    await store.end_list(conn)


async def _sizes(storage: Storage, keys: Sequence[str]) -> list[int | None]:
    slots = asyncio.Semaphore(AT_ONCE)

    async def size(key: str) -> int | None:
        async with slots:
            return await storage.stat(key) if is_key(key) else None

    return await asyncio.gather(*(size(key) for key in keys))


async def _find_changed(registry: Registry) -> Found:
    found = Found()
    read = 0
    async for rows in pages(registry, store.tarballs_after, "tarball_path", "", PAGE):
        wrong = await _changed(registry.storage, rows)
        async with registry.db.read() as conn:
            unswept = await store.unswept(conn, [row.id for row in wrong])
        for row in wrong:
            if row.id in unswept:
                found.add(f"{row.name} {row.version}: {row.tarball_path} is not what was published")
        read += len(rows)
        registry.progress(f"contents: {read} read")
    return found


async def _changed(storage: Storage, rows: Sequence[Row]) -> list[Row]:
    slots = asyncio.Semaphore(READ_AT_ONCE)

    async def is_changed(row: Row) -> bool:
        async with slots:
            try:
                return bool(await _checksum(storage, row.tarball_path) != row.checksum)
            except (BlobMissing, InvalidKey):
                return False  # the check "tarballs" reports it

    changed = await asyncio.gather(*(is_changed(row) for row in rows))
    return [row for row, is_wrong in zip(rows, changed, strict=True) if is_wrong]


async def _checksum(storage: Storage, key: str) -> str:
    digest = hashlib.sha256()
    async with storage.open(key) as chunks:
        async for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()


async def _find_refused(registry: Registry) -> Found:
    found = Found()
    await registry.storage.detect_features()
    for header in registry.storage.refused_headers:
        found.note(f"the S3 server refuses the request header {header}; uploads work without it")
    return found


async def _find_tombstones(registry: Registry) -> Found:
    async with registry.db.read() as conn:
        return await store.overdue_tombstones(conn, registry.settings.limits.delete_grace + OVERDUE)


async def _sweep_tombstones(registry: Registry) -> None:
    await sweep.sweep_deleted(registry.db, registry.storage, registry.settings.limits.delete_grace)


async def _find_orphans(registry: Registry) -> Found:
    found = Found()
    settle = timedelta(seconds=registry.settle_seconds)
    async for keys in sweep.orphans(registry.db, registry.storage, settle=settle):
        for key in keys:
            found.add(key)
    for _ in range(await registry.storage.stale_uploads(sweep.ORPHAN_AGE)):
        found.add("an upload that was never completed")
    return found


async def _sweep_orphans(registry: Registry) -> None:
    await sweep.sweep_orphans(registry.db, registry.storage, settle=registry.sweep_settle)


CHECKS = (
    Check(
        "storage server",
        "the storage accepts uploads",
        "repair the storage or its settings",
        _find_refused,
    ),
    Check(
        "tarballs",
        "the storage has the tarball of every version, with the right size",
        "restore these keys from a backup of the storage",
        _find_missing,
    ),
    Check(
        "tombstones",
        "the tarball of every deleted version is removed after its grace period",
        "remove these tarballs",
        _find_tombstones,
        _sweep_tombstones,
    ),
    Check(
        "orphans",
        "the storage has no file older than a day that belongs to no version, and no incomplete upload",
        "remove them after some minutes, because a publish that is still running may use one",
        _find_orphans,
        _sweep_orphans,
    ),
)
DEEP = (
    Check(
        "contents",
        "every tarball still has the SHA-256 that it was published with",
        "restore these keys from a backup of the storage",
        _find_changed,
    ),
)
