"""Programs that check the deployment files: the machine's own, or from Debian's packages, without root."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import fasteners

PACKAGES = {"nginx": "nginx", "promtool": "prometheus"}
FOLDERS = ("usr/sbin", "usr/bin")


def program(name: str, cache: Path) -> Path:
    """The program `name`: from the virtual environment, the PATH, or a Debian package unpacked once into `cache`.

    Raises RuntimeError that says what to install when there is no way to get it.
    """
    beside_python = Path(sys.executable).with_name(name)
    if beside_python.is_file():
        return beside_python
    if found := shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin"):
        return Path(found)
    if name not in PACKAGES:
        raise RuntimeError(f"{name} is not installed. It comes with `pip install -e '.[test]'`.")
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / "debian-programs"
    with fasteners.InterProcessLock(cache / "debian.lock"):
        if not root.is_dir():
            _unpack(root)
    return next(root / folder / name for folder in FOLDERS if (root / folder / name).is_file())


def _unpack(root: Path) -> None:
    """All of them at once, by package lists of our own: neither root nor an earlier `apt-get update` is needed."""
    with tempfile.TemporaryDirectory(dir=root.parent) as text:
        folder = Path(text)
        for needed in ("lists/partial", "archives/partial", "unpacked"):
            (folder / needed).mkdir(parents=True)
        places = {
            "Dir::State::lists": folder / "lists",
            "Dir::Cache": folder,
            "Dir::Cache::archives": folder / "archives",
            "APT::Sandbox::User": "root",
        }
        options = [part for place, value in places.items() for part in ("-o", f"{place}={value}")]
        _run(["apt-get", *options, "--quiet", "update"], folder)
        _run(["apt-get", *options, "--quiet", "download", *PACKAGES.values()], folder)
        for archive in folder.glob("*.deb"):
            _run(["dpkg", "-x", archive, folder / "unpacked"], folder)
        (folder / "unpacked").rename(root)


def _run(command: Sequence[str | Path], folder: Path) -> None:
    packages = " ".join(PACKAGES.values())
    advice = f"The deployment is checked with {', '.join(PACKAGES)}. Install them (Debian: apt-get install {packages})"
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300)
    except FileNotFoundError as missing:
        raise RuntimeError(f"{advice}; {command[0]} is not here to fetch them.") from missing
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failure:
        raise RuntimeError(f"{advice}; `{' '.join(map(str, command))}` failed: {failure.stderr}") from failure
