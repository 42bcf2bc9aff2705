"""The pages that people see first: how fast the server answers them, and when a browser on a slow line shows them.

The baseline is aiohttp that answers the same HTML from memory. For a browser, the baseline's page has no style sheet,
so it is the earliest moment at which the text can be shown.
"""

import asyncio
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from urllib.parse import quote

import aiohttp
import psycopg2
from playwright.async_api import Browser

from registry.package_format.versions import parse
from tests.bench.catalogue import Entry
from tests.bench.figure import compare
from tests.bench.rivals import rivals
from tests.bench.searches import percentile, query_log
from tests.bench.stack import Stack, bare
from tests.client import tarball
from tests.pages.browser.tabs import running_browser

PACKAGE = "bench-of-many-versions"
VERSIONS = 5_000
ASKED = 200
P95_MS, LCP_MS, SHIFT = 50.0, 1800.0, 0.05
# A slow line and a slow phone: milliseconds of delay, bytes a second, and how many times slower the processor is.
DELAY, DOWN, UP, SLOWER = 150, 1_600_000 / 8, 750_000 / 8, 4
LOADS = 3

_WATCH = """
window.seen = { lcp: 0, shift: 0 };
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.seen.lcp = entry.startTime;
}).observe({ type: "largest-contentful-paint", buffered: true });
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.seen.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


async def pages(stack: Stack, entries: Sequence[Entry]) -> None:
    await _many_versions(stack)
    paths = _paths(entries)
    async with _copies(stack, paths) as baseline:
        for name, addresses in paths.items():
            ours = partial(_p95, stack.url, addresses)
            theirs = partial(_p95, baseline, [f"/bytes/{name}.html"] * len(addresses))
            await compare(f"page {name}, p95", ours, theirs, unit="ms", ours_at_most=P95_MS, packages=stack.packages)
        async with running_browser() as browser:
            for name in ("home", "search", "package"):
                await _slow(browser, stack, name, stack.url + paths[name][0], f"{baseline}/bytes/{name}.html")
            await _beside_rivals(browser, stack, paths)


def _paths(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Addresses of each kind of page. Packages and queries differ, so that no cache answers all."""
    popular = sorted(entries, key=lambda entry: (-entry.downloads, entry.name))
    queries = query_log(entries)
    return {
        "home": ["/"] * ASKED,
        "search": [f"/search?q={quote(q)}" for q in queries[:ASKED]],
        "package": [f"/packages/{quote(entry.name)}" for entry in popular if _is_name(entry.name)][:ASKED],
        "package of 5,000 versions": [f"/packages/{PACKAGE}"] * ASKED,
        "versions of 5,000": [f"/packages/{PACKAGE}/versions"] * ASKED,
    }


def _is_name(name: str) -> bool:
    return name.replace("-", "").isalnum() and name.islower()


async def _p95(url: str, paths: Sequence[str]) -> float:
    """Milliseconds in which 95 of 100 pages are answered to a stranger, one after the other."""
    times = []
    async with aiohttp.ClientSession(headers={"Accept": "text/html", "Accept-Encoding": "gzip"}) as session:
        for path in paths:
            began = time.perf_counter()
            async with session.get(url + path) as answer:
                await answer.read()
                assert answer.status == 200, (path, answer.status)
            times.append((time.perf_counter() - began) * 1000)
    return percentile(sorted(times), 0.95)


@asynccontextmanager
async def _copies(stack: Stack, paths: dict[str, list[str]]) -> AsyncIterator[str]:
    """The baseline server with a copy of one page of each kind."""
    folder = stack.folder / uuid.uuid4().hex
    folder.mkdir()
    for name, (path, *_) in paths.items():
        async with stack.session.get(stack.url + path, headers={"Accept": "text/html"}) as answer:
            await asyncio.to_thread(_without_files, folder / f"{name}.html", await answer.read())
    async with bare(folder) as url:
        yield url


def _without_files(file: Path, page: bytes) -> None:
    """Writes a page without its style sheet, script and icon."""
    lines = [line for line in page.splitlines() if not line.startswith((b"<link", b"<script"))]
    file.write_bytes(b"\n".join(lines))


async def _slow(browser: Browser, stack: Stack, name: str, address: str, baseline: str) -> None:
    shifts: list[float] = []

    async def ours() -> float:
        painted, shift = await shown(browser, address)
        shifts.append(shift)
        return painted

    async def theirs() -> float:
        return (await shown(browser, baseline))[0]

    line = await compare(f"page {name}, shown on a slow line", ours, theirs, unit="ms", ours_at_most=LCP_MS)
    assert max(shifts) <= SHIFT, (line, shifts)


async def shown(browser: Browser, address: str) -> tuple[float, float]:
    """(milliseconds until the largest text or picture was painted, layout shift) of a first visit on a slow line."""
    context = await browser.new_context(viewport={"width": 412, "height": 823})
    page = await context.new_page()
    await page.add_init_script(_WATCH)
    devtools = await context.new_cdp_session(page)
    line = {"offline": False, "latency": DELAY, "downloadThroughput": DOWN, "uploadThroughput": UP}
    await devtools.send("Network.emulateNetworkConditions", line)
    await devtools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    await page.goto(address, wait_until="networkidle")
    await page.wait_for_function("window.seen.lcp > 0")
    seen = await page.evaluate("window.seen")
    await context.close()
    return float(seen["lcp"]), float(seen["shift"])


async def _beside_rivals(browser: Browser, stack: Stack, paths: dict[str, list[str]]) -> None:
    """The package page and the search page beside those of other registries that are installed here."""
    async for rival in rivals(stack.folder):
        for name, theirs in (("package", rival.package), ("search", rival.search)):
            mine = partial(_painted, browser, stack.url + paths[name][0])
            await compare(
                f"page {name}, shown on a slow line, beside {rival.name}", mine, partial(_painted, browser, theirs),
                unit="ms", at_most=1.0,
            )  # fmt: skip


async def _painted(browser: Browser, address: str) -> float:
    return statistics.median([(await shown(browser, address))[0] for _ in range(LOADS)])


async def _many_versions(stack: Stack) -> None:
    """Publishes PACKAGE unless an earlier run did. All versions but the newest are rows without an event."""
    if (await stack.user.registry.get(f"/packages/{PACKAGE}/versions")).status == 200:
        return
    newest = f"{VERSIONS}.0.0"
    readme = "# Many versions\n\n" + "A paragraph of some words that a README has.\n\n" * 40
    fields = {"name": PACKAGE, "version": newest, "description": "Has many versions", "license": "MIT"}
    await stack.user.publish(PACKAGE, newest, data=tarball(fields, {"README.md": readme.encode()}))
    await asyncio.to_thread(_copy_version, stack.settings.database.url, newest)


def _copy_version(db_url: str, newest: str) -> None:
    columns = (
        "package_id, is_prerelease, description, author, license, readme, manifest_text, dependencies_json, "
        "keywords_json, checksum, tarball_path, tarball_size, published_by"
    )
    versions = [parse(f"{number}.0.0") for number in range(1, VERSIONS)]
    with closing(psycopg2.connect(db_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO package_versions (version, canonical, sort_key, {columns}) "
            f"SELECT new.version, new.version, new.sort_key, {columns} FROM package_versions, "
            "unnest(%s, %s) AS new (version, sort_key) WHERE package_id = (SELECT id FROM packages WHERE name = %s) "
            "AND package_versions.version = %s",
            ([each.text for each in versions], [each.sort_key for each in versions], PACKAGE, newest),
        )
