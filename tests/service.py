"""The service as a process of its own, started as its users start it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from ephemeral_port_reserve import reserve

from tests.background import in_background
from tests.client import API, PASSWORD, tarball

START_SECONDS = 90.0
STOP_SECONDS = 30.0


class Service:
    """A running `synapse-registry serve`, or another module that serves like it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self._log = log

    def api(self, path: str) -> str:
        return f"{self.url}{API}{path}"

    @property
    def log_text(self) -> str:
        return self._log.read_text("utf-8")

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """What it logged; fails when a line is not JSON."""
        return [json.loads(line) for line in self.log_text.splitlines()]

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    async def kill(self) -> None:
        """Ends it as the kernel does when memory is short: it learns nothing of it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """Ends it as a supervisor does; its exit status."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS):
            return await self.process.wait()


def command_environment(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Only what a command needs of this process's environment, and `environ`."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    folders = {f"REGISTRY_{name}": str(folder / name) for name in ("STORAGE_PATH", "SPOOL_PATH", "DATA_DIR")}
    return {**kept, "REGISTRY_ENV": "testing", **folders, **environ}


async def run_command(
    folder: Path, *arguments: str, stdin: str = "", seconds: float = START_SECONDS, **environ: str
) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a command that ends by itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "registry", *arguments),
        env=command_environment(folder, environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(seconds):
        out, err = await process.communicate(stdin.encode())
    return process.returncode or 0, out.decode(), err.decode()


def reserve_two() -> int:
    """The first of two free ports that follow each other."""
    while reserve(port=(port := reserve()) + 1) != port + 1:
        pass
    return port


@contextlib.asynccontextmanager
async def serving_process(folder: Path, *module: str, **environ: str) -> AsyncIterator[Service]:
    """`start_service()` whose service is killed at the end if it still runs."""
    service = await start_service(folder, *module, **environ)
    try:
        yield service
    finally:
        await service.kill()


async def start_service(folder: Path, *module: str, log: str = "service.log", **environ: str) -> Service:
    """`synapse-registry serve` (or another `module` with its arguments), once it answers.

    It gets a port of its own unless REGISTRY_PORT says one, and adds to the file `log` of `folder`.
    """
    port = environ.setdefault("REGISTRY_PORT", str(reserve()))
    with (folder / log).open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *(module or ("registry", "serve"))),
            env=command_environment(folder, environ),
            stdout=file,
            stderr=file,
        )
    service = Service(process, f"http://127.0.0.1:{port}", folder / log)
    try:
        await _until_alive(service)
    except BaseException:
        await service.kill()
        raise
    return service


async def _until_alive(service: Service) -> None:
    async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as session:
        while service.running:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(service.api("/health/live")) as answer:
                    assert answer.status == 200
                    return
            await asyncio.sleep(0.1)
    raise AssertionError(f"The service ended with {service.process.returncode}:\n{service.log_text}")


async def sign_in(service: Service, session: aiohttp.ClientSession) -> dict[str, str]:
    """Registers the user ada and signs in. Returns the header with the token."""
    body = {"username": "ada", "password": PASSWORD}
    async with session.post(service.api("/auth/register"), json=body) as made:
        assert made.status == 201
    async with session.post(service.api("/auth/login"), json=body) as answer:
        return {"Authorization": f"Bearer {(await answer.json())['token']}"}


@contextlib.asynccontextmanager
async def paused_upload(
    service: Service, session: aiohttp.ClientSession
) -> AsyncIterator[tuple["asyncio.Task[aiohttp.ClientResponse]", asyncio.Event]]:
    """A publish of demo 1.0.0 by a new user ada that stops after its first bytes. It goes on once the event is set."""
    data = tarball(name="demo", version="1.0.0", description="A demo")
    sent, go_on = asyncio.Event(), asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield data[:50]
        sent.set()
        await go_on.wait()
        yield data[50:]

    headers = {**await sign_in(service, session), "Content-Type": "application/gzip"}
    put = session.put(service.api("/packages/demo/1.0.0"), data=pieces(), headers=headers)
    async with in_background(put) as uploading:
        async with asyncio.timeout(START_SECONDS):
            await sent.wait()
        yield uploading, go_on


async def refused(service: Service) -> None:
    """Returns when the service takes no more connections."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                return
            writer.close()
            await asyncio.sleep(0.02)
