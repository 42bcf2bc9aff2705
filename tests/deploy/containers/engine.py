"""The Docker engine for the check: the machine's engine, or one that the check starts as root if none runs."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from registry.devstack.processes import ChildProcess, claim

COMPOSE = "v2.40.3"
PROBE_IMAGE = "nginx:1.28-alpine"
START_SECONDS = 60
PROGRAMS = ("dockerd", "docker", "debootstrap", "go", "java")


class Unavailable(Exception):
    """This machine can't run the check. The text says what is missing."""


class CommandFailed(Exception):
    """A command ended with a status other than 0. The text has the end of its output."""


@dataclass(frozen=True)
class Engine:
    """`environ` makes `docker` use this engine. `own`: `engine()` started it. `real`: it can pull images."""

    environ: Mapping[str, str]
    own: bool
    real: bool = True

    def run(
        self, command: Sequence[str | Path], *, folder: Path | None = None, stdin: str = "", seconds: float = 1800
    ) -> str:
        """The standard output and error of `command`. Raises CommandFailed."""
        done = subprocess.run(
            command,
            cwd=folder,
            env=self.environ,
            input=stdin,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        )
        if done.returncode != 0:
            said = "\n".join(done.stdout.splitlines()[-40:])
            raise CommandFailed(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said}")
        return done.stdout


@contextlib.contextmanager
def engine(cache: Path) -> Iterator[Engine]:
    """Yields a working engine. `cache` holds its files between runs. Raises Unavailable."""
    machines = Engine(dict(os.environ), own=False)
    if _answers(machines):
        if not _can_pull(machines):
            raise Unavailable(
                "This machine's Docker engine can't pull images, or its client has no Compose plugin. Repair that, or "
                "stop the engine: the check then starts one of its own. Two engines would overwrite each other's "
                "network rules."
            )
        yield machines
        return
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if os.geteuid() != 0:
        missing.append("root")
    if missing:
        raise Unavailable(
            "No Docker engine runs here. To start one with stand-ins for the images, this "
            f"check needs: {', '.join(missing)}. On Debian: "
            "apt-get install docker.io debootstrap default-jdk-headless; Go is at https://go.dev/dl."
        )
    with _own_engine(cache) as found:
        yield found


def _can_pull(found: Engine) -> bool:
    try:
        found.run(["docker", "compose", "version"], seconds=30)
        found.run(["docker", "manifest", "inspect", PROBE_IMAGE], seconds=60)
    except (CommandFailed, subprocess.TimeoutExpired):
        return False
    return True


@contextlib.contextmanager
def _own_engine(cache: Path) -> Iterator[Engine]:
    """A `dockerd` with a socket and a data folder of its own, so that no other engine's containers are touched."""
    with claim(cache, "The check of the containers") as lock, tempfile.TemporaryDirectory(prefix="dockerd-") as folder:
        _install_compose(cache)
        run_folder = Path(folder)
        (run_folder / "daemon.json").write_text("{}")
        socket = f"unix://{run_folder}/docker.sock"
        environ = {**os.environ, "DOCKER_HOST": socket, "DOCKER_CONFIG": str(cache / "client"), "DOCKER_BUILDKIT": "0"}
        had_bridge = Path("/sys/class/net/docker0").exists()
        command = ["dockerd", "--host", socket, "--data-root", cache / "data", "--exec-root", run_folder / "exec"]
        command += ["--pidfile", run_folder / "pid", "--config-file", run_folder / "daemon.json"]
        daemon = ChildProcess(
            "dockerd", command, lock=lock, log=cache / "dockerd.log", environ=os.environ, grace_seconds=60
        )
        found = Engine(environ, own=True)
        try:
            daemon.wait_until(lambda: _answers(found), seconds=START_SECONDS)
            yield replace(found, real=_can_pull(found))
        finally:
            daemon.stop()
            # dockerd leaves its mounts and its bridge behind.
            for mounted in _mounts_below(run_folder):
                subprocess.run(["umount", mounted], check=False, capture_output=True)
            if not had_bridge:
                subprocess.run(["ip", "link", "delete", "docker0"], check=False, capture_output=True)


def _answers(found: Engine) -> bool:
    try:
        found.run(["docker", "info"], seconds=30)
    except (CommandFailed, FileNotFoundError):
        return False
    return True


def _mounts_below(folder: Path) -> list[str]:
    points = (line.split()[1] for line in Path("/proc/mounts").read_text().splitlines())
    return [point for point in points if point.startswith(f"{folder}/")]


def _install_compose(cache: Path) -> None:
    """Builds Docker Compose from its Go module as a plugin of the client."""
    plugin = cache / "client" / "cli-plugins" / "docker-compose"
    if plugin.is_file():
        return
    print("Building Docker Compose (about 3 minutes, once)", flush=True)
    source = cache / "compose-source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(go_module("github.com/docker/compose/v2", COMPOSE), source)
    source.chmod(0o755)
    version = f"-X github.com/docker/compose/v2/internal.Version={COMPOSE}"
    plugin.parent.mkdir(parents=True, exist_ok=True)
    go_build(["build", "-ldflags", f"-s -w {version}", "-o", str(plugin), "./cmd"], source)
    shutil.rmtree(source)


def go_module(path: str, version: str) -> Path:
    """The folder of a Go module's source. Raises CommandFailed when it can't be downloaded."""
    plain = Engine(dict(os.environ), own=False)
    found = plain.run(["go", "mod", "download", "-json", f"{path}@{version}"])
    return Path(json.loads(found[found.index("{") :])["Dir"])


def go_build(arguments: Sequence[str], folder: Path, **environ: str) -> None:
    """Runs `nice go ARGUMENTS` without C libraries. Raises CommandFailed."""
    builder = Engine({**os.environ, "CGO_ENABLED": "0", **environ}, own=False)
    builder.run(["nice", "-n", "19", "go", *arguments], folder=folder)
