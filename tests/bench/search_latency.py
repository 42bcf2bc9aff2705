"""Measures how long a search takes over HTTP, compared with the same queries sent to Elasticsearch directly.

    python -m tests.bench.search_latency --tsv FILE[.gz] [--api http://127.0.0.1:8080] [--count 60]

Load the catalogue of FILE first (`make catalogue`), and turn the rate limits off. The queries are of all kinds, in a
mixed order. First each query goes to the API and then, with the same body, to Elasticsearch. Then eight clients send
queries to the API at once. Prints one JSON line for each of these two.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
from elasticsearch import AsyncElasticsearch

from registry.search.index import SearchIndex
from registry.search.query import build
from registry.search.request import SearchRequest
from tests.bench.catalogue import read_catalogue, settings_of_what_runs
from tests.bench.relevance_queries import Case, make

SEED = 1
CLIENTS = 8


async def over_http(session: aiohttp.ClientSession, q: str) -> float:
    """Milliseconds of one search."""
    began = time.perf_counter()
    async with session.get("search", params={"q": q}) as response:
        page = await response.json()
    assert response.status == 200, page
    assert not page["degraded"]
    return (time.perf_counter() - began) * 1000


async def by_turns(session: aiohttp.ClientSession, settings: Any, queries: Sequence[str]) -> dict[str, Any]:
    api, direct, took = [], [], []
    async with AsyncElasticsearch(settings.url, request_timeout=30) as es:
        max_popularity = await SearchIndex(es, settings.prefix).max_popularity()
        for q in queries:
            body = build(SearchRequest.parse([("q", q)]), max_popularity)
            api.append(await over_http(session, q))
            began = time.perf_counter()
            answer = await es.search(index=f"{settings.prefix}packages", body=body)
            direct.append((time.perf_counter() - began) * 1000)
            took.append(answer["took"])
    ratio = round(statistics.median(api) / statistics.median(direct), 2)
    ratio_to_took = round(statistics.median(api) / statistics.median(took), 2)
    return {
        "figure": "search_latency", "clients": 1, **spread(api),
        "elasticsearch_took_median_ms": statistics.median(took),
        "ratio_to_took": ratio_to_took, "ratio_to_elasticsearch_client": ratio,
    }  # fmt: skip


async def at_once(session: aiohttp.ClientSession, queries: Sequence[str]) -> dict[str, Any]:
    waiting, times = iter(queries), []

    async def client() -> None:
        for q in waiting:
            times.append(await over_http(session, q))  # noqa: PERF401 - it must be awaited one by one

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    per_second = round(len(times) / (time.perf_counter() - began), 1)
    return {"figure": "search_latency", "clients": CLIENTS, **spread(times), "searches_per_second": per_second}


def spread(times: Sequence[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "searches": len(ordered),
        "median_ms": round(statistics.median(ordered), 1),
        "p95_ms": round(ordered[int(len(ordered) * 0.95)], 1),
    }


async def measure(options: argparse.Namespace) -> None:
    entries = sorted(read_catalogue(options.tsv), key=lambda entry: (-entry.downloads, entry.name))
    cases: list[Case] = make(entries, SEED, options.count)
    random.Random(SEED).shuffle(cases)
    queries = [case.q for case in cases]
    settings = settings_of_what_runs()
    async with aiohttp.ClientSession(f"{options.api}/api/v1/") as session:
        for q in queries:
            await over_http(session, q)  # warm
        print(json.dumps(await by_turns(session, settings.search, queries)))
        print(json.dumps(await at_once(session, queries)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure how long searches take.")
    parser.add_argument("--tsv", type=Path, required=True)
    parser.add_argument("--api", default="http://127.0.0.1:8080")
    parser.add_argument("--count", type=int, default=60, help="queries of a kind")
    asyncio.run(measure(parser.parse_args()))
