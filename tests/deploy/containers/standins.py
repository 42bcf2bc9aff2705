"""Stand-ins for the base images, for machines that can't pull images. They are built from Debian's packages.

Each folder of `images/` is a build context. The first line of its Dockerfile names the image that it replaces.
"""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from registry.devstack.distribution import elasticsearch_home
from tests.deploy.containers.engine import CommandFailed, Engine, go_build, go_module

IMAGES = Path(__file__).with_name("images")
VERSITYGW = "v1.8.0"
# image: (Debian release, debootstrap's script, packages). Forky has nginx 1.27.3 or newer and PostgreSQL 18.
BASES = {
    "debian:bookworm-slim": ("bookworm", "bookworm", "ca-certificates"),
    "debian:forky-slim": ("forky", "sid", "ca-certificates,curl,wget"),
}
LABEL = "synapse.stand-in"
SECONDS = 1800


def build_standins(engine: Engine, cache: Path, java_home: Path) -> list[str]:
    """Builds the stand-ins that are missing or whose files have changed. Returns their names."""
    built = []
    for image in BASES:
        if not _digest_of(engine, image):
            print(f"Installing {image} with debootstrap", flush=True)
            _import_base(engine, cache, image)
            built.append(image)
    for source in sorted(path for path in IMAGES.iterdir() if path.is_dir()):
        image = (source / "Dockerfile").read_text().splitlines()[0].removeprefix("# ")
        digest = _digest(source)
        if _digest_of(engine, image) != digest:
            print(f"Building a stand-in for {image}", flush=True)
            _build(engine, cache, source, image, digest, java_home)
            built.append(image)
    return built


def _digest(source: Path) -> str:
    files = sorted(path for path in source.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def _digest_of(engine: Engine, image: str) -> str:
    """The digest in the label of a stand-in; "" if the stand-in does not exist."""
    inspect = ["docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', image]
    try:
        return engine.run(inspect).strip()
    except CommandFailed:
        return ""


def _import_base(engine: Engine, cache: Path, image: str) -> None:
    release, script, packages = BASES[image]
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        root = Path(folder) / "root"
        install = ["debootstrap", "--variant=minbase", f"--include={packages}", release, root]
        engine.run([*install, "http://deb.debian.org/debian", script], seconds=SECONDS)
        # A proxy between this machine and the Internet may have a certificate authority of its own.
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")
        packing = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
        load = ["docker", "import", "--change", f"LABEL {LABEL}=base", "-", image]
        subprocess.run(load, stdin=packing.stdout, env=engine.environ, check=True, capture_output=True, timeout=SECONDS)
        packing.wait(60)


def _build(engine: Engine, cache: Path, source: Path, image: str, digest: str, java_home: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        context = Path(folder) / "context"
        shutil.copytree(source, context)
        if add := ADDED.get(source.name):
            add(context, cache, java_home)
        command = ["docker", "build", "--network", "host", "--label", f"{LABEL}={digest}", "--tag", image, context]
        engine.run(command, seconds=SECONDS)


def _add_versitygw(context: Path, cache: Path, _: Path) -> None:
    program = cache / "versitygw"
    if not program.is_file():
        print("Building versitygw (about 2 minutes, once)", flush=True)
        module = f"github.com/versity/versitygw/cmd/versitygw@{VERSITYGW}"
        go_build(["install", "-ldflags", "-s -w", module], cache, GOBIN=str(cache))
    shutil.copy(program, context)
    entrypoint = go_module("github.com/versity/versitygw", VERSITYGW) / "docker-entrypoint.sh"
    shutil.copy(entrypoint, context)


def _add_elasticsearch(context: Path, cache: Path, java_home: Path) -> None:
    shutil.copytree(elasticsearch_home(cache.parent), context / "elasticsearch")
    # Debian's JDK has links into /etc. The copy contains the files instead.
    shutil.copytree(java_home, context / "jdk", ignore_dangling_symlinks=True)


ADDED: dict[str, Callable[[Path, Path, Path], None]] = {
    "versitygw": _add_versitygw,
    "elasticsearch": _add_elasticsearch,
}
