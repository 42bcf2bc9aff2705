"""The client alone: a wheel in a new virtual environment that has none of the service's dependencies."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.client import PASSWORD, Registry

ROOT = Path(__file__).parent.parent.parent
SERVICE_ONLY = ("aiohttp", "aiobotocore", "SQLAlchemy", "elasticsearch", "psycopg2-binary", "pydantic", "orjson")


def requirements(distribution: metadata.Distribution, found: dict[str, metadata.Distribution]) -> None:
    """Adds everything that `distribution` needs without its extras."""
    for text in distribution.requires or ():
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found[name] = metadata.distribution(name)
            requirements(found[name], found)


def install(distribution: metadata.Distribution, site: Path) -> None:
    """Links the files of an installed package into another environment."""
    for file in distribution.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.symlink_to(Path(str(distribution.locate_file(file))).resolve())


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`synapse-registry`, installed from a wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    # setuptools writes next to the sources.
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    for name in ("registry", "es_mappings"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder)
    subprocess.run([*pip, *build], check=True, capture_output=True, timeout=300, env=environment(folder))
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    subprocess.run(
        [*pip, "--python", python, "install", "--no-index", "--no-deps", wheel],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    [site] = (folder / "venv").glob("lib/python*/site-packages")
    [own] = metadata.distributions(name="synapse-registry", path=[str(site)])
    found: dict[str, metadata.Distribution] = {}
    requirements(own, found)
    for distribution in found.values():
        install(distribution, site)
    assert not {canonicalize_name(name) for name in SERVICE_ONLY} & set(found)
    return python.with_name("synapse-registry")


def environment(home: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), **more}


def run(program: Path, folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments], input=stdin, env=environment(folder), cwd=folder,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_help_and_packing_need_no_service(program: Path, tmp_path: Path):
    assert "publish" in run(program, tmp_path, "--help").stdout
    (tmp_path / "synapse.json").write_text(
        json.dumps({"name": "demo", "version": "1.0.0", "description": "x", "dependencies": {"other": "^1.2"}})
    )
    packed = run(program, tmp_path, "pack")
    assert packed.returncode == 0, packed.stderr
    assert (tmp_path / "demo-1.0.0.tar.gz").exists()
    shell = run(program, tmp_path, "completion", "bash")
    assert shell.returncode == 0, shell.stderr


async def test_it_speaks_with_a_registry(program: Path, registry: Registry, tmp_path: Path):
    await registry.user("ada")
    (tmp_path / "synapse.json").write_text(json.dumps({"name": "demo", "version": "1.0.0", "description": "x"}))

    async def done(*arguments: str, stdin: str = "") -> str:
        ran = await asyncio.to_thread(run, program, tmp_path, *arguments, "--url", registry.url, stdin=stdin)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    await done("login", "--username", "ada", "--password-stdin", stdin=PASSWORD)
    assert "ada at" in await done("whoami")
    await done("publish", "--wait")
    assert "demo" in await done("search", "demo")
    await done("download", "demo")


SERVICE_COMMANDS = (
    "serve", "worker", "migrate", "reindex", "doctor", "user create ada", "user password ada", "user role ada admin",
    "user activate ada", "user deactivate ada", "user verify ada", "user reset-factors ada", "log key log.key",
    "log verify", "log verify --url http://127.0.0.1:9",
)  # fmt: skip


def test_a_command_of_the_service_says_what_to_install(program: Path, tmp_path: Path):
    for command in SERVICE_COMMANDS:
        ran = run(program, tmp_path, *command.split())
        assert (ran.returncode != 0, ran.stdout) == (True, ""), command
        assert "pip install 'synapse-registry[server]'" in ran.stderr, command
        assert len(ran.stderr.splitlines()) == 1, command
    assert list(tmp_path.iterdir()) == []


def test_up_says_that_it_brings_servers_along(program: Path, tmp_path: Path):
    ran = run(program, tmp_path, "up")
    assert ran.returncode == 1
    assert "pip install 'synapse-registry[devstack]'" in ran.stderr


def test_the_wheel_has_the_guides_that_the_service_shows(program: Path):
    [guides] = program.parent.parent.glob("lib/python*/site-packages/registry/pages/guides")
    for name in ("publishing.md", "ci/github.yml"):
        assert (guides / name).read_bytes() == (ROOT / "docs" / name).read_bytes()
