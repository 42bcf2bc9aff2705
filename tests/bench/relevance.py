"""Does the right package come first? Measures a search by queries made from the packages it holds.

    python -m tests.bench.relevance                    packages of this machine's Debian index, on servers of its own
    python -m tests.bench.relevance --tsv FILE[.gz]    those of a file (tests.bench.catalogue says which columns)
    python -m tests.bench.relevance --api URL          those of a running registry

Prints, for every kind of query and seed, the mean reciprocal rank within ten and how often the first result was right,
beside what relevance_gate.json asks; exits 1 when a seed falls below. Of nonsense it is the share that finds something.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean

import aiohttp
from ephemeral_port_reserve import reserve
from tqdm import tqdm

from registry.db import migrate
from registry.devstack.distribution import elasticsearch_home
from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.java import find_java
from registry.devstack.postgres import Postgres
from registry.server import serving
from registry.settings import Settings
from tests.bench.catalogue import Entry, load, read_catalogue
from tests.bench.relevance_corpus import of_debian, of_registry
from tests.bench.relevance_queries import NONSENSE, Case, make
from tests.servers import cache_folder

GATE = Path(__file__).with_name("relevance_gate.json")
SHOWN = 10
AT_ONCE = 2
SERVER_SECRET = "measuring-only-0123456789abcdefghijklmnop"

Figures = dict[str, tuple[float, float]]
"""Of each kind: mean reciprocal rank and share of right first results; of nonsense the share that found something."""


@contextmanager
def servers_of_its_own() -> Iterator[Settings]:
    """A migrated, empty registry's settings."""
    home = elasticsearch_home(cache_folder(os.environ))
    java = find_java([], search_path=os.environ["PATH"])
    with tempfile.TemporaryDirectory(prefix="synapse-relevance-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        with (
            Postgres(folder / "postgres", durable=False, environ=os.environ) as postgres,
            Elasticsearch(home, java, folder / "elasticsearch", environ=os.environ) as elasticsearch,
        ):
            settings = Settings.read(
                {
                    "REGISTRY_ENV": "testing",
                    "REGISTRY_PORT": str(reserve()),
                    "REGISTRY_DB_URL": postgres.url(),
                    "REGISTRY_ES_URL": elasticsearch.url,
                    "REGISTRY_STORAGE_PATH": str(folder / "packages"),
                    "REGISTRY_SPOOL_PATH": str(folder / "spool"),
                    "REGISTRY_SECRET_KEY": SERVER_SECRET,
                    "REGISTRY_RATE_LIMITS": "off",
                }
            )
            migrate.upgrade(settings.database)
            yield settings


async def ask(api: str, cases: Sequence[Case], title: str) -> list[list[str]]:
    """The names that each case's query finds, best first."""
    gate = asyncio.Semaphore(AT_ONCE)
    with tqdm(total=len(cases), desc=title, leave=False, disable=None) as bar:
        async with aiohttp.ClientSession(f"{api}/api/v1/") as session:

            async def one(case: Case) -> list[str]:
                async with gate, session.get("search", params={"q": case.q, "limit": str(SHOWN)}) as response:
                    page = await response.json()
                bar.update()
                if response.status != 200 or page["degraded"]:
                    sys.exit(f"{case.q!r} was not answered by the search engine: {response.status}, {page}")
                return [result["name"] for result in page["results"]]

            return await asyncio.gather(*(one(case) for case in cases))


def figures(cases: Sequence[Case], answers: Sequence[list[str]]) -> Figures:
    ranks: defaultdict[str, list[float]] = defaultdict(list)
    for case, names in zip(cases, answers, strict=True):
        if case.kind == NONSENSE:
            ranks[case.kind].append(float(bool(names)))
        else:
            place = next((place for place, name in enumerate(names, 1) if name in case.right), None)
            ranks[case.kind].append(1 / place if place else 0.0)
    return {kind: (mean(each), mean(rank == 1 for rank in each)) for kind, each in ranks.items()}


def falls_short(kind: str, found: float, asked: float) -> bool:
    return found > asked if kind == NONSENSE else found < asked


def report(by_seed: dict[int, Figures], gate: dict[str, float]) -> bool:
    """Prints the table; whether every figure of every seed is good enough."""
    print(f"{'':14}" + "".join(f"{f'seed {seed}':>16}" for seed in by_seed) + f"{'gate':>8}")
    good = True
    for kind, asked in gate.items():
        row = [found[kind] for found in by_seed.values() if kind in found]
        short = any(falls_short(kind, rank, asked) for rank, _ in row)
        cells = "".join(f"{rank:>10.3f}" + (" " * 6 if kind == NONSENSE else f"{first:>6.2f}") for rank, first in row)
        print(f"{kind:14}{cells}{asked:>8.2f}{'  below' if short else ''}")
        good &= not short
    return good


async def measure(api: str, entries: list[Entry], seeds: Sequence[int], count: int) -> bool:
    by_seed = {}
    for seed in seeds:
        cases = make(entries, seed, count)
        by_seed[seed] = figures(cases, await ask(api, cases, f"seed {seed}"))
    print(f"{len(entries):,} packages, up to {count} queries of a kind; mean reciprocal rank / first is right")
    return report(by_seed, json.loads(GATE.read_text(encoding="utf-8")))


async def run(options: argparse.Namespace) -> bool:
    if options.api:
        return await measure(options.api, of_registry(options.api), options.seeds, options.count)
    entries = read_catalogue(options.tsv) if options.tsv else of_debian()
    entries.sort(key=lambda entry: (-entry.downloads, entry.name))
    with servers_of_its_own() as settings:
        await asyncio.to_thread(load, settings, entries)
        async with serving(settings, with_background=False):
            return await measure(f"http://127.0.0.1:{settings.web.port}", entries, options.seeds, options.count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure whether the right package comes first.")
    parser.add_argument("--tsv", type=Path)
    parser.add_argument("--api")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--count", type=int, default=60, help="queries of a kind")
    sys.exit(0 if asyncio.run(run(parser.parse_args())) else 1)
