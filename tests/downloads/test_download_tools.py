"""Resumed and segmented downloads with real tools count the same in each mode of serving tarballs."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
from ephemeral_port_reserve import reserve

from tests.client import API, Registry, sha256, tarball
from tests.conftest import MakeRegistry
from tests.deploy.nginx_server import Nginx, readable
from tests.deploy.tools import environment, program
from tests.downloads.counts import counted, counted_to
from tests.servers import cache_folder
from tests.web.shape import case

HERE = "/packages/demo/1.0.0/tarball"
DATA = tarball(name="demo", version="1.0.0", files={"noise": os.urandom(20_000_000)})
BROKEN_AT = 7_000_000
TOOL_SECONDS = 60.0


@dataclass(frozen=True)
class Served:
    """A registry with one package of 20 MB. Its address is nginx's in the modes that need nginx."""

    mode: str
    registry: Registry


@pytest.fixture(params=["local", "s3", "s3-redirect", "nginx-file", "nginx-redirect"])
async def served(
    request: pytest.FixtureRequest, make_registry: MakeRegistry, s3_variables: dict[str, str], stack_folder: Path
) -> AsyncIterator[Served]:
    mode = request.param
    variables: dict[str, str] = {"REGISTRY_TRUSTED_PROXIES": "127.0.0.1/32"}
    folder = readable(stack_folder / f"tools-{reserve()}")
    if mode.startswith("nginx"):
        nginx = program("nginx", cache_folder(os.environ))
    if mode == "nginx-file":
        variables |= {"REGISTRY_ACCEL_LOCATION": "/tarballs/", "REGISTRY_STORAGE_PATH": str(folder / "packages")}
        variables["REGISTRY_SPOOL_PATH"] = str(folder / "spool")
    elif mode != "local":
        variables |= s3_variables
    if mode.endswith("redirect"):
        variables["REGISTRY_S3_REDIRECT"] = "true"
    registry = await make_registry(**variables)
    await (await registry.user()).publish("demo", data=DATA)
    with ExitStack() as stack:
        if mode.startswith("nginx"):
            blobs = folder / "packages" / "blobs"
            front = stack.enter_context(Nginx(nginx, stack_folder / f"nginx-{reserve()}", registry.url, blobs=blobs))
            registry = replace(registry, url=front.url)
        yield Served(mode, registry)


async def run(name: str, *arguments: str, folder: Path) -> None:
    found = program(name, cache_folder(os.environ))
    process = await asyncio.create_subprocess_exec(
        found, *arguments, cwd=folder, env={**os.environ, **environment(found)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(TOOL_SECONDS):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode(errors="replace")[-2000:]


async def break_off(url: str, file: Path) -> None:
    """Downloads the first bytes to `file` and then closes the connection."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200
        file.write_bytes(await answer.content.readexactly(BROKEN_AT))


async def test_downloads_with_each_tool_count_in_each_mode(served: Served, tmp_path: Path):
    registry, url = served.registry, f"{served.registry.url}{API}{HERE}"
    file, total = tmp_path / "demo.tar.gz", 0
    for tool, arguments, gets in (
        ("aria2c", ("-x8", "-s8", "-k1M", "-o", file.name, url), 1),
        # axel requests `bytes=0-` to learn the size, and then eight ranges. After a redirect, it sends all eight to S3.
        ("axel", ("-q", "-n", "8", "-o", file.name, url), 1 if served.mode == "s3-redirect" else 2),
        ("curl", ("-sS", "-L", "-C", "-", "-o", file.name, url), 1),
        ("wget", ("-q", "-c", "-O", file.name, url), 1),
    ):
        file.unlink(missing_ok=True)
        if tool in ("curl", "wget"):
            await break_off(url, file)
        await run(tool, *arguments, folder=tmp_path)
        assert sha256(file.read_bytes()) == sha256(DATA), tool
        total += gets
        # Wait, because the server notices a disconnected client a moment later.
        with case(tool):
            await counted_to(registry, total)


async def test_an_interrupted_download_counts_once_and_later_ranges_do_not_count(served: Served, tmp_path: Path):
    registry, url = served.registry, f"{served.registry.url}{API}{HERE}"
    await break_off(url, tmp_path / "part")
    await counted_to(registry, 1)
    for start in (1, BROKEN_AT):
        async with aiohttp.ClientSession() as session, session.get(url, headers={"Range": f"bytes={start}-"}) as rest:
            assert (rest.status, await rest.read()) == (206, DATA[start:])
    assert await counted(registry) == 1
