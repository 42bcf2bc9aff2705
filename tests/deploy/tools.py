"""Finds the programs that the tests use: installed ones, ones unpacked from Debian's packages, or ones built by Go."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import fasteners

PACKAGES = {
    "nginx": ("nginx",),
    "pgbouncer": ("pgbouncer", "libc-ares2", "libevent-2.1-7"),
    "promtool": ("prometheus",),
    "wrk": ("wrk", "libluajit-5.1-2"),
    "aria2c": ("aria2", "libaria2-0", "libc-ares2", "libssh2-1", "libxml2"),
    "axel": ("axel",),
    "curl": ("curl", "libcurl4"),
    "wget": ("wget",),
}
GO_MODULES = {"actionlint": "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"}
FOLDERS = ("usr/sbin", "usr/bin")


def program(name: str, cache: Path) -> Path:
    """The program `name`: from the virtual environment, the PATH, or made once in `cache`.

    It is made from a Debian package or by Go.
    Raises RuntimeError that says what to install when there is no way to get it.
    """
    beside_python = Path(sys.executable).with_name(name)
    if beside_python.is_file():
        return beside_python
    if found := shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin"):
        return Path(found)
    if name in GO_MODULES:
        return _build(name, cache)
    if name not in PACKAGES:
        raise RuntimeError(f"{name} is not installed. It comes with `pip install -e '.[test]'`.")
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / f"debian-programs-{hashlib.sha256(repr(PACKAGES).encode()).hexdigest()[:8]}"
    with fasteners.InterProcessLock(cache / "debian.lock"):
        if not root.is_dir():
            _unpack(root)
    return next(root / folder / name for folder in FOLDERS if (root / folder / name).is_file())


def _build(name: str, cache: Path) -> Path:
    module = GO_MODULES[name]
    folder = cache / f"{name}-{module.rpartition('@')[2]}"
    folder.mkdir(parents=True, exist_ok=True)
    with fasteners.InterProcessLock(cache / f"{name}.lock"):
        if not (folder / name).is_file():
            go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
            if go is None:
                raise RuntimeError(f"Install {name}, or install Go 1.25 or newer, which builds it.")
            environ = {**os.environ, "GOBIN": str(folder)}
            subprocess.run([go, "install", module], check=True, capture_output=True, timeout=300, env=environ)
    return folder / name


def environment(found: Path) -> dict[str, str]:
    """The variables with which a program from Debian's packages finds its libraries; none for an installed program."""
    libraries = next((found.parents[1] / "lib").glob("*-linux-gnu/libluajit*"), None)
    return {} if libraries is None or found.parents[1] == Path("/usr") else {"LD_LIBRARY_PATH": str(libraries.parent)}


def _unpack(root: Path) -> None:
    """Downloads and unpacks all packages, with package lists of its own: needs neither root nor `apt-get update`."""
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
        _run(["apt-get", *options, "--quiet", "download", *_names()], folder)
        for archive in folder.glob("*.deb"):
            _run(["dpkg", "-x", archive, folder / "unpacked"], folder)
        (folder / "unpacked").rename(root)


def _run(command: Sequence[str | Path], folder: Path) -> None:
    packages = " ".join(_names())
    advice = f"The deployment is checked with {', '.join(PACKAGES)}. Install them (Debian: apt-get install {packages})"
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300)
    except FileNotFoundError as missing:
        raise RuntimeError(f"{advice}; {command[0]} is not here to fetch them.") from missing
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failure:
        raise RuntimeError(f"{advice}; `{' '.join(map(str, command))}` failed: {failure.stderr}") from failure


def _names() -> list[str]:
    return sorted({name for names in PACKAGES.values() for name in names})
