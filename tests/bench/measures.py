"""What is measured of a build: each measure is one run against a subject, and gives numbers by name.

The names say the unit. Every measure gives the processor time of each process for one request.
"""

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlencode

from tests.bench.catalogue import Entry
from tests.bench.reads import SMALL, packed, published
from tests.bench.relevance_queries import make
from tests.bench.searches import percentile
from tests.bench.subjects import PARTS, Subject
from tests.bench.wrk import load
from tests.client import API

Numbers = Mapping[str, float]
Measure = Callable[[Subject, int, float], Awaitable[Numbers]]
"""Gets the subject, the number of the round (negative while warming up), and the seconds to measure."""

CLIENTS = 8
OF_A_KIND = 1500
# Enough for the fastest build not to come to the end of its packages.
PUBLISHES_A_SECOND = 500
# A round asks each query with this many page sizes, so that no answer is cached.
PAGE_SIZES = 4
ZIPF_QUERIES, ZIPF_LENGTH = 2000, 100_000
SEED = 1


class Used:
    """Processor time of a subject during a block."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._before = subject.cpu()

    def for_each(self, requests: int) -> Numbers:
        """Milliseconds for each of so many requests, by process."""
        now = self._subject.cpu()
        used = {part: 1000 * (now[part] - self._before[part]) / requests for part in PARTS}
        return {f"cpu ms, {part}": spent for part, spent in used.items()} | {"cpu ms": sum(used.values())}


async def requested(subject: Subject, paths: Sequence[str], connections: int, seconds: float) -> Numbers:
    """Throughput, 95th percentile and processor time while wrk asks for `paths` by turns."""
    used = Used(subject)
    seen = await load(subject.url, paths, connections=connections, seconds=seconds)
    return {"per second": seen.per_second, "p95 ms": seen.p95_ms, **used.for_each(seen.requests)}


def paths_of(entries: Sequence[Entry], of_a_kind: int = OF_A_KIND) -> list[str]:
    """Searches of each kind that people type, each once, in a mixed order."""
    queries = [case.q for case in make(sorted(entries, key=lambda e: (-e.downloads, e.name)), SEED, of_a_kind)]
    queries = list(dict.fromkeys(queries))
    random.Random(SEED).shuffle(queries)
    return [f"{API}/search?{urlencode({'q': q})}" for q in queries]


def distinct(paths: Sequence[str]) -> Measure:
    """Each query once with each of PAGE_SIZES page sizes, which differ from those of other rounds."""

    async def measure(subject: Subject, number: int, seconds: float) -> Numbers:
        first = 20 + PAGE_SIZES * (number + 1)
        asked = [f"{path}&limit={limit}" for limit in range(first, first + PAGE_SIZES) for path in paths]
        numbers = await requested(subject, asked, CLIENTS, seconds)
        await _refuse_degraded(subject, paths[0])
        return numbers

    return measure


def zipf(paths: Sequence[str]) -> Measure:
    """The k-th of the first ZIPF_QUERIES queries is asked 1/k as often as the first one."""
    asked = paths[:ZIPF_QUERIES]
    weights = [1 / rank for rank in range(1, len(asked) + 1)]
    log = random.Random(SEED).choices(asked, weights, k=ZIPF_LENGTH)

    async def measure(subject: Subject, _: int, seconds: float) -> Numbers:
        numbers = await requested(subject, log, CLIENTS, seconds)
        await _refuse_degraded(subject, log[0])
        return numbers

    return measure


async def _refuse_degraded(subject: Subject, path: str) -> None:
    page = (await subject.user.registry.get(path.removeprefix(API))).json
    assert not page["degraded"], f"{subject.name}: Elasticsearch is away"


async def repeated(path: str, subject: Subject, _: int, seconds: float) -> Numbers:
    """One search again and again: what a cached answer costs."""
    return await requested(subject, [path], CLIENTS, seconds)


async def downloads(connections: int, subject: Subject, _: int, seconds: float) -> Numbers:
    """A tarball of 20 kB, counted as usual. The processor time includes counting that happens a moment later."""
    if "tarball" not in subject.kept:
        name = f"{subject.user.username}-small"
        subject.kept["tarball"] = f"{await published(subject.user, name, SMALL)}/1.0.0/tarball"
    async with _settled(subject) as used:
        seen = await load(subject.url, [subject.kept["tarball"]], connections=connections, seconds=seconds)
    return {"per second": seen.per_second, "p95 ms": seen.p95_ms, **used.for_each(seen.requests)}


async def publishes(clients: int, subject: Subject, _: int, seconds: float) -> Numbers:
    """New packages of 20 kB, published by clients that take turns on one event loop."""
    tag = secrets.token_hex(4)
    names = [f"bench-{tag}-{number}" for number in range(int(seconds * PUBLISHES_A_SECOND))]
    waiting = iter([(name, packed(name, "1.0.0", SMALL)) for name in names])
    times: list[float] = []

    async def client(until: float) -> None:
        for name, data in waiting:
            began = time.perf_counter()
            if began >= until:
                return
            answer = await subject.user.put(name, "1.0.0", data=data)
            times.append(time.perf_counter() - began)
            assert answer.status == 201, answer.body

    async with _settled(subject) as used:
        began = time.perf_counter()
        await asyncio.gather(*(client(began + seconds) for _ in range(clients)))
        took = time.perf_counter() - began
    p95 = percentile(sorted(times), 0.95) * 1000
    return {"per second": len(times) / took, "p95 ms": p95, **used.for_each(len(times))}


SETTLE_SECONDS = 3.0


@asynccontextmanager
async def _settled(subject: Subject) -> AsyncIterator[Used]:
    """Measures processor time until the work in the background is done, too."""
    used = Used(subject)
    yield used
    await asyncio.sleep(SETTLE_SECONDS)


def measures(entries: Sequence[Entry], names: Sequence[str]) -> dict[str, Measure]:
    """Those of MEASURES with the given names, ready to run."""
    paths = paths_of(entries) if {"search", "zipf", "hit"}.intersection(names) else []
    made: dict[str, Callable[[], Measure]] = {
        "search": lambda: distinct(paths),
        "zipf": lambda: zipf(paths),
        "hit": lambda: partial(repeated, paths[0]),
        "download": lambda: partial(downloads, 16),
        "download-64": lambda: partial(downloads, 64),
        "publish": lambda: partial(publishes, CLIENTS),
        "publish-1": lambda: partial(publishes, 1),
    }
    return {name: made[name]() for name in names}


MEASURES = ("search", "zipf", "hit", "download", "download-64", "publish", "publish-1")
