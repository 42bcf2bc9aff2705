"""wrk, the load generator: requests to one server from several connections, as fast as it answers."""

import asyncio
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.tools import environment, program
from tests.servers import cache_folder

SCRIPT = Path(__file__).with_name("wrk.lua")
TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Load:
    """What one run saw; times in milliseconds."""

    requests: int
    per_second: float
    megabytes_per_second: float
    p50_ms: float
    p95_ms: float


async def load(
    url: str, paths: Sequence[str], *, connections: int, seconds: float, headers: Mapping[str, str] | None = None
) -> Load:
    """Asks `paths` of the server at `url` by turns. Raises AssertionError when one fails or is answered 4xx/5xx."""
    wrk = program("wrk", cache_folder(os.environ))
    options = [f"-d{seconds:g}s", f"-c{connections}", "-t1", f"--timeout={TIMEOUT_SECONDS}s", "-s", SCRIPT]
    for name, value in (headers or {}).items():
        options += ["-H", f"{name}: {value}"]
    with tempfile.NamedTemporaryFile("w", suffix=".paths") as file:
        file.write("".join(f"{path}\n" for path in paths))
        file.flush()
        process = await asyncio.create_subprocess_exec(
            wrk, *options, url, env={**os.environ, **environment(wrk), "WRK_PATHS": file.name},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
    assert process.returncode == 0, output
    told = json.loads(output.splitlines()[-1])
    assert not told["failed"], told
    return Load(
        told["requests"],
        told["requests"] / told["seconds"],
        told["bytes"] / told["seconds"] / 1e6,
        told["p50_ms"],
        told["p95_ms"],
    )
