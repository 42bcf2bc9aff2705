"""A real disk without room: uploads on their way, and downloads that wait for PostgreSQL."""

import asyncio
import contextlib
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from registry.devstack.postgres import Postgres
from tests.client import Registry, User, tarball
from tests.conftest import MakeRegistry
from tests.downloads.counts import counted
from tests.faults.toxic import Toxic, toxic, unix

HERE = "/packages/demo/1.0.0/tarball"
SETTLE_SECONDS = 30.0


class Disk:
    """A small file system of its own; `filled()` leaves it no byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def filled(self, spare: int = 0) -> Iterator[None]:
        ballast = self.folder / "ballast"
        with ballast.open("wb", buffering=0) as file:
            with pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(4096))
            file.truncate(file.tell() - spare)
        try:
            yield
        finally:
            ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "small-disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"A disk that can be filled wants root: {done.stderr}"
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


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
    return sorted(path.name for path in disk.folder.rglob("*") if path.is_file() and "lock" not in path.name)


async def test_an_upload_without_room_is_503_keeps_nothing_and_hinders_nobody(disk: Disk, wire: Toxic, ada: User):
    await ada.publish("other")
    small = tarball(name="demo", version="1.0.0", description="A demo")
    large = small + random.Random(7).randbytes(3_000_000)
    with disk.filled():
        for upload in (ada.put("demo", "1.0.0", data=small), ada.post("demo", "1.0.0", data=small)):
            refused = await upload
            assert (refused.status, refused.json["code"]) == (503, "storage_unavailable")
            assert int(refused.headers["Retry-After"]) > 0
            assert (await ada.registry.get("/packages/other/1.0.0/tarball")).status == 200
    with disk.filled(spare=8192):
        assert (await ada.put("demo", "1.0.0", data=large)).status == 503
    assert spooled(disk) == []
    assert (await ada.registry.get("/packages/demo")).status == 404
    assert await counted(ada.registry) == 2
    assert (await ada.put("demo", "1.0.0", data=small)).status == 201


@pytest.mark.parametrize("size", [0, 2_000_000])
async def test_a_download_that_can_not_be_noted_is_no_success(size: int, disk: Disk, wire: Toxic, ada: User):
    noise = random.Random(6).randbytes(size)
    data = tarball({"name": "demo", "version": "1.0.0", "description": "A demo"}, files={"noise": noise})
    await ada.put("demo", "1.0.0", data=data)
    assert (await ada.registry.get(HERE)).body == data
    wire.refusing = True
    wire.reset_all()
    with disk.filled():
        for _ in range(3):
            if size:
                with pytest.raises(aiohttp.ClientPayloadError):
                    await ada.registry.get(HERE)
            else:
                refused = await ada.registry.get(HERE)
                assert (refused.status, refused.json["code"]) == (503, "database_unavailable")
                assert int(refused.headers["Retry-After"]) > 0
        assert spooled(disk) == ["ballast"]
    assert (await ada.registry.get(HERE)).body == data
    wire.heal()
    async with asyncio.timeout(SETTLE_SECONDS):
        while spooled(disk):
            await asyncio.sleep(0.05)
    assert await counted(ada.registry) == 2
