"""deploy/Dockerfile: the linter, the files it copies, its user and its health check."""

import json
import os
import re
import subprocess
from fnmatch import fnmatch

from ephemeral_port_reserve import reserve

from registry.settings import variables
from tests.deploy.outside import run, running, until_healthy, words
from tests.deploy.stack import ROOT
from tests.deploy.tools import program
from tests.servers import cache_folder

TEXT = (ROOT / "deploy" / "Dockerfile").read_text()
LINES = re.sub(r"\\\n\s*", "", TEXT).splitlines()


def instructions(name: str) -> list[str]:
    return [line.split(" ", 1)[1] for line in LINES if line.startswith(f"{name} ")]


def test_the_linter_reports_nothing():
    hadolint = program("hadolint", cache_folder(os.environ))
    run_ = subprocess.run([hadolint, ROOT / "deploy" / "Dockerfile"], capture_output=True, text=True, timeout=120)
    assert run_.returncode == 0, run_.stdout


def test_the_files_it_copies_exist_and_are_in_the_build_context():
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]]
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / name).exists() for name in copied)


def test_the_files_that_setup_reads_are_copied():
    setup = (ROOT / "setup.py").read_text()
    copied = " ".join(instructions("COPY")).split()
    assert all(name in copied for name in re.findall(r'with_name\("([^"]+)"\)', setup))
    packages = re.findall(r"include=\[([^\]]+)\]", setup)[0].replace('"', "").split(", ")
    assert all(any(fnmatch(name, pattern) for name in copied) for pattern in packages if "." not in pattern)


def test_it_runs_as_an_unprivileged_user_that_owns_its_folders():
    assert instructions("USER") == ["10001:10001"]
    assert "-o 10001 -g 10001" in instructions("RUN")[-1]


def test_it_declares_no_volumes():
    """Docker would make an anonymous volume for each container and leave it behind."""
    assert instructions("VOLUME") == []


def test_the_last_stage_builds_and_installs_nothing():
    last = TEXT[TEXT.rindex("\nFROM ") :]
    assert not re.search(r"pip|apt-get|gcc|curl", last.replace("/opt/registry", ""))


def test_its_variables_are_settings():
    known = {item.metadata["name"] for _, item in variables()} | {"REGISTRY_ENV"}
    named = set(re.findall(r"\b(REGISTRY_\w+)=", " ".join(instructions("ENV"))))
    assert named
    assert named <= known


async def test_the_health_check_needs_only_a_migrated_database(database_url, tmp_path):
    port = reserve()
    (check,) = instructions("HEALTHCHECK")
    service = {"image": "synapse-registry", "command": ["serve"], "healthcheck": {"test": _words(check)}}
    environ = {
        "PATH": os.environ["PATH"],
        "REGISTRY_PORT": str(port),
        "REGISTRY_DB_URL": database_url,
        "REGISTRY_STORAGE_PATH": str(tmp_path / "packages"),
        "REGISTRY_SPOOL_PATH": str(tmp_path / "spool"),
    }
    command = words(service, "healthcheck", {"8080": port})
    async with running(words(service, "command"), environ, tmp_path / "log"):
        await until_healthy(command, environ)
    assert (await run(command, environ))[0] != 0


def _words(check: str) -> list[str]:
    """The JSON list after CMD."""
    found: list[str] = json.loads(check[check.index("[") :])
    return ["CMD", *found]
