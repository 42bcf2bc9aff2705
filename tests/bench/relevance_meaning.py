"""Compares searches by words alone with searches by meaning, too: what they find, and how long they take.

Two processes of the registry serve the same index by turns. Only one of them has the sentence model.
"""

import asyncio
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import mean, quantiles

import aiohttp
from aiohttp import web
from ephemeral_port_reserve import reserve

from registry.settings import Settings
from tests.bench.catalogue import Entry, load
from tests.bench.relevance_blind import answers
from tests.bench.relevance_queries import NONSENSE, Case, make
from tests.bench.stack import answering
from tests.client import Registry
from tests.deploy.outside import running

BLIND = "blind"
BY_WORDS, BY_MEANING = "by words", "with meaning"
SHOWN = 10
# Further seeds, whose queries neither process has seen before.
TIMED_SEEDS = (101, 102, 103)
TURN = 20
# What the model must reach, and what it may cost.
LEAST_GAIN, MOST_LOSS, MOST_NONSENSE, MOST_TIME = 0.15, 0.003, 0.05, 1.6

Places = dict[str, list[int]]
"""Of each kind of query: the place of the first right result, 0 without one. Of nonsense: 1 if it finds anything."""


async def compare(
    environ: Mapping[str, str], folder: Path, entries: list[Entry], seeds: Sequence[int], count: int
) -> bool:
    """Loads the packages and prints the tables. Returns whether the model is good and fast enough."""
    environ = {**environ, "REGISTRY_SEARCH_MODEL": str(folder)}
    await asyncio.to_thread(load, Settings.read(environ), entries)
    blind = [Case(BLIND, q, frozenset(names)) for q, names in answers().items()]
    async with serving({**environ, "REGISTRY_SEARCH_MODEL": ""}) as words, serving(environ) as meaning:
        sessions = {BY_WORDS: words, BY_MEANING: meaning}
        found: dict[str, Places] = {name: defaultdict(list) for name in sessions}
        for cases in (*(make(entries, seed, count) for seed in seeds), blind):
            for case in cases:
                for name, session in sessions.items():
                    found[name][case.kind].append(place(case, await ask(session, case.q)))
        good = report(found)
        timed = [case.q for seed in TIMED_SEEDS for case in make(entries, seed, count)]
        return report_times(await times(sessions, timed)) and good


@asynccontextmanager
async def serving(environ: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientSession]:
    """A process without background work, so that it doesn't rebuild the other one's index."""
    port = reserve()
    api = f"http://127.0.0.1:{port}"
    log = Path(environ["REGISTRY_SPOOL_PATH"]).parent / f"registry-{port}.log"
    command = [sys.executable, "-m", "registry", "serve", "--web-only"]
    async with (
        running(command, {**os.environ, **environ, "REGISTRY_PORT": str(port)}, log),
        aiohttp.ClientSession(f"{api}/api/v1/") as session,
    ):
        await answering(Registry(web.Application(), session, api))
        yield session


async def ask(session: aiohttp.ClientSession, q: str) -> list[str]:
    async with session.get("search", params={"q": q, "limit": str(SHOWN)}) as response:
        page = json.loads(await response.read())
    if response.status != 200 or page["degraded"]:
        sys.exit(f"{q!r} was not answered by the search engine: {response.status}, {page}")
    return [result["name"] for result in page["results"]]


def place(case: Case, names: Sequence[str]) -> int:
    if case.kind == NONSENSE:
        return int(bool(names))
    return next((number for number, name in enumerate(names, 1) if name in case.right), 0)


def report(found: Mapping[str, Places]) -> bool:
    """Prints both mean reciprocal ranks and shares of right results within ten, or the share of nonsense that finds."""
    good = True
    print(f"{'':14}{BY_WORDS:>20}{BY_MEANING:>20}   (mean reciprocal rank / right one within ten)")
    for kind in found[BY_WORDS]:
        (rank, within), (new_rank, new_within) = (figures(found[name][kind]) for name in (BY_WORDS, BY_MEANING))
        if kind == NONSENSE:
            short = new_within > MOST_NONSENSE
        elif kind == BLIND:
            short = new_within < within + LEAST_GAIN
        else:
            short = new_rank < rank - MOST_LOSS
        print(f"{kind:14}{rank:>14.3f}{within:>6.2f}{new_rank:>14.3f}{new_within:>6.2f}{'  below' if short else ''}")
        good &= not short
    return good


def figures(places: Sequence[int]) -> tuple[float, float]:
    return mean(1 / each if each else 0.0 for each in places), mean(bool(each) for each in places)


async def times(sessions: Mapping[str, aiohttp.ClientSession], queries: Sequence[str]) -> dict[str, list[float]]:
    """The milliseconds of each query, by process. The processes take turns of TURN queries."""
    found: dict[str, list[float]] = {name: [] for name in sessions}
    for start in range(0, len(queries), TURN):
        order = list(sessions.items())
        for name, session in order if start // TURN % 2 else reversed(order):
            for q in queries[start : start + TURN]:
                began = time.perf_counter()
                await ask(session, q)
                found[name].append((time.perf_counter() - began) * 1000)
    return found


def report_times(found: Mapping[str, Sequence[float]]) -> bool:
    p95: dict[str, float] = {}
    for name, milliseconds in found.items():
        cuts = quantiles(milliseconds, n=20)
        p95[name] = cuts[18]
        print(f"{name:14} median {cuts[9]:6.1f} ms, 95th percentile {cuts[18]:6.1f} ms, {len(milliseconds)} queries")
    ratio = p95[BY_MEANING] / p95[BY_WORDS]
    print(f"95th percentile: {ratio:.2f} times, at most {MOST_TIME}")
    return ratio <= MOST_TIME
