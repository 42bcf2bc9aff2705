"""Reading: a package's page and its tarballs, compared with aiohttp answering the same bytes."""

import json
import os
import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from tests.bench.figure import Measure, compare
from tests.bench.stack import Stack, another, bare, signed_in
from tests.bench.wrk import load
from tests.client import API, User, tarball
from tests.deploy.nginx_server import Nginx, readable
from tests.deploy.tools import program
from tests.servers import cache_folder

CONNECTIONS, MANY_CONNECTIONS, SECONDS = 16, 64, 5
SMALL, LARGE = 20_000, 10_000_000
VERSIONS = 20


def packed(name: str, version: str, size: int) -> bytes:
    """A tarball of about `size` bytes that don't compress."""
    fields = {"name": name, "version": version, "description": "What downloads are measured with"}
    return tarball(fields, {"data": os.urandom(size - 300)})


async def published(user: User, name: str, size: int, versions: int = 1) -> str:
    """Publishes a package with so many versions of this size; the address of its page."""
    for number in range(1, versions + 1):
        answer = await user.put(name, f"{number}.0.0", data=packed(name, f"{number}.0.0", size))
        assert answer.status in (201, 409), answer.body
    return f"{API}/packages/{name}"


def throughput(
    url: str, path: str, *, connections: int = CONNECTIONS, megabytes: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Measure:  # fmt: skip
    async def measure() -> float:
        await load(url, [path], connections=connections, seconds=1, headers=headers)
        seen = await load(url, [path], connections=connections, seconds=SECONDS, headers=headers)
        return seen.megabytes_per_second if megabytes else seen.per_second

    return measure


async def package(stack: Stack) -> None:
    page = await published(stack.user, stack.name("page"), SMALL, VERSIONS)
    async with stack.session.get(stack.url + page) as answer:
        body, tag = await answer.read(), answer.headers["ETag"]
    folder = _folder(stack, "page", body)
    async with bare(folder) as url:
        plain = throughput(url, "/bytes/page")
        compared = partial(compare, unit="requests/s", baseline=plain)
        await compared("package", throughput(stack.url, page), at_least=0.50, bytes=len(body))
        unchanged = throughput(stack.url, page, headers={"If-None-Match": tag})
        await compared("package, If-None-Match", unchanged, at_least=0.60)


async def tarballs(stack: Stack) -> None:
    small = await published(stack.user, stack.name("small"), SMALL)
    large = await published(stack.user, stack.name("large"), LARGE)
    folder = _folder(stack, "small", packed("bench-small", "1.0.0", SMALL))
    (folder / "large").write_bytes(packed("bench-large", "1.0.0", LARGE))
    async with bare(folder) as url:
        few = await _small(stack, small, url, CONNECTIONS)
        many = await _small(stack, small, url, MANY_CONNECTIONS)
        print(json.dumps({"figure": "tarball 20 kB, 64 connections to 16", "ratio": round(many / few, 3)}), flush=True)
        ours = throughput(stack.url, f"{large}/1.0.0/tarball", megabytes=True)
        theirs = throughput(url, "/file/large", megabytes=True)
        await compare("tarball 10 MB", ours, theirs, unit="MB/s", at_least=0.90)


async def _small(stack: Stack, small: str, bare_url: str, connections: int) -> float:
    """Downloads per second. The baseline answers the same bytes from memory and counts nothing."""
    ours = throughput(stack.url, f"{small}/1.0.0/tarball", connections=connections)
    theirs = throughput(bare_url, "/bytes/small", connections=connections)
    figure = f"tarball 20 kB, {connections} connections"
    line = await compare(figure, ours, theirs, unit="requests/s", at_least=0.30)
    return float(line["ours"])


async def offloaded(stack: Stack) -> None:
    """nginx sends the file that the registry names; the baseline's bytes come through it as well."""
    folder = _folder(stack, "small", packed("bench-offload", "1.0.0", SMALL))
    nginx = program("nginx", cache_folder(os.environ))
    kept = readable(stack.folder / uuid.uuid4().hex)
    variables = {
        "REGISTRY_DB_URL": stack.settings.database.url,
        "REGISTRY_STORAGE_PATH": str(kept / "packages"),
        "REGISTRY_SPOOL_PATH": str(kept / "spool"),
        "REGISTRY_ACCEL_LOCATION": "/tarballs/",
    }
    async with AsyncExitStack() as opened:
        registry = await opened.enter_async_context(another(stack, variables))
        user, name = await signed_in(registry), stack.name("offload")
        path = await published(user, name, SMALL)
        blobs = kept / "packages" / "blobs"
        front = opened.enter_context(Nginx(nginx, stack.folder / "nginx", registry.url, blobs=blobs))
        url = await opened.enter_async_context(bare(folder))
        plain = opened.enter_context(Nginx(nginx, stack.folder / "nginx-bare", url))
        ours = throughput(front.url, f"{path}/1.0.0/tarball")
        theirs = throughput(plain.url, "/bytes/small")
        await compare("tarball 20 kB through nginx", ours, theirs, unit="requests/s", at_least=0.40)
        # Its file goes with the folder.
        answer = await user.call("DELETE", f"/packages/{name}/1.0.0")
        assert answer.status == 204, answer.body


def _folder(stack: Stack, name: str, content: bytes) -> Path:
    folder = stack.folder / uuid.uuid4().hex
    folder.mkdir()
    (folder / name).write_bytes(content)
    return folder
