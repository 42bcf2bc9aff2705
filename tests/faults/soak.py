"""Everything at once for a long time: users at work while processes are killed and servers go away.

    python -m tests.faults.soak --minutes 60 [--seed N] [--rate 40] [--s3]

Brings up its own PostgreSQL (durable), Elasticsearch and two service processes on one folder of tarballs (`--s3`: on an
S3 server), and keeps a model of what must be true beside them, which it holds against them now and then and at the end.
Prints a line each half minute and one of JSON at the end; exits 1 when anything was not true, or memory grew.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from registry.db import migrate
from registry.db.engine import Database, open_database
from registry.devstack.distribution import S3PROXY, elasticsearch_home, maven_jar
from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.java import find_java
from registry.devstack.postgres import Postgres
from registry.settings import Settings
from tests.faults.fleet import Fleet, Outages
from tests.faults.load import Load
from tests.faults.truth import examine, verify
from tests.servers import S3Proxy, cache_folder
from tests.service import command_environment, run_command

SECRET = "soak-only-0123456789abcdefghijklmnopqrstuvwxyz"
WRITERS, READERS = 3, 9
PROGRESS_SECONDS = 30.0
MEMORY_SECONDS = 60.0
FAULT_SECONDS = 15.0
CHECK_SECONDS = 300.0
SAMPLE = 150
REINDEX_SECONDS = 600.0
# The first process is spared after this part of the time, to show what memory does in a long life.
KILLED_UNTIL = 0.1
# Memory of the longest life, from its middle to its end.
MOST_GROWTH = 1.15
MOST_GROWTH_BYTES = 12 << 20


class Faults:
    """What is done to the fleet and its servers, one thing at a time; each ends with everything up again."""

    def __init__(self, load: Load, postgres: Postgres, elasticsearch: Elasticsearch, chance: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self.spare_first = False
        self._load = load
        self._fleet = load.fleet
        self._postgres = postgres
        self._elasticsearch = elasticsearch
        self._chance = chance
        self._kinds: dict[Callable[[], Awaitable[None]], int] = {
            self.kill_service: 10,
            self.stop_service: 4,
            self.reindex: 5,
            self.kill_reindex: 2,
            self.stop_postgresql: 3,
            self.kill_postgresql: 2,
            self.stop_elasticsearch: 2,
        }

    async def next(self) -> None:
        [fault] = self._chance.choices(list(self._kinds), list(self._kinds.values()))
        await fault()
        self.done[fault.__name__] += 1

    async def kill_service(self) -> None:
        member = self._victim()
        await member.kill()
        await asyncio.sleep(self._chance.uniform(0, 2))
        await member.start()

    async def stop_service(self) -> None:
        member = self._victim()
        await member.stop()
        await member.start()

    async def reindex(self) -> None:
        status, out, error = await run_command(
            self._fleet.folder, "reindex", seconds=REINDEX_SECONDS, **self._fleet.environ
        )
        if status:
            self._load.problem(f"reindex: status {status}: {out}{error}")

    async def kill_reindex(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "registry", "reindex"),
            env=command_environment(self._fleet.folder, self._fleet.environ),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._chance.uniform(1, 5)):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()

    async def stop_postgresql(self) -> None:
        async with self._away(self._fleet.database, self._postgres):
            await asyncio.to_thread(self._postgres.stop)
            await self._meanwhile(8)

    async def kill_postgresql(self) -> None:
        """As when the machine's power goes, as far as PostgreSQL is concerned."""
        async with self._away(self._fleet.database, self._postgres):
            note = self._fleet.folder / "postgres" / "cluster" / "postmaster.pid"
            os.kill(int(note.read_text("ascii").split("\n", 1)[0]), signal.SIGKILL)
            await self._meanwhile(3)
            await asyncio.to_thread(self._postgres.stop)

    async def stop_elasticsearch(self) -> None:
        async with self._away(self._fleet.search, self._elasticsearch):
            await asyncio.to_thread(self._elasticsearch.stop)
            await self._meanwhile(15)

    @contextlib.asynccontextmanager
    async def _away(self, outages: Outages, server: Postgres | Elasticsearch) -> AsyncIterator[None]:
        outages.began()
        yield
        await asyncio.to_thread(server.start)
        outages.ended()
        for member in self._fleet.members:
            if not member.is_up:
                await member.start()

    async def _meanwhile(self, seconds: float) -> None:
        """Waits, and at times a process dies in the middle of it; it is started again afterwards."""
        await asyncio.sleep(self._chance.uniform(1, seconds))
        if self._chance.random() < 0.3:
            await self._victim().kill()

    def _victim(self) -> Any:
        return self._chance.choice(self._fleet.members[1 if self.spare_first else 0 :])


class Memory:
    """Resident bytes of each process life, sampled each minute."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._samples: dict[tuple[str, int], list[tuple[float, int]]] = {}

    def sample(self) -> None:
        for member in self._fleet.members:
            if member.is_up:
                pid, began = member.lives[-1]
                self._samples.setdefault((member.name, pid), []).append((time.monotonic() - began, member.memory))

    def longest(self) -> list[tuple[float, int]]:
        """(seconds of its life, bytes) of the process that lived longest."""
        return max(self._samples.values(), key=lambda samples: samples[-1][0], default=[])

    def report(self) -> dict[str, Any]:
        """Megabytes: at the first sample, in the middle and at the end of the longest life; every life's last."""
        longest = self.longest()
        first, middle, last = (longest[index][1] for index in (0, len(longest) // 2, -1))
        return {
            "minutes": round(longest[-1][0] / 60, 1),
            "first_mb": megabytes(first),
            "middle_mb": megabytes(middle),
            "last_mb": megabytes(last),
            "grows": last > middle * MOST_GROWTH + MOST_GROWTH_BYTES,
            "lives": {
                f"{name}/{pid}": [megabytes(samples[0][1]), megabytes(samples[-1][1])]
                for (name, pid), samples in self._samples.items()
            },
        }


def megabytes(count: int) -> float:
    return round(count / 1e6, 1)


async def soak(minutes: float, seed: int, rate: float, *, s3: bool) -> dict[str, Any]:
    """The figures of the JSON line."""
    folder = _folder()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        postgres, elasticsearch, environ = await asyncio.to_thread(_servers, folder, stack, s3)
        settings = Settings.read({**command_environment(folder, environ)})
        await asyncio.to_thread(migrate.upgrade, settings.database)
        async with open_database(settings.database) as db, Fleet(folder, 2, environ) as fleet:
            load = Load(fleet, seed)
            faults = Faults(load, postgres, elasticsearch, random.Random(seed))
            memory = Memory(fleet)
            async with load.running(writers=WRITERS, readers=READERS, rate=rate), _reporting(load, faults, memory):
                await _until(time.monotonic() + minutes * 60, load, faults, db)
                memory.sample()
                async with load.paused():
                    await verify(load, db)
                    await examine(load)
            for member in fleet.members:
                _read_log(member.service.log_lines, load)
            figures = {
                "figure": "soak", "minutes": round((time.monotonic() - began) / 60, 1), "seed": seed,
                "operations": dict(load.done), "refused": dict(load.refused), "cut": dict(load.cut),
                "faults": dict(faults.done), "packages": len(load.model.packages),
                "versions": sum(1 for _ in load.model.versions()), "events": load.model.events,
                "downloads": load.model.downloads(), "memory": memory.report(), "problems": load.problems,
            }  # fmt: skip
    figures["verdict"] = "untrue" if load.problems else "grows" if figures["memory"]["grows"] else "true"
    if load.problems:
        print(f"Logs are kept in {folder}.", flush=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return figures


async def _until(deadline: float, load: Load, faults: Faults, db: Database) -> None:
    """Faults, and looks at what is true in between, until the time is over."""
    began = time.monotonic()
    checked = began
    while time.monotonic() < deadline:
        await asyncio.sleep(min(FAULT_SECONDS, deadline - time.monotonic()))
        faults.spare_first = time.monotonic() - began > (deadline - began) * KILLED_UNTIL
        await faults.next()
        if time.monotonic() - checked > CHECK_SECONDS:
            async with load.paused():
                await verify(load, db, sample=SAMPLE)
            checked = time.monotonic()


def _folder() -> Path:
    """A folder that other users may enter: as root the servers run as one of them."""
    folder = Path(tempfile.mkdtemp(prefix="synapse-soak-"))
    folder.chmod(0o755)
    return folder


def _servers(folder: Path, stack: contextlib.ExitStack, s3: bool) -> tuple[Postgres, Elasticsearch, dict[str, str]]:
    """Started servers, which `stack` ends, and the variables that lead a service to them."""
    cache = cache_folder(os.environ)
    homes = [Path(os.environ[name]) if os.environ.get(name) else None for name in ("ES_JAVA_HOME", "JAVA_HOME")]
    java = find_java(homes, search_path=os.environ["PATH"])
    home = Path(os.environ["ES_HOME"]) if os.environ.get("ES_HOME") else elasticsearch_home(cache)
    postgres = stack.enter_context(Postgres(folder / "postgres", environ=os.environ))
    elasticsearch = stack.enter_context(
        Elasticsearch(home, java, folder / "elasticsearch", brief=True, environ=os.environ)
    )
    environ = {
        "REGISTRY_DB_URL": postgres.url(),
        "REGISTRY_ES_URL": elasticsearch.url,
        "REGISTRY_SECRET_KEY": SECRET,
        "REGISTRY_PBKDF2_ITERATIONS": "100000",
        "REGISTRY_RATE_LIMITS": "off",
        "REGISTRY_LOG_LEVEL": "warning",
    }
    if s3:
        (folder / "s3" / "blobs" / "packages").mkdir(parents=True)  # a folder there is a bucket
        server = stack.enter_context(S3Proxy(maven_jar(cache, S3PROXY), java, folder / "s3", environ=os.environ))
        environ |= {
            "REGISTRY_STORAGE_TYPE": "s3",
            "REGISTRY_S3_ENDPOINT": server.url,
            "REGISTRY_S3_BUCKET": "packages",
            "REGISTRY_S3_ACCESS_KEY": server.access_key,
            "REGISTRY_S3_SECRET_KEY": server.secret_key,
        }
    return postgres, elasticsearch, environ


@contextlib.asynccontextmanager
async def _reporting(load: Load, faults: Faults, memory: Memory) -> AsyncIterator[None]:
    async def progress() -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            minutes = (time.monotonic() - began) / 60
            done, cut, refused = (sum(each.values()) for each in (load.done, load.cut, load.refused))
            rss = memory.longest()[-1:] or [(0.0, 0)]
            print(
                f"{minutes:5.1f} min  done {done}  cut {cut}  refused {refused}  events {load.model.events}  "
                f"faults {sum(faults.done.values())}  memory {megabytes(rss[0][1])} MB  problems {len(load.problems)}",
                flush=True,
            )

    async def sampling() -> None:
        while True:
            await asyncio.sleep(MEMORY_SECONDS)
            memory.sample()

    tasks = [asyncio.create_task(progress()), asyncio.create_task(sampling())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _read_log(lines: list[dict[str, Any]], load: Load) -> None:
    """What the service itself calls an error."""
    errors = Counter(line["message"] for line in lines if line["level"] in ("ERROR", "CRITICAL"))
    for message, count in errors.items():
        load.problem(f"logged {count} times: {message}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Use the registry for a long time while things break.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--rate", type=float, default=40, help="requests a second, about")
    parser.add_argument("--s3", action="store_true", help="tarballs on an S3 server instead of in a folder")
    options = parser.parse_args()
    figures = asyncio.run(soak(options.minutes, options.seed, options.rate, s3=options.s3))
    print(json.dumps(figures))
    sys.exit(figures["verdict"] != "true")
