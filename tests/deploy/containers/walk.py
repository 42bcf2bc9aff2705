"""The steps of the check, in order. Each returns a summary, or raises an error if something is wrong."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from tests.client import PASSWORD, tarball
from tests.deploy.containers.checkout import IMAGE, PROJECT, Checkout, remove
from tests.deploy.containers.clients import Load, call, publish, sign_in
from tests.deploy.containers.engine import CommandFailed

DEMO = tarball(name="demo", version="1.0.0", description="About demo")
# Kills every process of the container's user but PID 1, which then ends as well.
KILL_ALL = "import os; os.kill(-1, 9)"
DOCTOR_SECONDS = 300
INDEX_SECONDS = 120
COUNT_SECONDS = 30


def first_start(stack: Checkout) -> str:
    stack.make_env()
    said = stack.follow("First start", stdin=f"{PASSWORD}\n")
    assert "ada can sign in (admin)." in said, said
    assert '"status":"healthy"' in said.replace(" ", ""), said
    stack.wait_healthy("worker")
    states = stack.compose("ps", "--all", "--format", "{{.Service}} {{.State}} {{.ExitCode}}").splitlines()
    ended = {line.split()[0] for line in states if line.endswith("exited 0")}
    assert ended == {"migrate", "make-bucket", "kibana-setup", "own-objects"}, states
    warnings = [line for line in stack.compose("logs", "registry").splitlines() if '"level":"WARNING"' in line]
    assert len(warnings) < 20, f"{len(warnings)} warnings at the first start"
    return f"{len(states)} services, healthy; the registry logged {len(warnings)} warnings"


def publish_search_download(stack: Checkout) -> str:
    token = sign_in(stack.url, "ada")
    made = publish(stack.url, token, "demo", "1.0.0")
    assert made.status == 201, made.body
    _wait_for_search(stack, made.json["package"]["seq"])
    for _ in range(10):
        assert call(f"{stack.url}/packages/demo/1.0.0/tarball").body == DEMO
    _wait_for_downloads(stack, 10)
    assert call(stack.url.replace("/api/v1", "/metrics")).status == 404
    return "published, found, 10 downloads with equal bytes, 10 counted"


def _wait_for_search(stack: Checkout, seq: int) -> None:
    """On its first start the worker builds the index; until then PostgreSQL answers."""
    deadline = time.monotonic() + INDEX_SECONDS
    while True:
        found = call(f"{stack.url}/search?q=demo&min_seq={seq}").json
        if [result["name"] for result in found["results"]] == ["demo"] and found["degraded"] is False:
            return
        assert time.monotonic() < deadline, found


def restart_the_only_one(stack: Checkout) -> str:
    """Requests fail during the restart, because no other container serves."""
    with Load(stack.url) as load:
        stack.compose("restart", "registry")
        stack.wait_healthy("registry")
    times = [float(failure.split(" s:")[0]) for failure in load.failures]
    outage = max(times) - min(times) if times else 0.0
    return f"{load.summary()} within {outage:.1f} s"


def commands_keep_the_image(stack: Checkout) -> str:
    """`docker compose run` must not put the new code of the checkout into production."""
    before = stack.inspect(IMAGE, "{{.Id}}")
    stack.release("1.0.1")
    said = stack.compose("run", "--rm", "-T", "registry", "--version")
    assert "1.0.1" not in said, said
    assert stack.inspect(IMAGE, "{{.Id}}") == before
    return "docker compose run used the released image and left it alone"


def upgrade_one(stack: Checkout) -> str:
    return _upgrade(stack, "1.0.1", replicas=1)


def scale_to_three(stack: Checkout) -> str:
    stack.configure(SYNAPSE_REPLICAS="3")
    stack.compose("up", "--detach")
    stack.wait_healthy("registry", 3)
    return "3 healthy containers by SYNAPSE_REPLICAS"


def kill_one_of_three(stack: Checkout) -> str:
    victim = stack.containers("registry")[0]
    with Load(stack.url) as load:
        started = stack.inspect(victim, "{{.State.StartedAt}}")
        stack.compose("exec", "-T", "--index", stack.inspect(victim, NUMBER), "registry", "python", "-c", KILL_ALL)
        while stack.inspect(victim, "{{.State.StartedAt}}") == started:
            time.sleep(0.1)
        stack.wait_healthy("registry", 3)
    return f"{load.require_no_failure()}; Docker started it again"


NUMBER = '{{index .Config.Labels "com.docker.compose.container-number"}}'


def upgrade_three(stack: Checkout) -> str:
    stack.release("1.0.2")
    return _upgrade(stack, "1.0.2", replicas=3)


def refuse_a_broken_release(stack: Checkout) -> str:
    """deploy/upgrade removes a version that can't start. A request can fail when such a container crashes."""
    serving = set(stack.containers("registry"))
    module = stack.folder / "registry" / "server.py"
    kept = module.read_text()
    module.write_text(f"raise SystemExit('broken on purpose')\n{kept}")
    try:
        with Load(stack.url, sign_in(stack.url, "ada")) as load:
            said = stack.engine.run(["sh", "-c", "! deploy/upgrade"], folder=stack.folder)
    finally:
        module.write_text(kept)
    assert "did not become healthy" in said, said
    assert set(stack.containers("registry")) == serving
    assert len(load.failures) < load.answers / 100, load.summary()
    stack.compose("build")
    return f"{load.summary()}; the same containers serve as before"


def backup(stack: Checkout) -> str:
    folder = stack.folder / "backups" / "check"
    stack.follow("Backup and restore", BACKUP=str(folder))
    sizes = {name: (folder / name).stat().st_size for name in ("registry.dump", "objects.tar.gz", "env")}
    assert all(sizes.values()), sizes
    return f"{sizes['registry.dump'] / 1e6:.1f} MB dump, {sizes['objects.tar.gz'] / 1e6:.1f} MB of tarballs"


def restore(stack: Checkout) -> str:
    counted, token = downloads(stack), sign_in(stack.url, "ada")
    late = publish(stack.url, token, "after-the-backup", "1.0.0")
    assert late.status == 201, late.body
    stack.compose("down", "--volumes")
    stack.follow("Backup and restore", 1, BACKUP=str(stack.folder / "backups" / "check"))
    stack.wait_healthy("registry", 3)
    body = call(f"{stack.url}/packages/demo/1.0.0/tarball").body
    assert hashlib.sha256(body).digest() == hashlib.sha256(DEMO).digest()
    _wait_for_downloads(stack, counted + 1)
    assert call(f"{stack.url}/packages/after-the-backup").status == 404
    assert [result["name"] for result in call(f"{stack.url}/search?q=demo").json["results"]] == ["demo"]
    assert call(f"{stack.url}/auth/me", token=sign_in(stack.url, "ada")).status == 200
    return f"tarball, {counted} downloads, account and search as before; {_wait_for_doctor(stack)}"


def _wait_for_doctor(stack: Checkout) -> str:
    """Repeats the doctor until it finds nothing: the worker fills the dashboards after a restore."""
    deadline = time.monotonic() + DOCTOR_SECONDS
    while True:
        try:
            return "doctor: " + stack.compose("run", "--rm", "-T", "registry", "doctor").strip().splitlines()[-1]
        except CommandFailed:
            if time.monotonic() > deadline:
                raise


def leave_nothing(stack: Checkout) -> str:
    anonymous = _volumes(stack) - {
        f"{PROJECT}_{name}" for name in ("postgres", "objects", "elasticsearch", "kibana", "prometheus", "spool")
    }
    assert not anonymous, anonymous
    remove(stack.engine)
    assert not _volumes(stack)
    return "no anonymous volumes; containers, networks and volumes removed"


def _volumes(stack: Checkout) -> set[str]:
    mounted = '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}} {{end}}{{end}}'
    of_containers = {
        name for id_ in stack.compose("ps", "--all", "--quiet").split() for name in stack.inspect(id_, mounted).split()
    }
    listed = stack.engine.run(["docker", "volume", "ls", "--quiet", "--filter", f"name={PROJECT}"])
    return of_containers | set(listed.split())


def _upgrade(stack: Checkout, version: str, *, replicas: int) -> str:
    """deploy/upgrade under load: no request fails, and afterwards as many containers run as before."""
    before = downloads(stack)
    started = time.monotonic()
    with Load(stack.url, sign_in(stack.url, "ada")) as load:
        stack.engine.run(["deploy/upgrade"], folder=stack.folder)
        stack.wait_healthy("registry", replicas)
        stack.wait_healthy("worker")
    seen = call(f"{stack.url}/health")
    assert seen.json["version"] == version, seen.json
    assert seen.headers["X-Release"] == version, "nginx has not loaded its new configuration"
    load.require_no_failure()
    _wait_for_downloads(stack, before + load.downloads)
    return f"{load.summary()}, all {load.downloads} downloads counted, {time.monotonic() - started:.0f} s"


def downloads(stack: Checkout) -> int:
    return int(call(f"{stack.url}/packages/demo/stats").json["downloads"]["total"])


def _wait_for_downloads(stack: Checkout, expected: int) -> None:
    """Downloads are counted a moment after they end."""
    deadline = time.monotonic() + COUNT_SECONDS
    while (found := downloads(stack)) < expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == expected


STEPS: tuple[tuple[str, Callable[[Checkout], str]], ...] = (
    ("first start", first_start),
    ("publish, search, download", publish_search_download),
    ("restart the only registry", restart_the_only_one),
    ("commands keep the image", commands_keep_the_image),
    ("upgrade 1 registry under load", upgrade_one),
    ("scale to 3", scale_to_three),
    ("kill 1 of 3 under load", kill_one_of_three),
    ("upgrade 3 registries under load", upgrade_three),
    ("refuse a broken release", refuse_a_broken_release),
    ("backup", backup),
    ("restore into empty volumes", restore),
    ("clean up", leave_nothing),
)


def logs(stack: Checkout, folder: Path) -> Path:
    """Writes the containers' logs into a file of `folder`."""
    file = folder / "containers.log"
    file.write_text(stack.compose("logs", "--no-color", "--timestamps"))
    return file
