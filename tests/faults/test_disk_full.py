"""A disk without room: uploads on their way, and downloads that wait for PostgreSQL."""

import asyncio
import contextlib
import errno
import io
import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from registry.devstack.postgres import Postgres
from registry.downloads import journal, leftovers
from registry.downloads.journal import File
from tests.client import Registry, User, tarball
from tests.conftest import MakeRegistry
from tests.downloads.counts import counted
from tests.faults import ALL
from tests.faults.disk import filled, mounted
from tests.faults.toxic import Toxic, toxic, unix

HERE = "/packages/demo/1.0.0/tarball"
SETTLE_SECONDS = 30.0


class Disk:
    """Files written below `folder` find no more room while `filled()`; who is root needs not be asked for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.room: int | None = None

    def open(self, path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        """In place of `Path.open`."""
        if self.room is not None and "w" in mode and path.is_relative_to(self.folder):
            return io.BufferedWriter(_Scarce(self, path))
        return io.open(path, mode, *arguments, **named)  # noqa: UP020 - what Path.open calls

    def with_room(self, folder: Path) -> Path:
        if self.room is not None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return folder

    @contextlib.contextmanager
    def filled(self, spare: int = 0) -> Iterator[None]:
        self.room = spare
        try:
            yield
        finally:
            self.room = None


class _Scarce(io.FileIO):
    """Fails as the kernel does: what there is room for is written, then nothing is."""

    def __init__(self, disk: Disk, path: Path) -> None:
        super().__init__(path, "w")
        self._disk = disk

    def write(self, data: Any) -> int:
        assert self._disk.room is not None
        if not self._disk.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(memoryview(data)[: self._disk.room])
        self._disk.room -= written
        return written


class SmallDisk(Disk):
    """A small file system of its own."""

    @contextlib.contextmanager
    def filled(self, spare: int = 0) -> Iterator[None]:
        with filled(self.folder, spare):
            yield


@pytest.fixture(params=["wrapped", *(["mounted"] if ALL else [])])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    folder = tmp_path / "small-disk"
    folder.mkdir()
    if request.param == "wrapped":
        disk = Disk(folder)
        monkeypatch.setattr(Path, "open", lambda *arguments, **named: disk.open(*arguments, **named))
        monkeypatch.setattr(File, "create", lambda folder, create=File.create: create(disk.with_room(folder)))
        yield disk
    else:
        with mounted(folder, "4m"):
            yield SmallDisk(folder)


@pytest.fixture
async def wire(postgres: Postgres) -> AsyncIterator[Toxic]:
    async with toxic(unix(f"{postgres._socket_dir}/.s.PGSQL.5432")) as wire:
        yield wire


@pytest.fixture
async def registry(disk: Disk, wire: Toxic, make_registry: MakeRegistry, database_url: str) -> Registry:
    address = f"postgresql://postgres@127.0.0.1:{wire.port}{urlsplit(database_url).path}"
    return await make_registry(REGISTRY_SPOOL_PATH=str(disk.folder), REGISTRY_DB_URL=address)


@pytest.fixture
async def ada(registry: Registry) -> User:
    return await registry.user("ada")


def spooled(disk: Disk) -> list[str]:
    """Files of uploads, and batches of downloads that wait."""
    ours = {"start.lock", "lock", "ballast"}
    files = [path for path in disk.folder.rglob("*") if path.is_file() and path.name not in ours]
    uploads = sorted(path.name for path in files if not path.match(journal.PATTERN))
    return uploads + list(leftovers.waiting(disk.folder))


async def test_an_upload_without_room_is_503_keeps_nothing_and_hinders_nobody(disk: Disk, wire: Toxic, ada: User):
    await ada.publish("other")
    manifest = {"name": "demo", "version": "1.0.0", "description": "A demo"}
    spooled_body = tarball(manifest, files={"noise": random.Random(6).randbytes(200_000)})
    large = spooled_body + random.Random(7).randbytes(3_000_000)
    with disk.filled():
        for upload in (ada.put("demo", "1.0.0", data=spooled_body), ada.post("demo", "1.0.0", data=spooled_body)):
            refused = await upload
            assert (refused.status, refused.json["code"]) == (503, "storage_unavailable")
            assert int(refused.headers["Retry-After"]) > 0
            assert (await ada.registry.get("/packages/other/1.0.0/tarball")).status == 200
    with disk.filled(spare=8192):
        assert (await ada.put("demo", "1.0.0", data=large)).status == 503
    await ada.registry.flush()
    assert spooled(disk) == []
    assert (await ada.registry.get("/packages/demo")).status == 404
    assert await counted(ada.registry) == 2
    assert (await ada.put("demo", "1.0.0", data=spooled_body)).status == 201


async def test_a_small_upload_needs_no_room_in_the_spool(disk: Disk, ada: User):
    small = tarball(name="demo", version="1.0.0", description="A demo")
    with disk.filled():
        assert (await ada.put("demo", "1.0.0", data=small)).status == 201
        assert (
            await ada.post("other", "1.0.0", data=tarball(name="other", version="1.0.0", description="A demo"))
        ).status == 201
    assert (await ada.registry.get(HERE)).body == small


@pytest.mark.parametrize("size", [0, 2_000_000])
async def test_a_download_that_can_not_be_journaled_is_no_success(
    size: int, disk: Disk, wire: Toxic, ada: User, monkeypatch: pytest.MonkeyPatch
):
    """The journal has some room of its own, and PostgreSQL is unavailable."""
    monkeypatch.setattr(journal, "FILE_BYTES", 700)
    noise = random.Random(6).randbytes(size)
    data = tarball({"name": "demo", "version": "1.0.0", "description": "A demo"}, files={"noise": noise})
    await ada.put("demo", "1.0.0", data=data)
    await ada.registry.drain()
    assert (await ada.registry.get(HERE)).body == data
    assert await counted(ada.registry) == 1
    wire.refusing = True
    wire.reset_all()
    served = 0
    with disk.filled():
        with contextlib.suppress(aiohttp.ClientPayloadError):
            while (await ada.registry.get(HERE)).status == 200:
                served += 1
        # Only the first download that failed had begun to send its bytes.
        for _ in range(3):
            refused = await ada.registry.get(HERE)
            assert (refused.status, refused.json["code"]) == (503, "database_unavailable")
            assert int(refused.headers["Retry-After"]) > 0
        assert (await ada.registry.get("/health")).json["components"]["storage"] == {
            "status": "unhealthy",
            "detail": "The spool folder takes no downloads: No space left on device.",
        }
    assert served > 1
    assert (await ada.registry.get(HERE)).body == data
    assert (await ada.registry.get("/health")).json["components"]["storage"]["status"] == "healthy"
    wire.heal()
    async with asyncio.timeout(SETTLE_SECONDS):
        while spooled(disk):
            await asyncio.sleep(0.05)
    assert await counted(ada.registry) == 1 + served + 1
