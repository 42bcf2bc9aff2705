"""Builds to compare: each tree runs its own code, PostgreSQL and Elasticsearch, filled with the same catalogue."""

import asyncio
import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web
from ephemeral_port_reserve import reserve

from registry.devstack.processes import last_lines
from tests.bench.stack import answering, signed_in
from tests.client import Registry, User
from tests.webhooks.receiver import LOCAL

PARTS = REGISTRY, SEARCH, DATABASE = "registry", "elasticsearch", "postgresql"
STOP_SECONDS = 60


@dataclass(frozen=True)
class Build:
    """A tree of this project with a virtual environment. `data` keeps its loaded stack for the next run."""

    name: str
    tree: Path
    data: Path

    @property
    def python(self) -> Path:
        return self.tree / ".venv" / "bin" / "python"

    def layout(self) -> str:
        """Changes when the documents of its search index change. The catalogue is then loaded again."""
        files = (self.tree / "es_mappings" / "packages.json", self.tree / "registry" / "search" / "documents.py")
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]

    def environ(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
        cache = {"REGISTRY_CACHE_DIR": os.environ["REGISTRY_CACHE_DIR"]} if "REGISTRY_CACHE_DIR" in os.environ else {}
        return {**inherited, **cache, "REGISTRY_DATA_DIR": str(self.data)}

    async def output(self, *arguments: str) -> str:
        """What its Python prints when it runs with `arguments`. Raises AssertionError when it fails."""
        process = await asyncio.create_subprocess_exec(
            self.python, *arguments, cwd=self.tree, env=self.environ(), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, f"{self.name}: {arguments} failed"
        return said.decode()


@dataclass
class Subject:
    """A running build with a signed-in user of its own. `kept` is for what a measure prepares once."""

    name: str
    url: str
    user: User
    process: psutil.Process
    kept: dict[str, Any] = field(default_factory=dict)

    def cpu(self) -> Mapping[str, float]:
        """Seconds of processor time, user and system, that each of PARTS has used so far."""
        used: Counter[str] = Counter()
        for process, part in _processes(self.process, REGISTRY):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                # Those of ended children count, too: PostgreSQL has a process for each connection.
                used[part] += times.user + times.system + times.children_user + times.children_system
        return used


def _processes(process: psutil.Process, part: str) -> list[tuple[psutil.Process, str]]:
    """The process and its descendants, each with its part."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        name = process.name()
        part = SEARCH if name == "java" else DATABASE if name.startswith("postgres") else part
        found.append((process, part))
        for child in process.children():
            found += _processes(child, part)
    return found


@contextlib.asynccontextmanager
async def started(build: Build, tsv: Path, copies: int) -> AsyncIterator[Subject]:
    """Starts the build with everything that `make up` runs, and loads the catalogue if it isn't loaded yet."""
    build.data.mkdir(parents=True, exist_ok=True)
    limits = (await build.output("-c", "from tests.bench.stack import LIMITS; print(LIMITS)")).strip()
    port = reserve()
    environ = {
        **build.environ(),
        "REGISTRY_PORT": str(port),
        "REGISTRY_RATE_LIMITS": limits,
        "REGISTRY_LOG_LEVEL": "warning",
        **LOCAL,
    }
    log = build.data / "up.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            build.python, "-m", "registry", "up", cwd=build.tree, env=environ, stdout=output, stderr=output
        )
    try:
        async with aiohttp.ClientSession() as session:
            registry = Registry(web.Application(), session, f"http://127.0.0.1:{port}")
            await answering(registry)
            marker = build.data / f"loaded-{tsv.name}-{copies}-{build.layout()}"
            if not marker.exists():
                await build.output(
                    "-m", "tests.bench.catalogue", "load", "--tsv", str(tsv.resolve()), "--copies", str(copies)
                )
                marker.touch()
            yield Subject(build.name, registry.url, await signed_in(registry), psutil.Process(process.pid))
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(STOP_SECONDS):
            status = await process.wait()
    assert status == 0, last_lines(log)
