"""The stack that is measured: what `make up` runs, everything on, with a catalogue loaded."""

import asyncio
import contextlib
import json
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from ephemeral_port_reserve import reserve

from registry.app import LIMITS as LIMIT_CLASSES
from registry.devstack.up import ADDRESSES
from registry.settings import Settings
from tests.bench.catalogue import Entry, load
from tests.client import PASSWORD, Registry, User
from tests.deploy.outside import running
from tests.webhooks.receiver import LOCAL

# Counted as ever, refused never.
LIMITS = ",".join(f"{name}=999999999/minute" for name in LIMIT_CLASSES)
START_SECONDS = 300


@dataclass
class Stack:
    """A running registry with a signed-in user. `data` is kept for the next run, `folder` is removed at the end."""

    url: str
    settings: Settings
    user: User
    data: Path
    folder: Path
    packages: int

    def name(self, purpose: str) -> str:
        """A package name of this run's own."""
        return f"{self.user.username}-{purpose}"

    @property
    def session(self) -> aiohttp.ClientSession:
        return self.user.registry.session


@contextlib.asynccontextmanager
async def brought_up(data: Path, entries: Sequence[Entry], copies: int = 1) -> AsyncIterator[Stack]:
    """The stack of the folder `data`, which keeps the catalogue of `entries` for the next time."""
    environ = {
        **os.environ,
        "REGISTRY_DATA_DIR": str(data),
        "REGISTRY_PORT": str(reserve()),
        "REGISTRY_RATE_LIMITS": LIMITS,
        "REGISTRY_LOG_LEVEL": "warning",
        **LOCAL,
    }
    url = f"http://127.0.0.1:{environ['REGISTRY_PORT']}"
    with _folder() as folder:
        async with (
            running([sys.executable, "-m", "registry", "up"], environ, folder / "up.log"),
            aiohttp.ClientSession() as session,
        ):
            registry = Registry(web.Application(), session, url)
            await answering(registry)
            addresses = json.loads((data / ADDRESSES).read_text(encoding="utf-8"))
            settings = Settings.read({**environ, **addresses})
            await _load(registry, settings, entries, copies)
            packages = (await registry.get("/stats")).json["packages"]["total"]
            yield Stack(url, settings, await signed_in(registry), data, folder, packages)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """One that other users may enter: as root the servers run as one of them."""
    with tempfile.TemporaryDirectory(prefix="synapse-bench-") as text:
        Path(text).chmod(0o755)
        yield Path(text)


async def _load(registry: Registry, settings: Settings, entries: Sequence[Entry], copies: int) -> None:
    there = (await registry.get("/stats")).json["packages"]["total"]
    if there < len(entries) * copies:
        await asyncio.to_thread(load, settings, list(entries), copies)


async def answering(registry: Registry) -> None:
    """Returns when the service and all its servers answer."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                if (await registry.get("/health")).json["status"] == "healthy":
                    return
            await asyncio.sleep(0.2)


async def signed_in(registry: Registry) -> User:
    """A user of this run's own."""
    user = {"username": f"bench-{secrets.token_hex(5)}", "password": PASSWORD}
    made = await registry.call("POST", "/auth/register", json=user)
    answer = await registry.call("POST", "/auth/login", json=user)
    assert answer.status == 200, (made.body, answer.body)
    return User(registry, made.json["user"]["id"], user["username"], answer.json["token"])


@contextlib.asynccontextmanager
async def bare(folder: Path) -> AsyncIterator[str]:
    """The baseline server over the files of `folder`: its address."""
    port = reserve()
    async with running([sys.executable, "-m", "tests.bench.bare", str(port), str(folder)], os.environ, folder / "log"):
        await listening(port)
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def another(stack: Stack, variables: Mapping[str, str]) -> AsyncIterator[Registry]:
    """A registry of a process of its own on the same servers, with other settings."""
    port = str(reserve())
    environ = {
        **os.environ,
        "REGISTRY_PORT": port,
        "REGISTRY_RATE_LIMITS": LIMITS,
        "REGISTRY_LOG_LEVEL": "warning",
        "REGISTRY_ES_URL": stack.settings.search.url,
        "REGISTRY_SPOOL_PATH": str(stack.folder / f"spool-{port}"),
        **variables,
    }
    async with (
        running([sys.executable, "-m", "registry", "serve"], environ, stack.folder / f"{port}.log"),
        aiohttp.ClientSession() as session,
    ):
        registry = Registry(web.Application(), session, f"http://127.0.0.1:{port}")
        await answering(registry)
        yield registry


async def listening(port: int) -> None:
    """Returns when something listens on the port."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)
