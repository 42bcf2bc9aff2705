"""Counting downloads exactly: those that end while others are committed wait, and are committed together.

A batch that PostgreSQL does not take goes to a file and is added when the database is back. Each batch carries an id
that the database keeps, so one whose commit was cut off is never counted twice.
"""

import asyncio
import contextlib
import functools
import hmac
import ipaddress
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
SPOOLED = Gauge("registry_download_batches_spooled", "Batches of downloads that wait in files for the database")

MAX_BATCH = 1000
REPLAY_SECONDS = 2.0
# Reading an address takes longer than all else that is told of its download.
ADDRESSES_KEPT = 10_000
NOT_COUNTED = "Downloads can't be counted right now. Try again in a few seconds."


class DownloadRecorder:
    """Takes downloads one by one and commits them in groups. `open_recorder()` makes and ends it."""

    def __init__(self, db: Database, folder: Path) -> None:
        self._db = db
        self._folder = folder
        self._waiting: list[tuple[Download, asyncio.Future[None] | None]] = []
        self._arrived = asyncio.Event()
        self._settling: asyncio.Future[None] | None = None

    async def record(self, download: Download) -> None:
        """Returns when the download is counted for good: committed, or in a file that outlives the process."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((download, done))
        self._arrived.set()
        await done

    def record_soon(self, download: Download) -> None:
        """Adds the download to the next batch without waiting for it. Only a process that is killed first loses it."""
        self._waiting.append((download, None))
        self._arrived.set()

    async def flush_forever(self) -> None:
        while True:
            await self._arrived.wait()
            await self.flush()

    async def flush(self) -> None:
        """Commits everything that waits."""
        self._arrived.clear()
        while self._waiting:
            group, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            # Shielded: a group that was taken off the list is counted even when the service stops meanwhile.
            self._settling = asyncio.ensure_future(self._settle(group))
            await asyncio.shield(self._settling)

    async def finish(self) -> None:
        """Returns when everything that came in is counted for good."""
        if self._settling is not None:
            await self._settling
        await self.flush()

    async def replay_forever(self) -> None:
        """Adds batches that wait in files, as soon as the database takes them."""
        while True:
            try:
                await self.replay()
            except DatabaseUnavailable:
                log.info("spooled downloads wait for the database")
            except Exception:  # whatever it is must not end the loop: the files wait, and are tried again
                log.exception("spooled downloads can't be added")
            await asyncio.sleep(REPLAY_SECONDS)

    async def replay(self) -> None:
        files = await asyncio.to_thread(lambda: sorted(self._folder.glob("*.downloads.json")))
        SPOOLED.set(len(files))
        for file in files:
            try:
                batch, downloads = await asyncio.to_thread(_read_batch, file)
            except FileNotFoundError:
                continue  # another process was faster
            except (ValueError, TypeError, KeyError):
                log.exception("spooled downloads are damaged, the file is set aside", extra={"file": file.name})
                await asyncio.to_thread(file.rename, file.with_suffix(".damaged"))
                continue
            await self._add(batch, downloads)
            await asyncio.to_thread(file.unlink, missing_ok=True)
            SPOOLED.dec()

    async def _settle(self, group: list[tuple[Download, "asyncio.Future[None] | None"]]) -> None:
        batch = uuid4()
        downloads = [download for download, _ in group]
        failure: Exception | None = None
        try:
            try:
                await self._add(batch, downloads)
            except DatabaseUnavailable:
                await self._spool(batch, downloads)
        except Exception as error:  # neither database nor disk took them: each waiting request must hear of it
            log.exception("downloads lost", extra={"count": len(downloads)})
            failure = error
        for _, done in group:
            if done is None or done.done():
                continue
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)

    async def _spool(self, batch: UUID, downloads: list[Download]) -> None:
        """Raises DatabaseUnavailable when the disk takes them no more than the database did."""
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
            log.info("batch was counted before", extra={"batch": str(batch)})
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
        RECORDED.inc(len(downloads))


@contextlib.asynccontextmanager
async def open_recorder(db: Database, folder: Path) -> AsyncIterator[DownloadRecorder]:
    """A running recorder; leaving the block commits what still waits."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True, mode=0o750)
    await asyncio.to_thread(agents.parse, "Mozilla/5.0")  # reads the browsers' patterns, which takes a moment
    recorder = DownloadRecorder(db, folder)
    try:
        async with running({"count downloads": recorder.flush_forever, "replay downloads": recorder.replay_forever}):
            yield recorder
    finally:
        await recorder.finish()


async def forget_batches(db: Database) -> int:
    """Removes ids of batches so old that no spool file can still hold them."""
    async with db.transaction() as conn:
        return await store.forget_batches(conn)


@functools.lru_cache(ADDRESSES_KEPT)
def network_of(address: str, *, full: bool = False) -> str | None:
    """The address without its host part (/24 or /48), unless `full` is wanted; None when it is none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    width = parsed.max_prefixlen if full else 24 if parsed.version == 4 else 48
    return str(ipaddress.ip_network(f"{parsed}/{width}", strict=False).network_address)


def client_hash(secret: str, at: datetime, address: str, user_agent: str) -> str:
    """16 hex digits that tell a day's clients apart; without the secret nothing leads back from them."""
    return hmac.digest(_key_of_day(secret, at.date()), f"{address}\n{user_agent}".encode(), "sha256").hex()[:16]


@functools.lru_cache(2)
def _key_of_day(secret: str, day: date) -> bytes:
    return hmac.digest(secret.encode(), f"downloads of {day}".encode(), "sha256")


def _write_batch(folder: Path, batch: UUID, downloads: list[Download]) -> None:
    """Durable before it returns; the final name appears only with the whole content behind it."""
    temporary = folder / f"{batch}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(orjson.dumps([asdict(download) for download in downloads]))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)  # half a batch is of no use and takes room
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
        raise ValueError("a batch of no downloads")
    downloads = [Download(**{**row, "at": datetime.fromisoformat(row["at"])}) for row in rows]
    return UUID(file.name.removesuffix(".downloads.json")), downloads
