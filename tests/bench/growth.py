"""How each figure grows with the number of packages, and with the number of versions of one: `make growth`.

Every answer is timed by turns with a bare aiohttp server's, so that machines of unlike speed can be compared: what is
fitted is the multiple of the bare answer's time. One client, medians; wrk where it says requests/s.
"""

import argparse
import asyncio
import json
import math
import random
import re
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
from elasticsearch import AsyncElasticsearch

from registry.package_format.names import PATTERN
from registry.search.index import SearchIndex
from registry.search.query import build
from registry.search.request import SearchRequest
from tests.bench.catalogue import Entry, read_catalogue
from tests.bench.reads import SMALL, VERSIONS, packed, published, throughput
from tests.bench.relevance_corpus import of_debian
from tests.bench.searches import CLIENTS, query_log
from tests.bench.stack import Stack, bare, brought_up
from tests.client import API, User

SIZES = (1_000, 52_582, 1_000_000)
MANY = 5_000
ASKED, PUBLISHED, SEARCHED = 200, 60, 240
MANY_OWNER = "growth-owner"
PLAIN = "/bytes/page"

Call = Callable[[], Awaitable[None]]
Figures = dict[str, float]
"""Multiples of the bare answer's time, by the name of the figure."""


def part_of(entries: Sequence[Entry], size: int) -> tuple[Sequence[Entry], int]:
    """(entries, copies of them) that make at least `size` packages."""
    return (entries[:size], 1) if size <= len(entries) else (entries, math.ceil(size / len(entries)))


class Measuring:
    """Times calls by turns with the bare server's answer and prints a line for each figure."""

    def __init__(self, stack: Stack, plain: str) -> None:
        self.stack = stack
        self.plain = plain
        self.figures: Figures = {}

    def get(self, path: str, **params: str) -> Call:
        async def call() -> None:
            async with self.stack.session.get(f"{self.stack.url}{path}", params=params) as answer:
                body = await answer.read()
            assert answer.status == 200, body

        return call

    async def time(self, figure: str, calls: Iterable[Call], **more: Any) -> None:
        times, plain = [], []
        for call in calls:
            times.append(await _timed(call))
            plain.append(await _timed(self._plain))
        self.note(figure, statistics.median(times), statistics.median(plain), **more)

    def note(self, figure: str, seconds: float, plain: float, **more: Any) -> None:
        ratio = self.figures[figure] = seconds / plain
        line = {"figure": figure, "packages": self.stack.packages, "ms": round(seconds * 1000, 3)}
        print(json.dumps({**line, "bare_ms": round(plain * 1000, 3), "ratio": round(ratio, 2), **more}), flush=True)

    async def per_second(self, figure: str, path: str) -> None:
        """wrk's requests a second, as the time of one."""
        ours = await throughput(self.stack.url, path)()
        plain = await throughput(self.plain.removesuffix(PLAIN), PLAIN)()
        self.note(f"{figure}, wrk", 1 / ours, 1 / plain, requests_per_second=round(ours))

    async def _plain(self) -> None:
        async with self.stack.session.get(self.plain) as answer:
            await answer.read()


async def _timed(call: Call) -> float:
    began = time.perf_counter()
    await call()
    return time.perf_counter() - began


async def measured(stack: Stack, queries: Sequence[str]) -> Figures:
    page = await published(stack.user, stack.name("page"), SMALL, VERSIONS)
    async with stack.session.get(stack.url + page) as answer:
        (stack.folder / "page").write_bytes(await answer.read())
    async with bare(stack.folder) as url:
        of = Measuring(stack, f"{url}{PLAIN}")
        await reading(of, page)
        await searching(of, queries)
        await publishing(of, page)
        await listing(of)
        await many_versions(of)
        return of.figures


async def reading(of: Measuring, page: str) -> None:
    names = await asyncio.to_thread(some_names, of.stack)
    await of.time("package, another each time", [of.get(f"{API}/packages/{name}") for name in names])
    await of.time("package of 20 versions", [of.get(page)] * ASKED)
    await of.per_second("package of 20 versions", page)
    await of.time("version, another each time", [of.get(f"{page}/{n}.0.0") for n in range(1, VERSIONS + 1)])
    await of.time("tarball, another each time", [of.get(f"{API}/packages/{name}/1.0.0/tarball") for name in names])
    await of.time("tarball 20 kB", [of.get(f"{page}/1.0.0/tarball")] * ASKED)


def some_names(stack: Stack) -> list[str]:
    """Packages from all over the table, no two the same, that have not been asked for."""
    with closing(psycopg2.connect(stack.settings.database.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT max(id) FROM packages WHERE latest_version_id IS NOT NULL")
        last = cursor.fetchone()[0]
        ids = random.sample(range(1, last + 1), min(last, 4 * ASKED))
        cursor.execute("SELECT name FROM packages WHERE id = ANY(%s) AND download_count > 0", (ids,))
        names = [name for (name,) in cursor if re.fullmatch(PATTERN, name)]
    random.shuffle(names)
    return names[:ASKED]


async def searching(of: Measuring, queries: Sequence[str]) -> None:
    stack = of.stack
    for q in queries:
        await of.get(f"{API}/search", q=q)()  # warm
    await of.time("search", [of.get(f"{API}/search", q=q) for q in queries])
    async with AsyncElasticsearch(stack.settings.search.url, request_timeout=30) as es:
        max_popularity = await SearchIndex(es, stack.settings.search.prefix).max_popularity()
        took = []
        for q in queries:
            body = build(SearchRequest.parse([("q", q)]), max_popularity)
            took.append((await es.search(index=f"{stack.settings.search.prefix}packages", body=body))["took"])
    line = {"figure": "search, Elasticsearch's took", "packages": stack.packages}
    print(json.dumps({**line, "ms": statistics.median(took), "mean_ms": round(statistics.mean(took), 2)}), flush=True)
    beginnings = sorted({q[:3] for q in queries if len(q) >= 3})
    await of.time("suggest", [of.get(f"{API}/search/suggest", q=q) for q in beginnings])


def publish(user: User, name: str, version: str) -> Call:
    body = packed(name, version, SMALL)

    async def call() -> None:
        answer = await user.put(name, version, data=body)
        assert answer.status == 201, answer.body

    return call


async def publishing(of: Measuring, page: str) -> None:
    user, tag = of.stack.user, secrets.token_hex(4)
    await of.time("publish a package", [publish(user, f"growth-{tag}-{n}", "1.0.0") for n in range(PUBLISHED)])
    name = page.rpartition("/")[2]
    await of.time("publish a version", [publish(user, name, f"100.{n}.0") for n in range(PUBLISHED)])


async def listing(of: Measuring) -> None:
    for sort in ("name", "downloads", "recently-updated"):
        path = f"{API}/packages"
        await of.time(f"list by {sort}", [of.get(path, sort=sort)] * 20)
        pages = []
        cursor: Mapping[str, str] = {}
        for _ in range(20):
            async with of.stack.session.get(f"{of.stack.url}{path}", params={"sort": sort, **cursor}) as answer:
                cursor = {"cursor": (await answer.json())["next_cursor"]}
            pages.append(of.get(path, sort=sort, **cursor))
        await of.time(f"list by {sort}, by cursor", pages)
    await of.time("stats", [of.get(f"{API}/stats")] * 20)


async def many_versions(of: Measuring) -> None:
    """A package of MANY versions, which the data folder keeps."""
    stack = of.stack
    user = await owner(stack)
    name = f"growth-{MANY}"
    page = f"{API}/packages/{name}"
    answer = await user.registry.get(f"/packages/{name}/versions")
    there = set(answer.json["versions"] if answer.status == 200 else ())
    missing = iter([version for n in range(MANY) if (version := f"1.{n}.0") not in there])

    async def publisher() -> None:
        for version in missing:
            made = await user.put(name, version)
            assert made.status == 201, made.body

    await asyncio.gather(*(publisher() for _ in range(CLIENTS)))
    of_many = f"of {MANY:,} versions"
    await of.time(f"version {of_many}", [of.get(f"{page}/1.{n}.0") for n in range(0, MANY, MANY // ASKED)])
    await of.time(f"tarball {of_many}", [of.get(f"{page}/1.{n}.0/tarball") for n in range(0, MANY, MANY // ASKED)])
    await of.time(f"search for the package {of_many}", [of.get(f"{API}/search", q=name)] * 20)
    versions = [f"2.{int(time.time())}.{n}" for n in range(PUBLISHED)]
    await of.time(f"publish a version {of_many}", [publish(user, name, version) for version in versions])
    await of.time(f"package {of_many}, which returns them", [of.get(page)] * 20)


async def owner(stack: Stack) -> User:
    """Who owns the package of many versions, in this run and the next."""
    registry = stack.user.registry
    user = {"username": MANY_OWNER, "password": "Growth-of-1000-figures"}
    await registry.call("POST", "/auth/register", json=user)
    answer = await registry.call("POST", "/auth/login", json=user)
    assert answer.status == 200, answer.body
    return User(registry, 0, MANY_OWNER, answer.json["token"])


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The slope of log y over log x by least squares."""
    xs, ys = ([math.log(value) for value in values] for values in zip(*points, strict=True))
    return statistics.linear_regression(xs, ys).slope


def report(by_size: Mapping[int, Figures]) -> None:
    """The exponent of every figure, beside that of log n over the same sizes."""
    sizes = sorted(by_size)
    of_log = exponent([(size, math.log(size)) for size in sizes])
    for figure in by_size[sizes[0]]:
        grown = exponent([(size, by_size[size][figure]) for size in sizes])
        line = {"exponent of": figure, "is": round(grown, 3), "log n": round(of_log, 3), "met": grown <= of_log}
        print(json.dumps(line), flush=True)


async def growth(options: argparse.Namespace) -> None:
    entries = read_catalogue(options.tsv) if options.tsv else of_debian()
    queries = query_log(entries[: min(options.sizes)])[:SEARCHED]
    by_size: dict[int, Figures] = {}
    for size in options.sizes:
        part, copies = part_of(entries, size)
        began = time.perf_counter()
        async with brought_up(options.data.with_name(f"{options.data.name}-{size}"), part, copies) as stack:
            up = round(time.perf_counter() - began)
            print(json.dumps({"packages": stack.packages, "loaded and up after s": up}), flush=True)
            by_size[stack.packages] = await measured(stack, queries)
    if len(by_size) > 1:
        report(by_size)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description=__doc__)
    parser.add_argument("--tsv", type=Path, help="a catalogue of packages; else those of Debian's index")
    parser.add_argument("--data", type=Path, default=Path("build/bench"), help="each size has a folder named after it")
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES)
    asyncio.run(growth(parser.parse_args()))


if __name__ == "__main__":
    main()
