"""Chromium for the tests. `python -m tests.pages.browser.chromium` installs Debian's if there is none."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGE = "chromium"
HOW = "The tests of the pages need Chromium. Install it (Debian: sudo apt-get install chromium) and run this again."
ARGUMENTS = (
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""What Chromium is started with. It must not call anybody but the registry."""

Run = Callable[[Sequence[str]], object]


def find(search_path: str | None = None) -> Path:
    """The installed browser. Raises RuntimeError that says how to install one."""
    for name in NAMES:
        if found := shutil.which(name, path=search_path):
            return Path(found)
    raise RuntimeError(HOW)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def install(search_path: str | None = None, *, is_root: bool, run: Run = _run) -> Path:
    """The browser; installs Debian's if there is none. apt-get shows its progress.

    Raises RuntimeError if it can't be installed here.
    """
    try:
        return find(search_path)
    except RuntimeError:
        apt = shutil.which("apt-get", path=search_path)
        if apt is None or not is_root:
            raise
    try:
        run([apt, "-q", "update"])
        run([apt, "-q", "install", "--yes", "--no-install-recommends", PACKAGE])
    except subprocess.CalledProcessError as failure:
        raise RuntimeError(f"apt-get ended with {failure.returncode}, so Chromium is missing. {HOW}") from failure
    return find(search_path)


if __name__ == "__main__":
    try:
        print(install(is_root=os.geteuid() == 0))
    except RuntimeError as failure:
        sys.exit(str(failure))
