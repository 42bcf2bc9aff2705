"""Downloads are counted exactly, whatever goes away meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Database, Row, Statement, json, open_database, statement
from registry.db.tables import packages, users
from registry.downloads import record
from registry.downloads.record import DownloadRecorder, network_of, open_recorder
from registry.downloads.store import Download
from registry.settings import Settings

ADD_USER = statement(
    sa.insert(users).values(username="ada", password_hash="x", role="user").returning(users.c.id)  # type: ignore[arg-type]
)
ADD_PACKAGE = statement(
    sa.insert(packages).values(name=p("name"), similarity_key=p("name"), owner_id=p("owner")).returning(packages.c.id)
)
ADD_VERSION = Statement(
    "INSERT INTO package_versions (package_id, version, canonical, sort_key, is_prerelease, manifest, "
    "dependencies_json, keywords_json, checksum, tarball_path, tarball_size, published_by) VALUES "
    "(%(package)s, '1.0.0', '1.0.0', '1', false, %(json)s, %(json)s, %(json)s, 'x', 'x', 1, %(owner)s) RETURNING id",
    {},
)
COUNTS = Statement(
    "SELECT (SELECT count(*) FROM downloads) AS events, (SELECT sum(download_count) FROM packages) AS packages, "
    "(SELECT sum(download_count) FROM package_versions) AS versions, (SELECT sum(count) FROM download_days) AS days, "
    "(SELECT sum(count) FROM registry_days) AS registry",
    {},
)


@pytest.fixture
async def shelf(db: Database) -> list[tuple[int, int]]:
    """(version id, package id) of three packages of one version each."""
    async with db.transaction() as conn:
        owner = await conn.value(ADD_USER)
        made = []
        for name in ("a", "b", "c"):
            package = await conn.value(ADD_PACKAGE, name=name, owner=owner)
            made.append((await conn.value(ADD_VERSION, package=package, owner=owner, json=json({})), package))
    return made


def download(of: tuple[int, int], at: datetime | None = None) -> Download:
    return Download(*of, at or datetime.now(UTC), "192.0.2.0", "test/1.0")


async def counts(db: Database) -> Row:
    async with db.read() as conn:
        return await conn.one(COUNTS)


@pytest.fixture
async def away() -> AsyncIterator[Database]:
    """A database that is not there."""
    settings = Settings.read({"REGISTRY_DB_URL": "postgresql://nobody@127.0.0.1:1/none"})
    async with open_database(settings.database) as database:
        yield database


def files(folder: Path) -> list[str]:
    return sorted(file.name.partition(".")[2] for file in folder.iterdir())


async def test_every_count_is_the_number_of_events(db: Database, shelf: list[tuple[int, int]], tmp_path: Path):
    async with open_recorder(db, tmp_path) as recorder:
        await asyncio.gather(*(recorder.record(download(shelf[i % 3])) for i in range(2_500)))
        assert set(await counts(db)) == {2_500}


async def test_several_processes_count_the_same_packages_without_deadlock(
    db: Database, shelf: list[tuple[int, int]], tmp_path: Path
):
    async with (
        open_recorder(db, tmp_path / "1") as one,
        open_recorder(db, tmp_path / "2") as two,
        open_recorder(db, tmp_path / "3") as three,
    ):
        for _ in range(20):
            await asyncio.gather(
                *(r.record(download(of)) for r in (one, two, three) for of in (*shelf, *reversed(shelf)))
            )
    assert set(await counts(db)) == {20 * 3 * 6}


async def test_days_are_those_of_utc(db: Database, shelf: list[tuple[int, int]], tmp_path: Path):
    tokyo = datetime.fromisoformat("2026-03-01T01:30:00+09:00")
    async with open_recorder(db, tmp_path) as recorder:
        await recorder.record(download(shelf[0], tokyo))
    async with db.read() as conn:
        assert str(await conn.value(Statement("SELECT day FROM registry_days", {}))) == "2026-02-28"


async def test_downloads_of_an_outage_wait_in_a_file_and_are_counted_once(
    db: Database, away: Database, shelf: list[tuple[int, int]], tmp_path: Path
):
    unreachable = DownloadRecorder(away, tmp_path)
    recording = asyncio.gather(*(unreachable.record(download(shelf[0])) for _ in range(7)))
    await asyncio.sleep(0)
    await unreachable.flush()
    await recording
    assert files(tmp_path) == ["downloads.json"]
    reachable = DownloadRecorder(db, tmp_path)
    await reachable.replay()
    await reachable.replay()
    assert set(await counts(db)) == {7}
    assert files(tmp_path) == []


async def test_a_batch_whose_commit_was_cut_off_is_not_counted_twice(
    db: Database, shelf: list[tuple[int, int]], tmp_path: Path
):
    """The state after a crash between the commit and the removal of the file."""
    batch = uuid4()
    recorder = DownloadRecorder(db, tmp_path)
    await recorder._add(batch, [download(shelf[0])])
    record._write_batch(tmp_path, batch, [download(shelf[0])])
    await recorder.replay()
    assert set(await counts(db)) == {1}
    assert files(tmp_path) == []


async def test_a_damaged_file_is_set_aside_and_the_others_are_counted(
    db: Database, shelf: list[tuple[int, int]], tmp_path: Path
):
    (tmp_path / f"00000000-{uuid4()}.downloads.json").write_text("[{")
    record._write_batch(tmp_path, uuid4(), [download(shelf[0])])
    await DownloadRecorder(db, tmp_path).replay()
    assert set(await counts(db)) == {1}
    assert files(tmp_path) == ["downloads.damaged"]


async def test_stopping_counts_what_still_waits(db: Database, shelf: list[tuple[int, int]], tmp_path: Path):
    async with open_recorder(db, tmp_path) as recorder:
        waiting = [asyncio.ensure_future(recorder.record(download(shelf[1]))) for _ in range(5)]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert set(await counts(db)) == {5}


async def test_batch_ids_are_forgotten_when_no_file_can_hold_them(
    db: Database, shelf: list[tuple[int, int]], tmp_path: Path
):
    async with open_recorder(db, tmp_path) as recorder:
        await recorder.record(download(shelf[0]))
    assert await record.forget_batches(db) == 0
    async with db.transaction() as conn:
        await conn.run(
            Statement("UPDATE download_batches SET created_at = %(at)s", {"at": datetime.now(UTC) - timedelta(days=91)})
        )
    assert await record.forget_batches(db) == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0"),
        ("2001:db8:1:2:3::4", "2001:db8:1::"),
        ("::ffff:192.0.2.77", "192.0.2.0"),
        ("unknown", ""),
        ("", ""),
    ],
)
def test_an_address_is_cut_to_its_network(address: str, network: str):
    assert network_of(address) == network
