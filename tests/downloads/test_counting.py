"""Downloads are counted exactly: concurrent ones, without PostgreSQL, and when a process dies."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4, uuid5

import orjson
import pytest

from registry.db import migrate
from registry.db.engine import Statement, open_database
from registry.devstack.postgres import Postgres
from registry.downloads import journal, leftovers, record, store
from registry.downloads.journal import Journal
from registry.downloads.keys import RECORDER
from registry.downloads.record import DownloadRecorder, open_recorder
from registry.downloads.store import Download
from registry.errors import DatabaseUnavailable
from registry.keys import DB, SETTINGS
from registry.settings import Settings
from registry.web.addresses import network_of
from tests.client import Registry, tarball
from tests.conftest import MakeRegistry
from tests.downloads.counts import counted, counted_to, made_up, rows
from tests.until import until

HERE = "/packages/demo/1.0.0/tarball"
ONE_VERSION = Statement("SELECT id, package_id FROM package_versions LIMIT 1", {})


def waiting(folder: Path) -> list[str]:
    """The ids of the batches in `folder` that are not counted."""
    return list(leftovers.waiting(folder))


def leave(folder: Path, *downloads: Download) -> UUID:
    """Leaves the journal of a dead process. Returns the id of its batch."""
    dead = Journal(folder)
    dead.append([orjson.dumps(each) for each in downloads])
    dead.close()
    [(batch, _, _)] = journal.waiting(folder)
    return batch


def leave_earlier(folder: Path, batch: UUID, *downloads: Download) -> None:
    """Leaves a file as the release before wrote it."""
    (folder / f"{batch}.downloads.json").write_bytes(orjson.dumps(downloads))


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A spool folder that no process uses."""
    folder = tmp_path / "left"
    folder.mkdir()
    return folder


async def take_over(registry: Registry, folder: Path) -> None:
    await DownloadRecorder(registry.app[DB], folder).take_over()


async def download_of(registry: Registry) -> Download:
    async with registry.app[DB].read() as conn:
        row = await conn.one(ONE_VERSION)
    return made_up(row.id, row.package_id)


@pytest.fixture
async def demo(registry: Registry) -> Registry:
    ada = await registry.user()
    for version in ("1.0.0", "1.1.0"):
        await ada.publish("demo", version)
    return registry


async def test_concurrent_downloads_are_counted_exactly_everywhere(demo: Registry):
    answers = await asyncio.gather(*(demo.get(f"/packages/demo/1.{number % 2}.0/tarball") for number in range(200)))
    assert {answer.status for answer in answers} == {200}
    await demo.flush()
    info = (await demo.get("/packages/demo")).json
    assert info["downloads"] == {"total": 200, "week": 200, "month": 200}
    assert info["total_downloads"] == 200
    assert [item["downloads"] for item in info["versions"]] == [100, 100]
    assert (await demo.get("/packages/demo/1.0.0")).json["downloads"] == 100
    stats = (await demo.get("/stats")).json
    assert stats["packages"]["downloads"] == 200
    assert stats["top_packages"] == [{"name": "demo", "downloads": 200}]
    assert (await demo.get("/packages/demo/stats")).json["downloads"]["total"] == 200
    assert await counted(demo) == 200


async def test_concurrent_downloads_are_committed_in_batches(demo: Registry):
    await asyncio.gather(*(demo.get(HERE) for _ in range(60)))
    await demo.flush()
    async with demo.app[DB].read() as conn:
        batches = await conn.value(Statement("SELECT count(*) FROM download_batches", {}))
    assert 1 <= batches < 60


async def test_two_processes_count_exactly(make_registry: MakeRegistry):
    one, other = await make_registry(), await make_registry()
    ada = await one.user()
    for name in ("aa", "bb"):
        await ada.publish(name)
    paths = [f"/packages/{name}/1.0.0/tarball" for name in ("aa", "bb")]
    await asyncio.gather(*(each.get(path) for _ in range(25) for each in (one, other) for path in paths))
    await other.flush()
    assert await counted(one) == 100


async def test_a_download_is_stored_with_network_and_user_agent(demo: Registry):
    await demo.get(HERE, headers={"User-Agent": "synapse-cli/1.0 " + "x" * 600})
    await demo.get(HERE, headers={"User-Agent": "é\udcff"})
    await demo.flush()
    async with demo.app[DB].read() as conn:
        # The ids within one batch follow the hashes of the clients, which change every day.
        stored = "SELECT host(ip_address) AS ip, user_agent FROM downloads ORDER BY length(user_agent) DESC"
        rows = await conn.all(Statement(stored, {}))
    assert {row.ip for row in rows} == {"127.0.0.0"}
    assert rows[0].user_agent == ("synapse-cli/1.0 " + "x" * 600)[:512]
    assert len(rows) == 2


def test_addresses_are_cut_to_their_network():
    assert network_of("203.0.113.77") == "203.0.113.0"
    assert network_of("2001:db8:1:2::3") == "2001:db8:1::"
    assert network_of("unknown") is None
    assert network_of("203.0.113.77", full=True) == "203.0.113.77"


async def test_a_download_counts_even_if_its_version_was_just_deleted(demo: Registry):
    ada = await demo.user()
    download = await download_of(demo)
    await ada.call("DELETE", "/packages/demo/1.0.0")
    await demo.app[RECORDER].record(download)
    assert await counted(demo) == 1
    assert (await demo.get("/packages/demo")).json["downloads"]["total"] == 1


async def test_a_download_is_on_the_disk_before_its_answer_ends(own_postgres: Postgres, make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_DB_URL=own_postgres.url())
    await (await registry.user()).publish("demo")
    await registry.drain()
    await registry.get(HERE)
    await registry.flush()
    folder = registry.app[SETTINGS].limits.spool_path
    async with away(own_postgres):
        assert (await registry.get(HERE)).status == 200
        copies = [path.read_bytes() for path in folder.glob(journal.PATTERN)]
    [found] = [batch for each in copies if (batch := journal._parse(each, folder)) is not None]
    assert [row["status"] for row in found.rows()] == [200]
    await counted_to(registry, 2)


async def test_a_batch_counts_once_if_the_process_dies_after_the_commit(demo: Registry, left: Path):
    """The process died after the commit, before it cleared the file."""
    downloads = [await download_of(demo)] * 3
    batch = leave(left, *downloads)
    async with demo.app[DB].transaction() as conn:
        store.add(conn, batch, rows(*downloads))
    await take_over(demo, left)
    assert list(left.iterdir()) == []
    assert await counted(demo) == 3


async def test_two_processes_that_take_over_one_journal_count_it_once(demo: Registry, left: Path):
    for _ in range(20):
        leave_earlier(left, uuid4(), *[await download_of(demo)] * 2)
    leave(left, *[await download_of(demo)] * 3)
    await asyncio.gather(*(take_over(demo, left) for _ in range(4)))
    assert list(left.iterdir()) == []
    assert await counted(demo) == 43


async def test_the_journal_of_a_living_process_is_left_alone(demo: Registry, left: Path):
    living = Journal(left)
    living.append([orjson.dumps(await download_of(demo))])
    await take_over(demo, left)
    assert len(waiting(left)) == 1
    assert await counted(demo) == 0
    living.close()
    await take_over(demo, left)
    assert await counted(demo) == 1


async def test_downloads_of_versions_that_a_restored_database_lacks_are_skipped(demo: Registry, left: Path):
    known = await download_of(demo)
    lost = replace(known, version_id=999_999, package_id=999_999)
    leave(left, lost, known, known)
    await take_over(demo, left)
    assert list(left.iterdir()) == []
    await demo.app[RECORDER].record(lost)
    assert await counted(demo) == 2


async def test_counting_continues_after_a_statement_timeout(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_DB_STATEMENT_TIMEOUT="1s")
    await (await registry.user()).publish("demo")
    # The lock must outlast the statement timeout: PostgreSQL also ends transactions that are idle for half of it.
    patient = replace(registry.app[SETTINGS].database, statement_timeout=timedelta(minutes=1))
    async with open_database(patient) as other, other.transaction() as conn:
        await conn.command("LOCK TABLE package_versions IN SHARE MODE")
        assert (await registry.get(HERE)).status == 200
        with pytest.raises(DatabaseUnavailable):
            await registry.flush()
        assert len(waiting(registry.app[SETTINGS].limits.spool_path)) == 1
    assert (await registry.get(HERE)).status == 200
    await counted_to(registry, 2)


BAD = ({"address": "nobody"}, {"user_agent": "a\0b"}, {"status": 99_999}, {"kind": None})


async def test_a_bad_download_does_not_lose_the_rest_of_its_batch(demo: Registry, left: Path):
    good = await download_of(demo)
    refused = record.REFUSED._value.get()
    async with open_recorder(demo.app[DB], left) as recorder:
        batch = [good, *(replace(good, **bad) for bad in BAD), good, good]
        await asyncio.gather(*(recorder.record(each) for each in batch))
    assert await counted(demo) == 3
    assert record.REFUSED._value.get() - refused == len(BAD)
    assert waiting(left) == []


async def test_a_left_batch_with_a_bad_download_is_added_once_and_blocks_no_other(demo: Registry, left: Path):
    good = await download_of(demo)
    batch = leave(left, good, replace(good, address="nobody"), good)
    leave_earlier(left, UUID(int=2), good)
    # The process died after it had added the first half.
    async with demo.app[DB].transaction() as conn:
        store.add(conn, uuid5(batch, "first half"), rows(good))
    await take_over(demo, left)
    assert list(left.iterdir()) == []
    assert await counted(demo) == 3


async def test_a_left_batch_that_can_not_be_added_stays_and_blocks_no_other(left: Path):
    for number in range(3):
        leave_earlier(left, UUID(int=number), made_up(1, 1))
    added: list[UUID] = []

    async def add(batch: UUID, _: object) -> None:
        if batch == UUID(int=1):
            raise RuntimeError("a fault")
        added.append(batch)

    await leftovers.add_all(left, add)
    assert added == [UUID(int=0), UUID(int=2)]
    assert waiting(left) == [str(UUID(int=1))]


async def test_files_of_the_release_before_are_counted_and_damaged_ones_renamed(demo: Registry, left: Path):
    damaged = [b"", b"[{", b"[]", b"[1]", b"{}", b"[{}]", b'[{"at": "never"}]']
    for number, content in enumerate(damaged):
        (left / f"{number}.downloads.json").write_bytes(content)
    (left / "0.downloads").write_bytes(b"x" * 100)
    leave_earlier(left, uuid4(), *[await download_of(demo)] * 3)
    await take_over(demo, left)
    assert waiting(left) == []
    assert len(list(left.glob("*.damaged"))) == len(damaged) + 1
    assert await counted(demo) == 3


async def test_counting_does_not_wait_for_readers_of_the_table(demo: Registry):
    download = await download_of(demo)
    await demo.app[RECORDER].record(download)
    await demo.flush()  # creates the partition of the month
    async with demo.app[DB].transaction() as reading:
        await reading.command("LOCK TABLE downloads IN ACCESS SHARE MODE")
        await demo.app[RECORDER].record(download)
        async with asyncio.timeout(5):
            await demo.flush()


async def test_the_journals_of_dead_processes_are_counted_at_the_start(make_registry: MakeRegistry):
    registry = await make_registry()
    await (await registry.user()).publish("demo")
    folder = registry.app[SETTINGS].limits.spool_path
    leave(folder, *[await download_of(registry)] * 2)
    leave_earlier(folder, uuid4(), await download_of(registry))
    (folder / f"{uuid4()}.tmp").write_bytes(b"[{")  # the process died while it wrote this file
    await make_registry()
    await counted_to(registry, 3)
    await until(lambda: not waiting(folder))


async def test_waiting_downloads_are_committed_when_the_service_stops(demo: Registry, left: Path):
    download = await download_of(demo)
    async with open_recorder(demo.app[DB], left) as recorder:
        counting = [asyncio.ensure_future(recorder.record(download)) for _ in range(5)]
        await asyncio.sleep(0)
    await asyncio.gather(*counting)
    assert await counted(demo) == 5


async def test_counting_goes_on_after_a_cancelled_send(demo: Registry, left: Path, monkeypatch: pytest.MonkeyPatch):
    """The journal's thread is busy with a download when the send, which waits for it, is cancelled."""
    download, append = await download_of(demo), Journal.append
    busy, released = threading.Event(), threading.Event()

    def slow(self: Journal, records: Sequence[bytes]) -> None:
        busy.set()
        released.wait()
        append(self, records)

    monkeypatch.setattr(Journal, "append", slow)
    async with asyncio.timeout(60), open_recorder(demo.app[DB], left) as recorder:
        counting = asyncio.ensure_future(recorder.record(download))
        await asyncio.to_thread(busy.wait)
        sending = asyncio.ensure_future(recorder.send())
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])
        released.set()
        await counting
        await recorder.flush()
    assert await counted(demo) == 1


async def test_without_postgresql_the_service_stops_and_the_next_process_counts(
    demo: Registry, left: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(record, "FINISH_SECONDS", 0.1)
    settings = Settings.read({"REGISTRY_DB_URL": "postgresql://nobody@/none?host=/nowhere"}).database
    async with open_database(settings) as nowhere, open_recorder(nowhere, left) as recorder:
        await recorder.record(await download_of(demo))
        recorder.record_soon(await download_of(demo))
    assert len(waiting(left)) == 1
    await take_over(demo, left)
    assert list(left.iterdir()) == []
    assert await counted(demo) == 2


async def test_after_an_outage_the_batches_that_a_process_unlocked_count_once(
    demo: Registry, left: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(journal, "FILE_BYTES", 700)
    monkeypatch.setattr(journal, "MAX_OPEN", 2)
    download = await download_of(demo)

    def unavailable(*_: object) -> None:
        raise DatabaseUnavailable("away")

    async with open_recorder(demo.app[DB], left) as recorder:
        with monkeypatch.context() as outage:
            outage.setattr(store, "add", unavailable)
            for _ in range(12):
                await recorder.record(download)
            with pytest.raises(DatabaseUnavailable):
                await recorder.flush()
        assert len(waiting(left)) > journal.MAX_OPEN + 2
        await until(lambda: not waiting(left))
    assert await counted(demo) == 12


async def test_batches_that_wait_too_long_are_measured(demo: Registry, left: Path):
    leave_earlier(left, UUID(int=1), await download_of(demo))
    old = time.time() - 100
    os.utime(left / f"{UUID(int=1)}.downloads.json", (old, old))
    (left / "new").mkdir()
    leave(left / "new", await download_of(demo))
    leftovers._measure(left)
    assert leftovers.WAITING._value.get() == 1
    assert leftovers.BYTES._value.get() > 100
    assert leftovers.OLDEST._value.get() >= 100
    leftovers._measure(left / "new")
    assert leftovers.WAITING._value.get() == 0
    assert leftovers.BYTES._value.get() == journal.FILE_BYTES


async def test_old_ids_of_batches_are_deleted(demo: Registry):
    await demo.get(HERE)
    await demo.flush()
    assert await record.forget_batches(demo.app[DB]) == 0
    async with demo.app[DB].transaction() as conn:
        await conn.command("UPDATE download_batches SET created_at = now() - interval '91 days'")
    assert await record.forget_batches(demo.app[DB]) == 1


async def test_a_disk_that_does_not_answer_refuses_downloads_until_it_does(
    demo: Registry, left: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(record, "STUCK_SECONDS", 0.05)
    download, append, released = await download_of(demo), Journal.append, threading.Event()

    def slow(self: Journal, records: Sequence[bytes]) -> None:
        released.wait()
        append(self, records)

    monkeypatch.setattr(Journal, "append", slow)
    async with asyncio.timeout(60), open_recorder(demo.app[DB], left) as recorder:
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable, match="can't be counted"):
                await recorder.record(download)
        with pytest.raises(DatabaseUnavailable, match="can't be counted"):
            await recorder.refuse_early()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await recorder.check()
        released.set()
        await recorder.check()
        await recorder.record(download)
        await recorder.flush()
    # The first download was on its way to the disk. The second one was refused at once.
    assert await counted(demo) == 2


@pytest.fixture
def own_postgres(stack_folder: Path) -> Iterator[Postgres]:
    """A PostgreSQL server that the test may stop."""
    with Postgres(stack_folder / f"postgres-{uuid4().hex[:8]}", durable=False, environ=os.environ) as server:
        migrate.upgrade(Settings.read({"REGISTRY_DB_URL": server.url()}).database)
        yield server


@asynccontextmanager
async def away(server: Postgres) -> AsyncIterator[None]:
    await asyncio.to_thread(server.stop)
    try:
        yield
    finally:
        await asyncio.to_thread(server.start)


async def test_without_postgresql_known_tarballs_are_served_and_counted_later(
    own_postgres: Postgres, make_registry: MakeRegistry
):
    registry = await make_registry(REGISTRY_DB_URL=own_postgres.url())
    ada = await registry.user()
    data = tarball(name="demo", version="1.0.0")
    await ada.publish("demo", "1.0.0", data=data)
    await ada.publish("other")
    await registry.get(HERE)
    await registry.flush()
    folder = registry.app[SETTINGS].limits.spool_path
    async with away(own_postgres):
        answers = await asyncio.gather(*(registry.get(HERE, headers=ada.headers) for _ in range(20)))
        assert {(answer.status, answer.body) for answer in answers} == {(200, data)}
        assert (await registry.get(HERE)).body == data
        assert waiting(folder)
        for path in ("/packages/other/1.0.0/tarball", "/packages/demo", "/packages", "/stats"):
            answer = await registry.get(path)
            assert answer.status == 503, path
            assert int(answer.headers["Retry-After"]) > 0
        assert (await ada.put("demo", "2.0.0")).status == 503
    await counted_to(registry, 22)
    await until(lambda: not waiting(folder))
    assert await counted(registry) == 22
    assert (await registry.get("/packages/other/1.0.0/tarball")).status == 200


async def test_without_postgresql_deleted_versions_are_not_served(own_postgres: Postgres, make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_DB_URL=own_postgres.url())
    ada = await registry.user()
    await ada.publish("demo")
    await registry.get(HERE)
    await ada.call("DELETE", "/packages/demo/1.0.0")
    assert (await registry.get(HERE)).status == 404
    async with away(own_postgres):
        assert (await registry.get(HERE)).status == 503


async def test_a_download_fails_if_the_disk_does_not_accept_it(
    demo: Registry, left: Path, monkeypatch: pytest.MonkeyPatch
):
    """A client must not get a complete tarball that isn't counted."""

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    download = await download_of(demo)
    async with open_recorder(demo.app[DB], left) as recorder:
        with monkeypatch.context() as full:
            full.setattr(journal, "_write_all", no_room)
            with pytest.raises(DatabaseUnavailable, match="can't be counted"):
                await recorder.record(download)
        await recorder.record(download)
        await recorder.flush()
    assert await counted(demo) == 1
