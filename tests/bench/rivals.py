"""Other registries, to look at their pages beside ours: those whose programs are installed on this machine.

Each serves one package from a temporary folder: Verdaccio (npm install -g verdaccio), and devpi (pip install
devpi-server devpi-web).
"""

import asyncio
import base64
import hashlib
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from ephemeral_port_reserve import reserve

from tests.bench.stack import listening
from tests.client import tarball

NAME, VERSION, DESCRIPTION = "waits-again", "1.0.0", "Repeats what may be repeated, and waits longer each time"
README = "# waits-again\n\n" + "A paragraph of some words that a README has.\n\n" * 40

VERDACCIO = """\
storage: {folder}/storage
packages:
  '**':
    access: $all
    publish: $all
log: {{ type: stdout, level: warn }}
"""


@dataclass(frozen=True)
class Rival:
    """A running registry: the addresses of its page of NAME, and of its list or search of packages."""

    name: str
    package: str
    search: str


async def rivals(folder: Path) -> AsyncIterator[Rival]:
    """Starts one after the other. Each is stopped when the next one is asked for."""
    if shutil.which("verdaccio"):
        async with _verdaccio(folder / "verdaccio") as rival:
            yield rival
    if shutil.which("devpi-server"):
        async with _devpi(folder / "devpi") as rival:
            yield rival


@asynccontextmanager
async def _started(command: Sequence[str], log: Path) -> AsyncIterator[None]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def _verdaccio(folder: Path) -> AsyncIterator[Rival]:
    folder.mkdir()
    (folder / "config.yaml").write_text(VERDACCIO.format(folder=folder), encoding="utf-8")
    port = reserve()
    url = f"http://127.0.0.1:{port}"
    command = ["verdaccio", "--config", str(folder / "config.yaml"), "--listen", f"127.0.0.1:{port}"]
    async with _started(command, folder / "log"), aiohttp.ClientSession() as session:
        await listening(port)
        data = tarball(name=NAME, version=VERSION)
        version: dict[str, Any] = {
            "name": NAME, "version": VERSION, "description": DESCRIPTION, "readme": README,
            "dist": {"shasum": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
                     "tarball": f"{url}/{NAME}/-/{NAME}-{VERSION}.tgz"},
        }  # fmt: skip
        attachment = {"content_type": "application/octet-stream", "data": base64.b64encode(data).decode(),
                      "length": len(data)}  # fmt: skip
        document = {
            "_id": NAME, "name": NAME, "description": DESCRIPTION, "readme": README, "versions": {VERSION: version},
            "dist-tags": {"latest": VERSION}, "_attachments": {f"{NAME}-{VERSION}.tgz": attachment},
        }  # fmt: skip
        async with session.put(f"{url}/{NAME}", json=document) as answer:
            assert answer.status < 300, await answer.text()
        # It has no page of results: its start page lists the packages.
        yield Rival("Verdaccio", f"{url}/-/web/detail/{NAME}", f"{url}/")


@asynccontextmanager
async def _devpi(folder: Path) -> AsyncIterator[Rival]:
    made = await asyncio.create_subprocess_exec("devpi-init", "--serverdir", str(folder), "--no-root-pypi")
    assert await made.wait() == 0
    port = reserve()
    url = f"http://127.0.0.1:{port}"
    command = ["devpi-server", "--serverdir", str(folder), "--port", str(port)]
    async with _started(command, folder / "log"), aiohttp.ClientSession() as session:
        await listening(port)
        async with session.post(f"{url}/+login", json={"user": "root", "password": ""}) as answer:
            token = (await answer.json())["result"]["password"]
        headers = {"X-Devpi-Auth": base64.b64encode(f"root:{token}".encode()).decode()}
        async with session.put(f"{url}/root/dev", json={"volatile": True}, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
        form = aiohttp.FormData({":action": "file_upload", "name": NAME, "version": VERSION, "summary": DESCRIPTION,
                                 "description": README, "metadata_version": "1.2"})  # fmt: skip
        form.add_field("content", tarball(name=NAME), filename=f"{NAME}-{VERSION}.tar.gz")
        async with session.post(f"{url}/root/dev/", data=form, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
        yield Rival("devpi", f"{url}/root/dev/{NAME}", f"{url}/+search?query={NAME}")
