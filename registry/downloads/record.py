"""Counts downloads exactly, in two steps.

1. A download is written to the journal of this process and synced. Its answer ends after that. Downloads that arrive
   while one group is written form the next group, so groups grow with the load.
2. A few hundred milliseconds later, PostgreSQL adds the downloads of one journal file as one batch, and the file is
   cleared. PostgreSQL stores the id of each batch. A batch that is sent again after a crash is not counted twice.

Each process also sends the batches that dead processes left in the spool folder.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar
from uuid import UUID, uuid5

import orjson
from prometheus_client import Counter

from registry.db.engine import ConstraintViolated, Database, ValueRefused
from registry.downloads import agents, leftovers, store
from registry.downloads.journal import MAX_GROUP, File, Journal
from registry.downloads.store import Download, Rows
from registry.errors import DatabaseUnavailable
from registry.tasks import running

log = logging.getLogger(__name__)

RECORDED = Counter("registry_downloads_total", "Downloads counted")
REFUSED = Counter("registry_downloads_refused_total", "Downloads not counted because PostgreSQL refused their values")

# A batch gathers downloads for this long. Larger batches cost PostgreSQL less.
GATHER_SECONDS = 0.25
RETRY_SECONDS = 1.0
TAKE_OVER_SECONDS = 2.0
FINISH_SECONDS = 5.0
# If a sync takes longer, the disk is regarded as unavailable.
STUCK_SECONDS = 10.0
NOT_COUNTED = "Downloads can't be counted right now. Try again in a few seconds."

Result = TypeVar("Result")
Waiter = asyncio.Future[None] | None
"""Ends when the download is journaled. None if no request waits for it."""


class DownloadRecorder:
    """Writes downloads to the journal in `folder`, and sends them to PostgreSQL. Create it with `open_recorder()`."""

    def __init__(self, db: Database, folder: Path) -> None:
        self._db = db
        self._folder = folder
        self._journal = Journal(folder)
        # The calls of the thread that uses the journal. None ends it.
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._run_calls, name="journal", daemon=True)
        # JSON texts, and the future of each that a request waits for.
        self._records: list[bytes] = []
        self._recorded: list[Waiter] = []
        self._writing = False
        self._is_failing = False
        # Set while the group that is written takes longer than STUCK_SECONDS.
        self._is_stuck = False
        self._watch: asyncio.TimerHandle | None = None
        self._arrived = asyncio.Event()
        self._sending = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sent: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Starts the journal's thread and creates the first files. Without room on the disk, they are created later."""
        self._thread.start()
        try:
            await self._on_disk(self._journal.prepare)
        except OSError as error:
            log.warning("the journal of downloads has no room on the disk", extra={"reason": str(error)})

    async def record(self, download: Download) -> None:
        """Returns once the download is in the journal and synced, so that it will be counted.

        Raises DatabaseUnavailable when the disk does not accept it. If that took STUCK_SECONDS, it may count later.
        """
        if self._is_stuck:
            raise DatabaseUnavailable(NOT_COUNTED)
        recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._append(download, recorded)
        await recorded

    def record_soon(self, download: Download) -> None:
        """Adds the download to the next group without waiting for it. It is lost if the process is killed before."""
        self._append(download, None)

    async def check(self) -> None:
        """Raises OSError while the disk takes no downloads. Waits as long as the disk does not answer."""
        await self._on_disk(self._journal.check)
        self._is_failing = False

    async def refuse_early(self) -> None:
        """Raises DatabaseUnavailable if the last download could not be journaled and the next one can't be either.

        For answers that are recorded at their end: a client should not get most of a tarball in vain.
        """
        if self._is_stuck:
            raise DatabaseUnavailable(NOT_COUNTED)
        if self._is_failing:
            try:
                await self.check()
            except OSError as error:
                raise DatabaseUnavailable(NOT_COUNTED) from error

    def _append(self, download: Download, recorded: Waiter) -> None:
        self._records.append(orjson.dumps(download))
        self._recorded.append(recorded)
        if not self._writing:
            self._writing = True
            self._idle.clear()
            # Requests that are ready now join the same group.
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        records, self._records = self._records[:MAX_GROUP], self._records[MAX_GROUP:]
        recorded, self._recorded = self._recorded[:MAX_GROUP], self._recorded[MAX_GROUP:]
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(STUCK_SECONDS, self._give_up, recorded)
        self._calls.put(functools.partial(self._write_group, loop, records, recorded))

    def _write_group(
        self, loop: asyncio.AbstractEventLoop, records: Sequence[bytes], recorded: Sequence[Waiter]
    ) -> None:
        """Runs in the journal's thread."""
        failure: Exception | None = None
        try:
            self._journal.append(records)
        except Exception as error:  # noqa: BLE001 - every waiting request fails with it
            failure = error
        loop.call_soon_threadsafe(self._written, len(records), recorded, failure)

    def _give_up(self, recorded: Sequence[Waiter]) -> None:
        """Fails all requests that wait, those whose group is written and the next ones."""
        self._is_stuck = True
        log.error("the disk of the journal of downloads does not answer")
        _fail([*recorded, *self._recorded], TimeoutError("the disk does not answer"))

    def _written(self, count: int, recorded: Sequence[Waiter], failure: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._is_stuck, self._is_failing = False, failure is not None
        if self._records:
            self._write()
        else:
            self._writing = False
            self._idle.set()
        if failure is None:
            if not self._arrived.is_set():
                self._arrived.set()
            for each in recorded:
                if each is not None and not each.done():
                    each.set_result(None)
            return
        log.error("downloads could not be journaled", exc_info=failure, extra={"count": count})
        _fail(recorded, failure)

    async def send_forever(self) -> None:
        """Sends journaled downloads to PostgreSQL. Ends only by cancellation."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(GATHER_SECONDS)
            try:
                await self.send()
            except DatabaseUnavailable:
                log.info("journaled downloads wait for the database")
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:  # no error may end the loop: the batch stays and is sent again
                log.exception("journaled downloads can't be added")
                await asyncio.sleep(RETRY_SECONDS)

    async def send(self) -> None:
        """Sends all journaled downloads. Raises DatabaseUnavailable."""
        async with self._sending:
            self._arrived.clear()
            waiting, are_all = await self._on_disk(self._journal.cut)
            if not are_all:
                self._arrived.set()
            for _ in range(waiting):
                # A task of its own finishes the batch even if the service stops now.
                self._sent = asyncio.ensure_future(self._send_next())
                await asyncio.wait([self._sent])
                if self._sent.cancelled():
                    raise DatabaseUnavailable(NOT_COUNTED)
                self._sent.result()

    async def _send_next(self) -> None:
        file = await self._on_disk(self._journal.take)
        sent = False
        try:
            await self._send_batch(file)
            sent = True
        finally:
            if not sent:
                self._arrived.set()
            await self._on_disk(functools.partial(self._journal.done if sent else self._journal.put_back, file))

    async def _send_batch(self, file: File) -> None:
        batch = await asyncio.to_thread(file.read)
        if batch is not None:
            await self._add(batch.id, await asyncio.to_thread(batch.rows))

    async def take_over_forever(self) -> None:
        """Sends the batches of dead processes once the database is available. Ends only by cancellation."""
        while True:
            try:
                await self.take_over()
            except DatabaseUnavailable:
                log.info("downloads of dead processes wait for the database")
            except Exception:  # no error may end the loop: the files stay and are tried again
                log.exception("downloads of dead processes can't be added")
            await asyncio.sleep(TAKE_OVER_SECONDS)

    async def take_over(self) -> None:
        """Sends all batches of dead processes and removes their files. Raises DatabaseUnavailable."""
        await leftovers.add_all(self._folder, self._add)

    async def flush(self) -> None:
        """Journals and sends all downloads so far. Raises DatabaseUnavailable."""
        await self._idle.wait()
        await self.send()

    async def finish(self) -> None:
        """Journals what waits, and tries for a short time to send it. Call it when no more downloads can arrive.

        What PostgreSQL does not add in time stays in the journal, for the next process.
        """
        await self._idle.wait()
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                if self._sent is not None:
                    await asyncio.wait([self._sent])
                await self.send()
        except (DatabaseUnavailable, TimeoutError):
            log.warning("downloads stay in the journal until the next start")
        except Exception:  # the service must stop all the same, and the files stay
            log.exception("journaled downloads can't be added")
        if self._sent is not None:
            self._sent.cancel()
            await asyncio.wait([self._sent])
        await self._on_disk(self._journal.close)
        self._calls.put(None)

    async def _on_disk(self, call: Callable[[], Result]) -> Result:
        """The result of `call` in the journal's thread."""
        result: Future[Result] = Future()

        def run() -> None:
            if not result.set_running_or_notify_cancel():
                return  # the caller was cancelled, and setting a result would raise an error in this thread
            try:
                result.set_result(call())
            except Exception as error:  # noqa: BLE001 - the caller raises it
                result.set_exception(error)

        self._calls.put(run)
        return await asyncio.wrap_future(result)

    def _run_calls(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    async def _add(self, batch: UUID, rows: Rows) -> None:
        """Commits a batch. If PostgreSQL refuses a value in it, commits each half on its own, down to the bad download.

        The ids of the halves follow from the id of the batch, so a repeat after a crash counts none of them twice.
        """
        try:
            async with self._db.transaction() as conn:
                store.add(conn, batch, rows)
        except ConstraintViolated as error:
            if error.constraint != store.COUNTED_BEFORE:
                raise
            log.info("batch was counted already", extra={"batch": str(batch)})
            return
        except (ValueRefused, ValueError, TypeError) as error:
            if len(rows) == 1:
                REFUSED.inc()
                version = rows[0]["version_id"]
                log.warning("download refused and not counted", extra={"version_id": version, "reason": str(error)})
                return
            middle = len(rows) // 2
            await self._add(uuid5(batch, "first half"), rows[:middle])
            await self._add(uuid5(batch, "second half"), rows[middle:])
            return
        RECORDED.inc(sum(row["version_id"] is not None for row in rows))


def _fail(recorded: Sequence[Waiter], cause: Exception) -> None:
    for each in recorded:
        if each is not None and not each.done():
            error = DatabaseUnavailable(NOT_COUNTED)
            error.__cause__ = cause
            each.set_exception(error)


@contextlib.asynccontextmanager
async def open_recorder(db: Database, folder: Path) -> AsyncIterator[DownloadRecorder]:
    """A running recorder. Leaving the block journals all waiting downloads, and sends them if PostgreSQL answers."""
    await asyncio.to_thread(agents.parse, "Mozilla/5.0")  # loads the patterns of browsers, which is slow
    recorder = DownloadRecorder(db, folder)
    await recorder.start()
    tasks = {"count downloads": recorder.send_forever, "take over downloads": recorder.take_over_forever}
    try:
        async with running(tasks):
            yield recorder
    finally:
        await recorder.finish()


async def forget_batches(db: Database) -> int:
    """Removes the ids of batches that are too old to be in a file. Returns how many."""
    async with db.transaction() as conn:
        return await store.forget_batches(conn)
