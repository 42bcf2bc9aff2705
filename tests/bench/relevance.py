"""Measures whether the right package comes first, with queries that are made from the packages of the registry.

    python -m tests.bench.relevance                    the packages of this machine's Debian index
    python -m tests.bench.relevance --tsv FILE[.gz]    the packages of a file; tests.bench.catalogue names the columns
    python -m tests.bench.relevance --api URL          the packages of a running registry
    python -m tests.bench.relevance --model DIR        compares searches with and without the sentence model in DIR

Prints for every kind of query and seed the mean reciprocal rank within ten and how often the first result was right,
next to the gate of relevance_gate.json. For nonsense words it prints the share that finds something. Also prints the
processor time of a query. `--record FILE` saves the answers and costs. `--former FILE` compares them with those that
another build recorded: the share of its first ten names that are still found, the totals and the costs.
Exits 1 when a figure of a seed misses its gate.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import mean

import aiohttp
from aiohttp import web
from ephemeral_port_reserve import reserve
from tqdm import tqdm

from registry.db import migrate
from registry.devstack.distribution import elasticsearch_home
from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.java import find_java
from registry.devstack.postgres import Postgres
from registry.settings import Settings
from tests.bench import relevance_meaning
from tests.bench.catalogue import Entry, load, read_catalogue
from tests.bench.relevance_corpus import of_debian, of_registry
from tests.bench.relevance_former import Answer, Record, compare, print_costs, processor_seconds
from tests.bench.relevance_queries import NONSENSE, Case, make
from tests.bench.stack import answering
from tests.client import Registry
from tests.deploy.outside import running
from tests.servers import cache_folder

GATE = Path(__file__).with_name("relevance_gate.json")
SHOWN = 10
AT_ONCE = 2
# The cost is that of the last round. A new Java machine is slow for the first ten thousand queries.
ROUNDS = 10
SERVER_SECRET = "measuring-only-0123456789abcdefghijklmnop"

Figures = dict[str, tuple[float, float]]
"""By kind: the mean reciprocal rank, and how often the first result is right. For nonsense: how often it is found."""


@contextmanager
def servers_of_its_own() -> Iterator[dict[str, str]]:
    """The environment of a migrated, empty registry."""
    home = elasticsearch_home(cache_folder(os.environ))
    java = find_java([], search_path=os.environ["PATH"])
    with tempfile.TemporaryDirectory(prefix="synapse-relevance-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        with (
            Postgres(folder / "postgres", durable=False, environ=os.environ) as postgres,
            Elasticsearch(home, java, folder / "elasticsearch", environ=os.environ) as elasticsearch,
        ):
            environ = {
                "REGISTRY_ENV": "testing",
                "REGISTRY_PORT": str(reserve()),
                "REGISTRY_DB_URL": postgres.url(),
                "REGISTRY_ES_URL": elasticsearch.url,
                "REGISTRY_STORAGE_PATH": str(folder / "packages"),
                "REGISTRY_SPOOL_PATH": str(folder / "spool"),
                "REGISTRY_SECRET_KEY": SERVER_SECRET,
                "REGISTRY_RATE_LIMITS": "off",
                "REGISTRY_LOG_LEVEL": "warning",
            }
            migrate.upgrade(Settings.read(environ).database)
            yield environ


async def ask(api: str, cases: Sequence[Case], title: str) -> list[Answer]:
    """The answers to the queries of `cases`, in their order."""
    gate = asyncio.Semaphore(AT_ONCE)
    with tqdm(total=len(cases), desc=title, leave=False, disable=None) as bar:
        async with aiohttp.ClientSession(f"{api}/api/v1/") as session:

            async def one(case: Case) -> Answer:
                async with gate, session.get("search", params={"q": case.q, "limit": str(SHOWN)}) as response:
                    page = await response.json()
                bar.update()
                if response.status != 200 or page["degraded"]:
                    sys.exit(f"{case.q!r} was not answered by the search engine: {response.status}, {page}")
                return Answer([result["name"] for result in page["results"]], page["total"])

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
    """Prints the table. Returns whether every figure of every seed is good enough."""
    print(f"{'':14}" + "".join(f"{f'seed {seed}':>16}" for seed in by_seed) + f"{'gate':>8}")
    good = True
    for kind, asked in gate.items():
        row = [found[kind] for found in by_seed.values() if kind in found]
        short = any(falls_short(kind, rank, asked) for rank, _ in row)
        cells = "".join(f"{rank:>10.3f}" + (" " * 6 if kind == NONSENSE else f"{first:>6.2f}") for rank, first in row)
        print(f"{kind:14}{cells}{asked:>8.2f}{'  below' if short else ''}")
        good &= not short
    return good


async def measure(
    api: str,
    entries: list[Entry],
    seeds: Sequence[int],
    count: int,
    *,
    elasticsearch: str = "",
    former: Path | None = None,
    record: Path | None = None,
) -> bool:
    """Asks and prints. Returns whether every figure is good enough.

    `elasticsearch` is the address of the search engine, for its cost.
    """
    cases = {str(seed): make(entries, seed, count) for seed in seeds}
    by_seed: dict[int, Figures] = {}
    answers: dict[str, dict[str, Answer]] = {}
    for seed, of_seed in cases.items():
        found = await ask(api, of_seed, f"seed {seed}")
        by_seed[int(seed)] = figures(of_seed, [answer.names for answer in found])
        answers[seed] = {case.q: answer for case, answer in zip(of_seed, found, strict=True)}
    now = Record(answers, await costs(api, elasticsearch, [case for of_seed in cases.values() for case in of_seed]))
    if record:
        now.save(record)
    print(f"{len(entries):,} packages, up to {count} queries of a kind; mean reciprocal rank / first is right")
    good = report(by_seed, json.loads(GATE.read_text(encoding="utf-8")))
    if former is None:
        print_costs(now)
        return good
    return compare(cases, Record.load(former), now) and good


async def costs(api: str, elasticsearch: str, cases: Sequence[Case]) -> dict[str, float]:
    """The processor time of a query in milliseconds, by server. Leaves out servers on other machines."""
    servers = {"the registry": api, **({"Elasticsearch": elasticsearch} if elasticsearch else {})}
    for _ in range(ROUNDS):
        before = {server: processor_seconds(address) for server, address in servers.items()}
        await ask(api, cases, "cost")
    after = {server: processor_seconds(address) for server, address in servers.items()}
    return {
        server: (seconds - began) * 1000 / len(cases)
        for server, seconds in after.items()
        if seconds is not None and (began := before[server]) is not None
    }


def entries_of(options: argparse.Namespace) -> list[Entry]:
    if options.tsv:
        return read_catalogue(options.tsv)
    return of_registry(options.api) if options.api else of_debian()


async def run(options: argparse.Namespace) -> bool:
    files = {"former": options.former, "record": options.record}
    entries = entries_of(options)
    entries.sort(key=lambda entry: (-entry.downloads, entry.name))
    if options.api:
        elasticsearch = options.elasticsearch
        return await measure(options.api, entries, options.seeds, options.count, elasticsearch=elasticsearch, **files)
    with servers_of_its_own() as environ:
        if options.model:
            return await relevance_meaning.compare(environ, options.model, entries, options.seeds, options.count)
        settings = Settings.read(environ)
        await asyncio.to_thread(load, settings, entries)
        api = f"http://127.0.0.1:{settings.web.port}"
        async with serving_apart(environ, api):
            return await measure(api, entries, options.seeds, options.count, elasticsearch=settings.search.url, **files)


@asynccontextmanager
async def serving_apart(environ: Mapping[str, str], api: str) -> AsyncIterator[None]:
    """Runs the registry in its own process, so that its processor time can be measured."""
    log = Path(environ["REGISTRY_SPOOL_PATH"]).parent / "registry.log"
    async with (
        running([sys.executable, "-m", "registry", "serve"], {**os.environ, **environ}, log),
        aiohttp.ClientSession() as session,
    ):
        await answering(Registry(web.Application(), session, api))
        yield


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure whether the right package comes first.")
    parser.add_argument("--tsv", type=Path)
    parser.add_argument("--api")
    parser.add_argument("--elasticsearch", default="", help="its address on this machine, for its cost; with --api")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--count", type=int, default=60, help="queries of a kind")
    parser.add_argument("--model", type=Path, help="a folder with a sentence model; compares searches with and without")
    parser.add_argument("--record", type=Path, help="where to save answers and costs")
    parser.add_argument("--former", type=Path, help="a saved file to compare with")
    sys.exit(0 if asyncio.run(run(parser.parse_args())) else 1)
