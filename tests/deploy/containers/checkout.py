"""A copy of the checkout with a stack of its own: other project name, ports, network and image tag."""

import os
import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from ephemeral_port_reserve import reserve

from tests.deploy.containers.engine import CommandFailed, Engine
from tests.deploy.stack import ROOT

PROJECT = "synapse-containers-check"
TAG = "containers-check"
IMAGE = f"synapse-registry:{TAG}"
HEALTHY_SECONDS = 300
CAP_SYS_RESOURCE = 1 << 24
# Limits that a process without CAP_SYS_RESOURCE may set.
SMALLER_LIMITS = """\
services:
  elasticsearch:
    ulimits:
      memlock: {soft: 8388608, hard: 8388608}
      nofile: {soft: 20000, hard: 20000}
"""


class Checkout:
    """The stack of one run. `url` is the API behind nginx."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.port = reserve()
        self.url = f"http://127.0.0.1:{self.port}/api/v1"
        self.runbook = (ROOT / "deploy" / "README.md").read_text()
        _copy_files(folder)
        self._extra = {
            "COMPOSE_PROJECT_NAME": PROJECT,
            "SYNAPSE_TAG": TAG,
            "SYNAPSE_SUBNET": "172.31.239.0/24",
            "SYNAPSE_PORT": str(self.port),
            "KIBANA_PORT": str(reserve()),
            # The check sends more requests than the limits allow for one client.
            "REGISTRY_RATE_LIMITS": "off",
        }
        if engine.own and not _may_raise_limits():
            (folder / "smaller-limits.yml").write_text(SMALLER_LIMITS)
            self._extra["COMPOSE_FILE"] = "docker-compose.yml:smaller-limits.yml"

    def configure(self, **variables: str) -> None:
        """Appends `variables` to .env. A later line overrides an earlier one of the same name."""
        with (self.folder / ".env").open("a") as env:
            env.writelines(f"{name}={value}\n" for name, value in variables.items())

    def make_env(self) -> None:
        self.engine.run(["deploy/make-env"], folder=self.folder)
        self.configure(**self._extra)

    def compose(self, *words: str, stdin: str = "") -> str:
        return self.engine.run(["docker", "compose", *words], folder=self.folder, stdin=stdin)

    def commands(self, heading: str, number: int = 0) -> str:
        """The shell commands below `heading` of the runbook, with this stack's names and port."""
        section = self.runbook.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        block = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[number]
        lines = [line for line in block.splitlines() if not line.startswith(("sudo ", "git pull", "deploy/make-env"))]
        text = "\n".join(lines).replace("synapse-registry_", f"{PROJECT}_")
        return text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")

    def follow(self, heading: str, number: int = 0, *, stdin: str = "", **environ: str) -> str:
        """Runs the commands below `heading` of the runbook and returns their output. Raises CommandFailed."""
        engine = replace(self.engine, environ={**self.engine.environ, **environ})
        return engine.run(["sh", "-euc", self.commands(heading, number)], folder=self.folder, stdin=stdin)

    def containers(self, service: str) -> list[str]:
        """The ids of the running containers of `service`."""
        return self.compose("ps", "--quiet", service).split()

    def inspect(self, what: str, template: str) -> str:
        return self.engine.run(["docker", "inspect", "--format", template, what]).strip()

    def wait_healthy(self, service: str, count: int = 1) -> None:
        """Returns when `count` containers of `service` run and all are healthy. Raises CommandFailed."""
        deadline = time.monotonic() + HEALTHY_SECONDS
        while True:
            found = [self.inspect(name, "{{.State.Health.Status}}") for name in self.containers(service)]
            if found == ["healthy"] * count:
                return
            if time.monotonic() > deadline:
                raise CommandFailed(f"{count} healthy containers of {service} were expected: {found}")
            time.sleep(0.5)

    def release(self, version: str) -> None:
        """Changes the code and nginx's configuration as a `git pull` of `version` would."""
        module = self.folder / "registry" / "__init__.py"
        _replace(module, r'__version__ = "[^"]+"', f'__version__ = "{version}"')
        server = self.folder / "deploy" / "nginx" / "plain" / "server.conf"
        _replace(server, r"listen 8080;.*", f'listen 8080; add_header X-Release "{version}" always;')


def remove(engine: Engine) -> None:
    """Removes the containers, volumes, networks and the image of the check, if there are any."""
    label = ["--filter", f"label=com.docker.compose.project={PROJECT}"]
    for listing, removing in (
        (["docker", "ps", "--all", "--quiet", *label], ["docker", "rm", "--force", "--volumes"]),
        (["docker", "volume", "ls", "--quiet", *label], ["docker", "volume", "rm"]),
        (["docker", "network", "ls", "--quiet", *label], ["docker", "network", "rm"]),
        (["docker", "image", "ls", "--quiet", IMAGE], ["docker", "image", "rm", "--force"]),
    ):
        if found := engine.run(listing).split():
            engine.run([*removing, *found])


def _replace(file: Path, pattern: str, new: str) -> None:
    """Replaces the file by a new one, as Git does."""
    changed = re.sub(pattern, new, file.read_text())
    file.unlink()
    file.write_text(changed)


def _copy_files(folder: Path) -> None:
    """Copies what Git tracks or would add."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in found.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def _may_raise_limits() -> bool:
    """Whether this process may raise its hard limits."""
    status = Path("/proc/self/status").read_text()
    bounding = re.search(r"^CapBnd:\s*(\w+)$", status, re.MULTILINE)
    return os.geteuid() == 0 and bounding is not None and bool(int(bounding[1], 16) & CAP_SYS_RESOURCE)
