"""How long a small download takes while archives are inspected that unpack to 1 GiB each."""

import asyncio
import contextlib
import statistics
import tarfile
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.bench.figure import compare
from tests.bench.stack import Stack
from tests.client import tarball

ARCHIVES = 8
UNPACKED = (1 << 30) - (1 << 20)
DOWNLOADS = 400


async def inspection(stack: Stack) -> None:
    """The p95 of a small download under ARCHIVES inspections at once; the baseline is the same without them."""
    name = stack.name("inspected")
    await stack.user.publish(name)
    large = stack.folder / "large.tar.gz"
    await asyncio.to_thread(write_large, large, name)

    async def ours() -> float:
        async with inspected(stack, large, name):
            return await p95_of_downloads(stack, name)

    await compare(
        "p95 of a small download under 8 inspections of 1 GiB", ours, lambda: p95_of_downloads(stack, name),
        unit="ms", at_most=3.0,
    )  # fmt: skip


def write_large(path: Path, name: str) -> None:
    """An archive that unpacks to UNPACKED bytes. Level 1 keeps it below the ratio that is refused."""
    header = tarfile.TarInfo("zeros")
    header.size = UNPACKED
    manifest = {"name": name, "version": "2.0.0", "description": "A large one"}
    small = tarball(manifest)
    members = zlib.decompress(small, 31)[:1024]
    deflate = zlib.compressobj(1, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        file.write(deflate.compress(members + header.tobuf(tarfile.GNU_FORMAT)))
        for _ in range(UNPACKED >> 20):
            file.write(deflate.compress(bytes(1 << 20)))
        file.write(deflate.compress(bytes(1024)) + deflate.flush())


@contextlib.asynccontextmanager
async def inspected(stack: Stack, large: Path, name: str) -> AsyncIterator[None]:
    """ARCHIVES dry runs at a time for as long as the block lasts."""
    data = large.read_bytes()

    answered = asyncio.Event()

    async def keep_publishing() -> None:
        while True:
            answer = await stack.user.put(name, "2.0.0", data=data, query="?dry_run=true")
            assert answer.status == 200, answer.body
            answered.set()

    tasks = [asyncio.create_task(keep_publishing()) for _ in range(ARCHIVES)]
    try:
        await answered.wait()
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def p95_of_downloads(stack: Stack, name: str) -> float:
    """In milliseconds, of DOWNLOADS one after the other."""
    taken = []
    for _ in range(DOWNLOADS):
        start = time.perf_counter()
        answer = await stack.user.registry.get(f"/packages/{name}/1.0.0/tarball")
        taken.append(time.perf_counter() - start)
        assert answer.status == 200, answer.body
    return statistics.quantiles(taken, n=20)[-1] * 1000
