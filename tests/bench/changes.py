"""The log of changes: what a thousand idle listeners cost, and how many pages of it are read in a second."""

import asyncio
import json
import re
import time
from contextlib import AsyncExitStack

from registry.web.connections import raise_open_files_limit
from tests.bench.figure import compare
from tests.bench.reads import throughput
from tests.bench.stack import Stack, another, bare
from tests.client import API, Registry

LISTENERS = 1000
MOST_MEGABYTES = 60
PAGE = 100
FEW = 50


async def listeners(stack: Stack) -> None:
    """The memory that idle streams take, and how long one change takes to reach all of them."""
    raise_open_files_limit()
    variables = {
        "REGISTRY_DB_URL": stack.settings.database.url,
        "REGISTRY_STORAGE_PATH": str(stack.settings.storage.path),
    }
    async with another(stack, variables) as registry, AsyncExitStack() as connections:
        async with AsyncExitStack() as first:  # what the first listeners load stays loaded
            await _listen(registry, FEW, first)
        before = await _megabytes(registry)
        readers = await _listen(registry, LISTENERS, connections)
        after = await _megabytes(registry)
        began = time.perf_counter()
        await stack.user.publish(stack.name("listened"))
        await asyncio.gather(*(reader.readuntil(b"event: version.published") for reader in readers))
        line = {
            "figure": "changes, idle listeners",
            "unit": "MB",
            "listeners": LISTENERS,
            "ours": round(after - before, 1),
            "at_most": MOST_MEGABYTES,
            "met": after - before <= MOST_MEGABYTES,
            "all_told_after_ms": round((time.perf_counter() - began) * 1000, 1),
        }
        print(json.dumps(line), flush=True)


async def pages(stack: Stack) -> None:
    """Pages of the log, beside aiohttp answering the same bytes."""
    for version in range(1, PAGE + 1):
        answer = await stack.user.put(stack.name("changes"), f"{version}.0.0")
        assert answer.status == 201, answer.body
    first = (await stack.user.publish(stack.name("changes"), f"{PAGE + 1}.0.0"))["seq"] - PAGE
    path = f"{API}/changes?since={first}&limit={PAGE}"
    async with stack.session.get(stack.url + path) as answer:
        body = await answer.read()
    folder = stack.folder / "changes"
    folder.mkdir()
    (folder / "page").write_bytes(body)
    async with bare(folder) as url:
        ours, theirs = throughput(stack.url, path), throughput(url, "/bytes/page")
        await compare("changes, pages of 100", ours, theirs, unit="requests/s", bytes=len(body))
        newest = f"{API}/changes?since={json.loads(body)['last_seq']}"
        await compare("changes, nothing new", throughput(stack.url, newest), theirs, unit="requests/s")


async def _listen(registry: Registry, count: int, stack: AsyncExitStack) -> list[asyncio.StreamReader]:
    """Opens so many streams and waits until each has begun."""
    host, _, port = registry.url.removeprefix("http://").partition(":")
    readers = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection(host, int(port))
        stack.callback(writer.close)
        writer.write(f"GET {API}/changes/stream HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        readers.append(reader)
    for reader in readers:
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    return readers


async def _megabytes(registry: Registry) -> float:
    """The resident memory of the process."""
    metrics = (await registry.call("GET", f"{registry.url}/metrics")).body.decode()
    found = re.search(r"^process_resident_memory_bytes (\S+)", metrics, re.MULTILINE)
    assert found is not None
    return float(found[1]) / 1e6
