"""Counts downloads exactly. While one batch of downloads is committed, the next batch fills.

While PostgreSQL is unavailable, batches are written to files and added later. PostgreSQL stores the id of each batch,
so a batch whose commit was interrupted is never counted twice.
"""

import asyncio
import contextlib
import functools
import hmac
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from uuid import UUID, uuid4, uuid5

import orjson
from prometheus_client import Counter, Gauge

from registry.db.engine import ConstraintViolated, Database, ValueRefused
from registry.downloads import agents, store
from registry.downloads.store import Download
from registry.errors import DatabaseUnavailable
from registry.tasks import running

log = logging.getLogger(__name__)

RECORDED = Counter("registry_downloads_total", "Downloads counted")
REFUSED = Counter("registry_downloads_refused_total", "Downloads not counted because PostgreSQL refused their values")
SPOOLED = Gauge("registry_download_batches_spooled", "Batches of downloads in files that wait for the database")

MAX_BATCH = 1000
REPLAY_SECONDS = 2.0
NOT_COUNTED = "Downloads can't be counted right now. Try again in a few seconds."


class DownloadRecorder:
    """Collects downloads and commits them in batches. Create it with `open_recorder()`."""

    def __init__(self, db: Database, folder: Path) -> None:
        self._db = db
        self._folder = folder
        self._waiting: list[tuple[Download, asyncio.Future[None] | None]] = []
        self._arrived = asyncio.Event()
        self._commit: asyncio.Future[None] | None = None

    async def record(self, download: Download) -> None:
        """Returns once the download is counted durably: committed, or in a synced file.

        Raises DatabaseUnavailable when neither was possible.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((download, done))
        self._arrived.set()
        await done

    def record_soon(self, download: Download) -> None:
        """Adds the download to the next batch without waiting for it. It is lost if the process is killed before."""
        self._waiting.append((download, None))
        self._arrived.set()

    async def flush_forever(self) -> None:
        """Commits downloads as they arrive. Ends only by cancellation."""
        while True:
            await self._arrived.wait()
            await self.flush()

    async def flush(self) -> None:
        """Commits all waiting downloads."""
        self._arrived.clear()
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            # The shield lets a batch that is no longer in the list finish even if the service stops now.
            self._commit = asyncio.ensure_future(self._commit_or_spool(batch))
            await asyncio.shield(self._commit)

    async def finish(self) -> None:
        """Commits the running batch and all waiting downloads. Call it when no more can arrive."""
        if self._commit is not None:
            await self._commit
        await self.flush()

    async def replay_forever(self) -> None:
        """Adds spooled batches once the database is available. Ends only by cancellation."""
        while True:
            try:
                await self.replay()
            except DatabaseUnavailable:
                log.info("spooled downloads wait for the database")
            except Exception:  # no error may end the loop: the files stay and are tried again
                log.exception("spooled downloads can't be added")
            await asyncio.sleep(REPLAY_SECONDS)

    async def replay(self) -> None:
        """Adds all spooled batches and removes their files. Renames a file that can't be read to `.damaged`.

        Raises DatabaseUnavailable.
        """
        files = await asyncio.to_thread(lambda: sorted(self._folder.glob("*.downloads.json")))
        SPOOLED.set(len(files))
        for file in files:
            try:
                batch, downloads = await asyncio.to_thread(_read_batch, file)
            except FileNotFoundError:
                continue  # another process was faster
            except (ValueError, TypeError, KeyError):
                log.exception("a file of spooled downloads is damaged and was renamed", extra={"file": file.name})
                await asyncio.to_thread(file.rename, file.with_suffix(".damaged"))
                continue
            await self._add(batch, downloads)
            await asyncio.to_thread(file.unlink, missing_ok=True)
            SPOOLED.dec()

    async def _commit_or_spool(self, batch: list[tuple[Download, "asyncio.Future[None] | None"]]) -> None:
        batch_id = uuid4()
        downloads = [download for download, _ in batch]
        failure: Exception | None = None
        try:
            try:
                await self._add(batch_id, downloads)
            except DatabaseUnavailable:
                await self._spool(batch_id, downloads)
        except Exception as error:  # neither the database nor the disk has the batch: every waiting request fails
            log.exception("downloads could not be counted", extra={"count": len(downloads)})
            failure = error
        for _, done in batch:
            if done is None or done.done():
                continue
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)

    async def _spool(self, batch: UUID, downloads: list[Download]) -> None:
        """Writes the batch to a file. Raises DatabaseUnavailable when the disk fails as well."""
        try:
            await asyncio.to_thread(_write_batch, self._folder, batch, downloads)
        except OSError as error:
            raise DatabaseUnavailable(NOT_COUNTED) from error
        SPOOLED.inc()
        log.warning("downloads spooled", extra={"count": len(downloads)})

    async def _add(self, batch: UUID, downloads: list[Download]) -> None:
        """Commits a batch. If PostgreSQL refuses a value in it, commits each half on its own, down to the bad download.

        The ids of the halves follow from the id of the batch, so a repeat after a crash counts none of them twice.
        """
        try:
            async with self._db.transaction() as conn:
                store.add(conn, batch, downloads)
        except ConstraintViolated as error:
            if error.constraint != store.COUNTED_BEFORE:
                raise
            log.info("batch was counted already", extra={"batch": str(batch)})
            return
        except (ValueRefused, ValueError, TypeError) as error:
            if len(downloads) == 1:
                REFUSED.inc()
                version = downloads[0].version_id
                log.warning("download refused and not counted", extra={"version_id": version, "reason": str(error)})
                return
            middle = len(downloads) // 2
            await self._add(uuid5(batch, "first half"), downloads[:middle])
            await self._add(uuid5(batch, "second half"), downloads[middle:])
            return
        RECORDED.inc(sum(download.version_id is not None for download in downloads))


@contextlib.asynccontextmanager
async def open_recorder(db: Database, folder: Path) -> AsyncIterator[DownloadRecorder]:
    """A running recorder. Leaving the block commits all waiting downloads."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True, mode=0o750)
    await asyncio.to_thread(agents.parse, "Mozilla/5.0")  # loads the patterns of browsers, which is slow
    recorder = DownloadRecorder(db, folder)
    try:
        async with running({"count downloads": recorder.flush_forever, "replay downloads": recorder.replay_forever}):
            yield recorder
    finally:
        await recorder.finish()


async def forget_batches(db: Database) -> int:
    """Removes the ids of batches that are too old to be in a spool file. Returns how many."""
    async with db.transaction() as conn:
        return await store.forget_batches(conn)


def client_hash(secret: str, at: datetime, address: str, user_agent: str) -> str:
    """16 hex digits that identify a client for one day. Without `secret`, nobody can find the client from them."""
    return hmac.digest(_key_of_day(secret, at.date()), f"{address}\n{user_agent}".encode(), "sha256").hex()[:16]


@functools.lru_cache(2)
def _key_of_day(secret: str, day: date) -> bytes:
    return hmac.digest(secret.encode(), f"downloads of {day}".encode(), "sha256")


def _write_batch(folder: Path, batch: UUID, downloads: list[Download]) -> None:
    """Writes and syncs a file. It gets its final name only when it is complete."""
    temporary = folder / f"{batch}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(orjson.dumps([asdict(download) for download in downloads]))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)  # an incomplete file is useless and takes space
        raise
    temporary.rename(folder / f"{batch}.downloads.json")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_batch(file: Path) -> tuple[UUID, list[Download]]:
    rows = orjson.loads(file.read_bytes())
    if not rows:
        raise ValueError("the batch is empty")
    downloads = [Download(**{**row, "at": datetime.fromisoformat(row["at"])}) for row in rows]
    return UUID(file.name.removesuffix(".downloads.json")), downloads
