"""Downloads are counted exactly: concurrent ones, without PostgreSQL, and when a process dies."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4, uuid5

import pytest

from registry.db import migrate
from registry.db.engine import Database, Statement, open_database
from registry.devstack.postgres import Postgres
from registry.downloads import record, store
from registry.downloads.handlers import RECORDER
from registry.downloads.record import DownloadRecorder, open_recorder
from registry.downloads.store import Download
from registry.errors import DatabaseUnavailable
from registry.keys import DB, SETTINGS
from registry.settings import Settings
from registry.web.addresses import network_of
from tests.client import Registry, tarball
from tests.conftest import MakeRegistry
from tests.downloads.counts import counted, counted_to, made_up
from tests.until import until

HERE = "/packages/demo/1.0.0/tarball"
ONE_VERSION = Statement("SELECT id, package_id FROM package_versions LIMIT 1", {})


def waiting(folder: Path) -> list[Path]:
    return list(folder.glob("*.downloads.json"))


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
    assert await counted(one) == 100


async def test_a_download_is_stored_with_network_and_user_agent(demo: Registry):
    await demo.get(HERE, headers={"User-Agent": "synapse-cli/1.0 " + "x" * 600})
    await demo.get(HERE, headers={"User-Agent": "é\udcff"})
    async with demo.app[DB].read() as conn:
        rows = await conn.all(Statement("SELECT host(ip_address) AS ip, user_agent FROM downloads ORDER BY id", {}))
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


async def test_a_batch_counts_once_if_the_process_dies_after_the_commit(demo: Registry, tmp_path: Path):
    """The process died after the commit, before it removed the spool file."""
    batch, downloads = uuid4(), [await download_of(demo)] * 3
    async with demo.app[DB].transaction() as conn:
        store.add(conn, batch, downloads)
    record._write_batch(tmp_path, batch, downloads)
    recorder = DownloadRecorder(demo.app[DB], tmp_path)
    await recorder.replay()
    assert waiting(tmp_path) == []
    assert await counted(demo) == 3


async def test_downloads_of_versions_that_a_restored_database_lacks_are_skipped(demo: Registry, tmp_path: Path):
    known = await download_of(demo)
    lost = replace(known, version_id=999_999, package_id=999_999)
    record._write_batch(tmp_path, uuid4(), [lost, known, known])
    await DownloadRecorder(demo.app[DB], tmp_path).replay()
    assert list(tmp_path.glob("*.downloads.*")) == []
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
        assert len(waiting(registry.app[SETTINGS].limits.spool_path)) == 1
    assert (await registry.get(HERE)).status == 200
    await counted_to(registry, 2)


BAD = ({"address": "nobody"}, {"user_agent": "a\0b"}, {"status": 99_999}, {"kind": None})


async def test_a_bad_download_does_not_lose_the_rest_of_its_batch(demo: Registry, tmp_path: Path):
    good = await download_of(demo)
    refused = record.REFUSED._value.get()
    async with open_recorder(demo.app[DB], tmp_path) as recorder:
        batch = [good, *(replace(good, **bad) for bad in BAD), good, good]
        await asyncio.gather(*(recorder.record(each) for each in batch))
    assert await counted(demo) == 3
    assert record.REFUSED._value.get() - refused == len(BAD)
    assert waiting(tmp_path) == []


async def test_a_spooled_batch_with_a_bad_download_is_replayed_once_and_blocks_no_other(demo: Registry, tmp_path: Path):
    good = await download_of(demo)
    batch = UUID(int=1)
    record._write_batch(tmp_path, batch, [good, replace(good, address="nobody"), good])
    record._write_batch(tmp_path, UUID(int=2), [good])
    # The process died after it had added the first half.
    async with demo.app[DB].transaction() as conn:
        store.add(conn, uuid5(batch, "first half"), [good])
    await DownloadRecorder(demo.app[DB], tmp_path).replay()
    assert waiting(tmp_path) == []
    assert await counted(demo) == 3


async def test_damaged_spool_files_are_renamed_and_the_others_are_counted(demo: Registry, tmp_path: Path):
    damaged = [b"", b"[{", b"[]", b"[1]", b"{}", b"[{}]", b'[{"at": "never"}]']
    for number, content in enumerate(damaged):
        (tmp_path / f"{number}.downloads.json").write_bytes(content)
    record._write_batch(tmp_path, uuid4(), [await download_of(demo)] * 3)
    await DownloadRecorder(demo.app[DB], tmp_path).replay()
    assert waiting(tmp_path) == []
    assert len(list(tmp_path.glob("*.downloads.damaged"))) == len(damaged)
    assert await counted(demo) == 3


async def test_counting_does_not_wait_for_readers_of_the_table(demo: Registry):
    download = await download_of(demo)
    await demo.app[RECORDER].record(download)  # creates the partition of the month
    async with demo.app[DB].transaction() as reading:
        await reading.command("LOCK TABLE downloads IN ACCESS SHARE MODE")
        async with asyncio.timeout(5):
            await demo.app[RECORDER].record(download)


async def test_spool_files_of_a_dead_process_are_counted_at_the_start(make_registry: MakeRegistry):
    registry = await make_registry()
    await (await registry.user()).publish("demo")
    folder = registry.app[SETTINGS].limits.spool_path
    record._write_batch(folder, uuid4(), [await download_of(registry)] * 2)
    (folder / f"{uuid4()}.tmp").write_bytes(b"[{")  # the process died while it wrote this file
    await make_registry()
    await counted_to(registry, 2)
    await until(lambda: not waiting(folder))


async def test_waiting_downloads_are_committed_when_the_service_stops(demo: Registry, tmp_path: Path):
    download = await download_of(demo)
    async with open_recorder(demo.app[DB], tmp_path) as recorder:
        counting = [asyncio.ensure_future(recorder.record(download)) for _ in range(5)]
        await asyncio.sleep(0)
    await asyncio.gather(*counting)
    assert await counted(demo) == 5


async def test_old_ids_of_batches_are_deleted(demo: Registry):
    await demo.get(HERE)
    assert await record.forget_batches(demo.app[DB]) == 0
    async with demo.app[DB].transaction() as conn:
        await conn.command("UPDATE download_batches SET created_at = now() - interval '91 days'")
    assert await record.forget_batches(demo.app[DB]) == 1


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


async def test_a_download_fails_if_neither_database_nor_disk_can_count_it(
    demo: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A client must not get a complete tarball that isn't counted."""

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    settings = Settings.read({"REGISTRY_DB_URL": "postgresql://nobody@/none?host=/nowhere"}).database
    monkeypatch.setattr(record, "_write_batch", no_room)
    async with open_database(settings) as nowhere:
        assert isinstance(nowhere, Database)
        recorder = DownloadRecorder(nowhere, tmp_path)
        counting = asyncio.ensure_future(recorder.record(await download_of(demo)))
        await asyncio.sleep(0)
        await recorder.flush()
        with pytest.raises(DatabaseUnavailable, match="can't be counted"):
            await counting
    assert await counted(demo) == 0
