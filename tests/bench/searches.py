"""Searching with a mixed log of queries, beside the same bodies sent straight to Elasticsearch."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from elasticsearch import AsyncElasticsearch

from registry.search.index import SearchIndex
from registry.search.query import build
from registry.search.request import SearchRequest
from tests.bench.catalogue import Entry
from tests.bench.figure import compare
from tests.bench.relevance_queries import make
from tests.bench.stack import Stack

CLIENTS = 8
OF_A_KIND = 60
SEED = 1

Ask = Callable[[str], Awaitable[None]]


def query_log(entries: Sequence[Entry]) -> list[str]:
    """Some of each kind of query that people type, in a mixed order."""
    queries = [case.q for case in make(sorted(entries, key=lambda e: (-e.downloads, e.name)), SEED, OF_A_KIND)]
    random.Random(SEED).shuffle(queries)
    return queries


async def times_of(ask: Ask, queries: Sequence[str], clients: int) -> tuple[float, list[float]]:
    """(seconds in all, seconds of each query, ascending) when so many clients ask at once."""
    waiting, times = iter(queries), []

    async def client() -> None:
        for q in waiting:
            began = time.perf_counter()
            await ask(q)
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - began, sorted(times)


def percentile(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


async def search(stack: Stack, entries: Sequence[Entry]) -> None:
    queries, prefix = query_log(entries), stack.settings.search.prefix
    async with AsyncElasticsearch(stack.settings.search.url, request_timeout=30) as es:
        max_popularity = await SearchIndex(es, prefix).max_popularity()
        bodies = {q: build(SearchRequest.parse([("q", q)]), max_popularity) for q in queries}

        async def direct(q: str) -> None:
            await es.search(index=f"{prefix}packages", body=bodies[q])

        ask = over_http(stack)
        for way in (ask, direct):
            await times_of(way, queries, CLIENTS)  # warm
        p95: dict[Ask, list[float]] = {ask: [], direct: []}

        async def throughput(way: Ask) -> float:
            seconds, times = await times_of(way, queries, CLIENTS)
            p95[way].append(percentile(times, 0.95) * 1000)
            return len(queries) / seconds

        await compare(
            "search", lambda: throughput(ask), lambda: throughput(direct), unit="searches/s", at_least=0.70,
            packages=stack.packages, clients=CLIENTS,
        )  # fmt: skip
        kept = {way: iter(list(times)) for way, times in p95.items()}

        async def slowest(way: Ask) -> float:
            return next(kept[way])

        await compare("search, p95", lambda: slowest(ask), lambda: slowest(direct), unit="ms", at_most=1.3)


def over_http(stack: Stack) -> Ask:
    async def ask(q: str) -> None:
        async with stack.session.get(f"{stack.url}/api/v1/search", params={"q": q}) as answer:
            page = await answer.json()
        assert answer.status == 200, page
        assert not page["degraded"]

    return ask
