"""Clients generated from the API description have every operation, and work with a real registry."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from openapi_python_client import Config, generate
from openapi_python_client.config import ConfigFile, MetaType

from registry.app import API
from tests.api_clients import node
from tests.client import Registry, tarball

HERE = Path(__file__).parent
OPERATIONS = {route.name for route in API if route.documented}


async def test_a_generated_python_client_registers_publishes_searches_and_downloads(registry: Registry, tmp_path: Path):
    await asyncio.to_thread(_generate_python, await _described(registry, tmp_path), tmp_path / "synapse_client")
    modules = {file.stem for file in tmp_path.glob("synapse_client/api/*/*.py")} - {"__init__"}
    assert modules == OPERATIONS
    file = _tarball(tmp_path, "from-python")
    used = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, HERE / "use_python_client.py", registry.url, file],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert used.returncode == 0, used.stderr


async def test_a_generated_typescript_client_registers_publishes_searches_and_downloads(
    registry: Registry, tmp_path: Path, node_packages: Path
):
    described = await _described(registry, tmp_path)
    (tmp_path / "node_modules").symlink_to(node_packages)
    await asyncio.to_thread(_generate_typescript, described, node_packages)
    types = (tmp_path / "schema.d.ts").read_text()
    operations = types[types.index("export interface operations {") :]
    assert set(re.findall(r"^    (\w+): \{$", operations, re.MULTILINE)) == OPERATIONS
    script = Path(shutil.copy(HERE / "use_typescript_client.ts", tmp_path))
    await asyncio.to_thread(_check_types, script, node_packages)
    file = _tarball(tmp_path, "from-typescript")
    await asyncio.to_thread(node.run, script, registry.url, file, folder=tmp_path)


async def _described(registry: Registry, folder: Path) -> Path:
    file = folder / "openapi.json"
    file.write_bytes((await registry.get("/openapi.json")).body)
    return file


def _tarball(folder: Path, name: str) -> Path:
    file = folder / f"{name}-1.0.0.tar.gz"
    file.write_bytes(tarball(name=name))
    return file


def _generate_python(described: Path, output: Path) -> None:
    options = ConfigFile(post_hooks=[], package_name_override=output.name)
    config = Config.from_sources(
        options, MetaType.NONE, described, file_encoding="utf-8", overwrite=False, output_path=output
    )
    errors = [error for error in generate(config=config) if error.level.value == "ERROR"]
    assert not errors


def _generate_typescript(described: Path, packages: Path) -> None:
    folder = described.parent
    node.run(packages / "openapi-typescript/bin/cli.js", described, "-o", folder / "schema.d.ts", folder=folder)


def _check_types(script: Path, packages: Path) -> None:
    (script.parent / "package.json").write_text('{"type": "module"}')
    options = "--noEmit --strict --target es2023 --module nodenext --allowImportingTsExtensions --skipLibCheck"
    node.run(packages / "typescript/bin/tsc", *options.split(), script, folder=script.parent)
