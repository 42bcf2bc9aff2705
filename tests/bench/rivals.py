"""Starts other registries, to compare ours with: Verdaccio (npm install -g verdaccio) and devpi (pip install
devpi-server devpi-web). Each keeps its data in a temporary folder and begins with one package.
"""

import asyncio
import base64
import hashlib
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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


Publish = Callable[[str, str, bytes], Awaitable[None]]
"""Publishes a version: (name, version, tarball)."""


@dataclass(frozen=True)
class Rival:
    """A running registry at `url`.

    `package` and `search` are the addresses of its page of NAME, and of its list or search of packages. `metadata`,
    `tarball` and `found` give the paths of a package's metadata, of a version's tarball and of a search.
    """

    name: str
    url: str
    package: str
    search: str
    publish: Publish
    metadata: Callable[[str], str]
    tarball: Callable[[str, str], Awaitable[str]]
    found: Callable[[str], str]


async def rivals(folder: Path) -> AsyncIterator[Rival]:
    """Starts those that are installed, one after the other. Each is stopped when the next one is asked for."""
    for name in KNOWN:
        if is_installed(name):
            async with started(name, folder) as rival:
                yield rival


def is_installed(name: str) -> bool:
    return shutil.which(KNOWN[name].program) is not None


@asynccontextmanager
async def started(name: str, folder: Path) -> AsyncIterator[Rival]:
    """The rival `name`, running in a new folder below `folder`. It has published NAME."""
    async with KNOWN[name].start(folder / f"{name}-{secrets.token_hex(4)}") as rival:
        await rival.publish(NAME, VERSION, tarball(name=NAME, version=VERSION))
        yield rival


@asynccontextmanager
async def _running(command: Sequence[str], log: Path) -> AsyncIterator[None]:
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
    async with _running(command, folder / "log"), aiohttp.ClientSession() as session:
        await listening(port)

        async def publish(name: str, version: str, data: bytes) -> None:
            described: dict[str, Any] = {
                "name": name, "version": version, "description": DESCRIPTION, "readme": README,
                "dist": {"shasum": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
                         "tarball": f"{url}/{name}/-/{name}-{version}.tgz"},
            }  # fmt: skip
            attachment = {"content_type": "application/octet-stream", "data": base64.b64encode(data).decode(),
                          "length": len(data)}  # fmt: skip
            document = {
                "_id": name, "name": name, "description": DESCRIPTION, "readme": README,
                "versions": {version: described}, "dist-tags": {"latest": version},
                "_attachments": {f"{name}-{version}.tgz": attachment},
            }  # fmt: skip
            async with session.put(f"{url}/{name}", json=document) as answer:
                assert answer.status < 300, await answer.text()

        async def tarball_path(name: str, version: str) -> str:
            return f"/{name}/-/{name}-{version}.tgz"

        yield Rival(
            "Verdaccio",
            url,
            f"{url}/-/web/detail/{NAME}",
            f"{url}/",  # it has no page of results: its start page lists the packages
            publish,
            lambda name: f"/{name}",
            tarball_path,
            lambda text: f"/-/v1/search?text={text}",
        )


@asynccontextmanager
async def _devpi(folder: Path) -> AsyncIterator[Rival]:
    made = await asyncio.create_subprocess_exec("devpi-init", "--serverdir", str(folder), "--no-root-pypi")
    assert await made.wait() == 0
    port = reserve()
    url = f"http://127.0.0.1:{port}"
    command = ["devpi-server", "--serverdir", str(folder), "--port", str(port)]
    async with _running(command, folder / "log"), aiohttp.ClientSession() as session:
        await listening(port)
        async with session.post(f"{url}/+login", json={"user": "root", "password": ""}) as answer:
            token = (await answer.json())["result"]["password"]
        headers = {"X-Devpi-Auth": base64.b64encode(f"root:{token}".encode()).decode()}
        async with session.put(f"{url}/root/dev", json={"volatile": True}, headers=headers) as answer:
            assert answer.status == 200, await answer.text()

        async def publish(name: str, version: str, data: bytes) -> None:
            form = aiohttp.FormData({":action": "file_upload", "name": name, "version": version,
                                     "summary": DESCRIPTION, "description": README,
                                     "metadata_version": "1.2"})  # fmt: skip
            form.add_field("content", data, filename=f"{name}-{version}.tar.gz")
            async with session.post(f"{url}/root/dev/", data=form, headers=headers) as answer:
                assert answer.status == 200, await answer.text()

        async def tarball_path(name: str, version: str) -> str:
            accept = {"Accept": "application/json"}
            async with session.get(f"{url}/root/dev/{name}/{version}", headers=accept) as answer:
                (link,) = (await answer.json())["result"]["+links"]
            return "/" + str(link["href"]).split("/", 3)[3].partition("#")[0]

        yield Rival(
            "devpi",
            url,
            f"{url}/root/dev/{NAME}",
            f"{url}/+search?query={NAME}",
            publish,
            lambda name: f"/root/dev/+simple/{name}/",
            tarball_path,
            lambda text: f"/+search?query={text}",
        )


@dataclass(frozen=True)
class _Known:
    program: str
    install: str
    start: Callable[[Path], AbstractAsyncContextManager[Rival]]


KNOWN = {
    "verdaccio": _Known("verdaccio", "npm install -g verdaccio", _verdaccio),
    "devpi": _Known("devpi-server", "pip install devpi-server devpi-web", _devpi),
}
