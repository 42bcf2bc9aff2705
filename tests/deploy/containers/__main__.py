"""Runs the check: `python -m tests.deploy.containers`. Exit status 1 when a step failed or could not run."""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from registry.devstack.java import find_java
from registry.errors import StackError
from tests.deploy.containers.checkout import Checkout, remove
from tests.deploy.containers.engine import CommandFailed, Engine, Unavailable, engine
from tests.deploy.containers.standins import build_standins
from tests.deploy.containers.walk import STEPS, logs
from tests.servers import cache_folder


def main() -> int:
    cache = cache_folder(os.environ) / "containers"
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with engine(cache) as found, tempfile.TemporaryDirectory(prefix="synapse-containers-") as folder:
            name = "a Docker engine that the check started" if found.own else "this machine's Docker engine"
            print(f"Using {name}, with {'the real base images' if found.real else 'stand-ins'}", flush=True)
            if not found.real:
                build_standins(found, cache, find_java([], search_path=os.environ["PATH"]))
            return _walk(found, Path(folder), cache)
    except (Unavailable, CommandFailed, StackError) as error:
        print(error, file=sys.stderr)
        return 1


def _walk(found: Engine, folder: Path, cache: Path) -> int:
    remove(found)  # a run that was killed leaves its stack behind
    stack = Checkout(found, folder)
    rows: list[tuple[str, str, float, str]] = []
    try:
        for name, step in STEPS:
            print(f"== {name}", flush=True)
            started = time.monotonic()
            try:
                seen, outcome = step(stack), "ok"
            except (AssertionError, CommandFailed, OSError, subprocess.TimeoutExpired) as error:
                seen, outcome = f"{type(error).__name__}: {error}", "FAILED"
            seconds = time.monotonic() - started
            rows.append((outcome, name, seconds, seen.splitlines()[0]))
            print(f"   {outcome} in {seconds:.0f} s: {seen}", flush=True)
            if outcome != "ok":
                print(f"   The containers' logs are in {logs(stack, cache)}")
                break
    finally:
        # After a failure. Otherwise the last step has already removed the stack.
        with suppress(CommandFailed):
            remove(found)
    print()
    for outcome, name, seconds, seen in rows:
        print(f"{outcome:6} {name:32} {seconds:4.0f} s  {seen[:100]}")
    return 0 if len(rows) == len(STEPS) and all(row[0] == "ok" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
