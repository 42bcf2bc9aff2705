"""The live service against its own description: no 5xx, and no answer that is not documented."""

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.fuzz.hooks import VERSIONS

SEED = "20251116"
# For each operation. `make fuzz` sets more.
EXAMPLES = os.environ.get("REGISTRY_FUZZ_EXAMPLES", "12")
HERE = Path(__file__).parent


async def cases_without_a_failure(registry: Registry, folder: Path, *options: str) -> int:
    """Lets schemathesis loose on the service; the number of requests it made. Fails on what it finds."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml"),
        *("run", f"{registry.url}/openapi.json", "--seed", SEED, "--continue-on-failure", "--no-color"),
    ]
    process = await asyncio.create_subprocess_exec(
        *command,
        *options,
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "PYTHONPATH": str(HERE.parent.parent)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    generated = re.search(r"(\d+) generated", output)
    assert generated, output
    return int(generated[1])


# Mail is configured, so that its routes read what they are sent. No server listens there.
MAIL = {"REGISTRY_SMTP_URL": "smtp://127.0.0.1:9", "REGISTRY_MAIL_FROM": "registry@example.com"}


async def test_strangers_get_only_documented_answers(make_registry: MakeRegistry, tmp_path: Path):
    registry = await make_registry(**MAIL)
    ada = await registry.user("ada")
    await ada.publish("hello-world")
    await registry.drain()
    assert await cases_without_a_failure(registry, tmp_path, "--max-examples", EXAMPLES) >= 1000


async def test_an_admin_gets_only_documented_answers(make_registry: MakeRegistry, tmp_path: Path):
    """All but the operations that would end the run's own session."""
    registry = await make_registry(**MAIL)
    ada = await registry.user("ada", admin=True)
    for version in VERSIONS:
        await ada.publish("hello-world", version)
    await registry.drain()
    signed_in = ("--header", f"Authorization: Bearer {ada.token}", "--exclude-path-regex", "/auth/(logout|sessions/)")
    assert await cases_without_a_failure(registry, tmp_path, *signed_in, "--max-examples", EXAMPLES) >= 1000
