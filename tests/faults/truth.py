"""Holds a registry that rests for a moment against the model of what must be true."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from registry.db.engine import Database, Statement
from registry.downloads import leftovers
from registry.events import log as event_log
from registry.search.counts.refresh import refresh_all
from registry.search.index import open_search
from registry.search.indexing import CONSUMER
from registry.search.reconcile import reconcile
from registry.settings import Settings
from tests.faults.load import Load
from tests.faults.model import LIVE, Package, Version
from tests.service import run_command

SETTLE_SECONDS = 60.0
DOCTOR_SECONDS = 600.0
AT_ONCE = 8

_EVENTS = Statement(
    "SELECT count(*) FILTER (WHERE type <> 'package.created') AS changes, count(*) AS count, "
    "coalesce(max(seq), 0) AS last FROM events",
    {},
)
_PUBLISHED_TWICE = Statement(
    "SELECT package, version FROM events WHERE type = 'version.published' GROUP BY 1, 2 HAVING count(*) > 1", {}
)
_COUNTS = Statement(
    """
    SELECT (SELECT count(*) FROM package_versions) AS versions,
           (SELECT coalesce(sum(download_count), 0) FROM package_versions) AS of_versions,
           (SELECT coalesce(sum(download_count), 0) FROM packages) AS of_packages,
           (SELECT coalesce(sum(count), 0) FROM download_days) AS of_days,
           (SELECT coalesce(sum(count), 0) FROM registry_days) AS of_registry,
           (SELECT count(*) FROM downloads WHERE package_version_id IS NOT NULL) AS of_rows
    """,
    {},
)
_FAILURES = Statement("SELECT document, reason FROM index_failures LIMIT 5", {})


# The counts of downloads and clients are in the index once both consumers have handled all downloads.
_UNCOUNTED = Statement(
    """
    SELECT (SELECT coalesce(max(id), 0) FROM downloads) > coalesce(min(seq), 0) FROM consumers
    WHERE name IN ('clients', 'counts')
    """,
    {},
)


async def verify(load: Load, db: Database, *, sample: int | None = None) -> None:
    """Adds to the problems of `load`, under which nothing may be under way, what is not as the model has it.

    Looks at `sample` packages (None: at all of them) one by one, and at everything as far as totals tell.
    """
    await _settled(load, db)
    await _check_totals(load, db)
    packages = load.model.packages
    if sample is not None and len(packages) > sample:
        packages = random.Random(len(packages)).sample(packages, sample)
    await _each(packages, lambda package: _check_package(load, package))
    await _settled(load, db)  # the checks have downloaded tarballs
    await _check_index(load, db)


async def examine(load: Load) -> None:
    """Adds to the problems of `load` what the doctor finds, who reads every tarball."""
    status, out, error = await run_command(
        load.fleet.folder, "doctor", "--json", "--deep", seconds=DOCTOR_SECONDS, **load.fleet.environ
    )
    wrong = [check for check in json.loads(out)["checks"] if check["found"] or check["problem"]] if out else error
    if status or wrong:
        load.problem(f"the doctor ends with {status}: {wrong}")


async def _settled(load: Load, db: Database) -> None:
    """Waits for what follows on its own: the index, and downloads that wait in files."""
    deadline = time.monotonic() + SETTLE_SECONDS
    spool = load.fleet.folder / "SPOOL_PATH"
    while True:
        # First the files: their downloads may be in the database a moment later.
        waiting = await asyncio.to_thread(lambda: len(leftovers.waiting(spool)))
        async with db.read() as conn:
            behind = await event_log.last_seq(conn) - await event_log.position(conn, CONSUMER)
            uncounted = await conn.value(_UNCOUNTED)
        if not behind and not waiting and not uncounted:
            return
        if time.monotonic() > deadline:
            load.problem(f"after {SETTLE_SECONDS:.0f} s the index is {behind} events behind, {waiting} batches wait")
            return
        await asyncio.sleep(0.2)


async def _check_totals(load: Load, db: Database) -> None:
    async with db.read(snapshot=True) as conn:
        events = await conn.one(_EVENTS)
        twice = await conn.all(_PUBLISHED_TWICE)
        counts = await conn.one(_COUNTS)
        failures = await conn.all(_FAILURES)
    if events.count != events.last or events.changes != load.model.events:
        load.problem(f"{events.changes} of {events.count} events up to {events.last}, but {load.model.events} changes")
    if twice:
        load.problem(f"published twice: {twice[:5]}")
    if failures:
        load.problem(f"documents that the engine refused: {failures}")
    versions = sum(1 for _ in load.model.versions())
    if counts.versions != versions:
        load.problem(f"{counts.versions} versions, but {versions} were published")
    least, most = load.model.downloads()
    totals = set(counts[1:])
    if len(totals) > 1 or not least <= counts.of_registry <= most:
        load.problem(f"{counts} downloads counted, but {least} were answered and {most - least} are in doubt")


async def _check_package(load: Load, package: Package) -> None:
    answer = await load.ask("check", "GET", f"/packages/{package.name}/versions")
    assert answer is not None
    expected = [version.text for version in sorted(package.live, key=lambda version: version.number)]
    if answer.status != (200 if expected else 404) or (expected and answer.json["versions"] != expected):
        load.problem(f"{package.name}: versions {answer.body!r}, not {expected}")
    for version in package.versions:
        await _check_version(load, version)
    page = await load.ask("check", "GET", "/search", params={"q": package.name})
    assert page is not None
    found = {result["name"]: result["version"] for result in page.json["results"]}
    if page.json["degraded"]:
        load.problem(f"{package.name}: search is degraded")
    latest = package.latest
    if package.is_found_by_name and latest and found.get(package.name) != latest.text:
        load.problem(f"{package.name}: found in version {found.get(package.name)}, not {latest.text}")
    if latest is None and package.name in found:
        load.problem(f"{package.name}: found though all is deleted")


async def _check_version(load: Load, version: Version) -> None:
    if version.state != LIVE:
        await load.look(version)
        return
    answer = await load.ask("check", "GET", version.path)
    assert answer is not None
    if answer.status != 200:
        load.problem(f"{version.path}: read answered {answer.status}")
        return
    least, most = version.downloads, version.downloads + version.doubtful
    if not least <= answer.json["downloads"] <= most:
        load.problem(f"{version.path}: {answer.json['downloads']} downloads, but {least} to {most} were answered")
    if answer.json["yanked"] != version.yanked:
        load.problem(f"{version.path}: yanked is {answer.json['yanked']}")
    await load.download(version, whole=True)


async def _check_index(load: Load, db: Database) -> None:
    if differences := await index_differences(db, load.fleet.environ):
        load.problem(f"the index differs: {differences}")


async def index_differences(db: Database, environ: Mapping[str, str]) -> dict[str, int]:
    """How many documents are not as PostgreSQL has them, by kind; empty when none is."""
    async with open_search(Settings.read(environ).search) as index:
        # Counts come into the index some seconds later.
        await refresh_all(db, index)
        found = await reconcile(db, index)
    return {what: count for what, count in found.items() if count}


async def _each(packages: Iterable[Package], check: Callable[[Package], Awaitable[None]]) -> None:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(package: Package) -> None:
        async with slots:
            await check(package)

    async with asyncio.TaskGroup() as tasks:
        for package in packages:
            tasks.create_task(one(package))
