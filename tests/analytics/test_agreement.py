"""PostgreSQL, Elasticsearch, statistics and dashboards agree on ten thousand downloads while processes are killed."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from elasticsearch import AsyncElasticsearch
from elasticsearch.helpers import async_scan
from ephemeral_port_reserve import reserve

from deploy.kibana.generate import OUTPUT
from registry.analytics import consumer as analytics
from registry.analytics.documents import DOWNLOADS
from registry.db.engine import Database, Row, Statement
from registry.downloads import agents, leftovers, store
from registry.downloads.keys import RECORDER
from registry.downloads.store import Download
from registry.events import log as event_log
from registry.keys import DB, SETTINGS
from registry.server import serving
from registry.settings import Settings, environment
from tests.client import Registry
from tests.conftest import ITERATIONS, SECRET
from tests.deploy.kibana_documents import Document, get
from tests.deploy.kibana_expected import PANELS, Shown
from tests.deploy.kibana_queries import Asking
from tests.downloads.counts import made_up
from tests.service import serving_process
from tests.until import until

TOTAL = 10_000
TENTH = TOTAL // 10
# (User-Agent, and the expected kind, client and system).
CLIENTS = [
    ('pip/25.0 {"ci": null, "cpu": "x86_64", "system": {"name": "Linux", "release": "6.1"}}', "human", "pip", "Linux"),
    ('pip/24.2 {"ci": true, "system": {"name": "Darwin", "release": "24.1"}}', "ci", "pip", "macOS"),
    ("npm/10.8.2 node/v20.11.1 linux x64 workspaces/false ci/github-actions", "ci", "npm", "Linux"),
    ("synapse-cli/2.1.0 (Windows 11; x86_64)", "human", "synapse-cli", "Windows"),
    ("bandersnatch/6.5.0", "mirror", "bandersnatch", ""),
    ("Renovate/38.0.0", "bot", "Renovate", ""),
    ("curl/8.9.1", "unknown", "curl", ""),
]
VERSIONS = [("alpha", "1.0.0"), ("alpha", "1.1.0"), ("beta", "2.0.0"), ("gamma", "0.1.0")]
COUNTRIES = ["DE", "FR", "JP", ""]
IDS = Statement("SELECT id, package_id, tarball_size FROM package_versions ORDER BY id", {})
EVENTS = Statement("SELECT * FROM downloads", {})
CURSOR = Statement("SELECT coalesce(max(seq), 0) FROM consumers WHERE name = 'registry-downloads'", {})
LAST = Statement("SELECT coalesce(max(id), 0) FROM downloads", {})


@pytest.fixture
def environ(elasticsearch: Any, database_url: str, prefix: str, tmp_path: Any) -> dict[str, str]:
    return {
        "REGISTRY_ENV": "testing",
        "REGISTRY_PORT": str(reserve()),
        "REGISTRY_DB_URL": database_url,
        "REGISTRY_ES_URL": elasticsearch.url,
        "REGISTRY_ES_PREFIX": prefix,
        "REGISTRY_STORAGE_PATH": str(tmp_path / "packages"),
        "REGISTRY_SPOOL_PATH": str(tmp_path / "spool"),
        "REGISTRY_SECRET_KEY": SECRET,
        "REGISTRY_PBKDF2_ITERATIONS": ITERATIONS,
        "REGISTRY_RATE_LIMITS": "off",
        "REGISTRY_TRUSTED_PROXIES": "127.0.0.0/8",
        "REGISTRY_COUNTRY_HEADER": "X-Country",
    }


@pytest.fixture
async def web(environ: dict[str, str]) -> AsyncIterator[Registry]:
    """The service without background work, which runs in processes that the test kills."""
    async with (
        serving(Settings.read(environ), with_background=False) as app,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16)) as session,
    ):
        yield Registry(app, session, f"http://127.0.0.1:{environ['REGISTRY_PORT']}")


@asynccontextmanager
async def worker(environ: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker process. Leaving the block kills it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "registry", "worker", env={**environment(), **environ}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def killed_downloads(web: Registry, environ: dict[str, str], folder: Path, numbers: list[int]) -> None:
    """Downloads from another process, and kills it before PostgreSQL has counted any of these downloads.

    PostgreSQL may count some later, because it does not notice the death while it waits for a lock. Then the process
    that takes over the journal sends them a second time.
    """
    spool = web.app[SETTINGS].limits.spool_path
    own_port = {name: value for name, value in environ.items() if name != "REGISTRY_PORT"}
    async with serving_process(folder, "registry", "serve", "--web-only", **own_port) as process:
        other = Registry(web.app, web.session, process.url)
        async with web.app[DB].transaction() as conn:
            await store.lock(conn)
            await asyncio.gather(*(_get(other, number) for number in numbers))
            await process.kill()
            assert leftovers.waiting(spool)
    await until(lambda: not leftovers.waiting(spool))


async def downloads(web: Registry, environ: dict[str, str], folder: Path, ids: list[Row], numbers: range) -> None:
    """Makes a tenth of the downloads at a process that is killed. Passes the others to the recorder, as handlers do."""
    await killed_downloads(web, environ, folder, [number for number in numbers if number % TENTH < TENTH // 10])
    for start in range(numbers.start, numbers.stop, 500):
        some = range(start, min(start + 500, numbers.stop))
        rest = [_made(ids, number) for number in some if number % TENTH >= TENTH // 10]
        await asyncio.gather(*(web.app[RECORDER].record(each) for each in rest))
    await web.flush()


async def _get(web: Registry, number: int) -> None:
    name, version = VERSIONS[number % len(VERSIONS)]
    headers = {
        "User-Agent": CLIENTS[number % len(CLIENTS)][0],
        "X-Forwarded-For": f"203.0.113.{number % 50}",
        "X-Country": COUNTRIES[number % len(COUNTRIES)],
    }
    answer = await web.get(f"/packages/{name}/{version}/tarball", headers=headers)
    assert answer.status == 200


def _made(ids: list[Row], number: int) -> Download:
    row, agent = ids[number % len(VERSIONS)], CLIENTS[number % len(CLIENTS)][0]
    parsed = agents.parse(agent)
    return made_up(
        row.id,
        row.package_id,
        user_agent=agent,
        client_hash=f"{number % 50:016x}",
        kind=parsed.kind,
        client=parsed.name,
        system=parsed.system,
        country=COUNTRIES[number % len(COUNTRIES)],
        rule=parsed.rule,
        bytes=row.tarball_size,
    )


async def figure(db: Database, stmt: Statement) -> int:
    async with db.read() as conn:
        return int(await conn.value(stmt))


async def caught_up(db: Database) -> None:
    async with asyncio.timeout(120):
        while await figure(db, CURSOR) < await figure(db, LAST):
            await asyncio.sleep(0.05)


async def moved_on(db: Database, before: int) -> None:
    async with asyncio.timeout(60):
        while await figure(db, CURSOR) <= before:
            await asyncio.sleep(0.01)


async def found(es: AsyncElasticsearch, prefix: str) -> list[Document]:
    await es.indices.refresh(index=f"{prefix}{DOWNLOADS}-*")
    return [hit["_source"] async for hit in async_scan(es, index=f"{prefix}{DOWNLOADS}-*")]


async def by(web: Registry, group: str) -> Counter[str]:
    answer = await web.get("/stats", params={"group_by": group})
    counts: Counter[str] = Counter()
    for point in answer.json["series"]["points"]:
        counts[point["group"]] += point["downloads"]
    return counts


async def test_ten_thousand_downloads_are_counted_exactly_everywhere(
    web: Registry, environ: dict[str, str], es: AsyncElasticsearch, prefix: str, tmp_path: Path
):
    db, since = web.app[DB], datetime.now(UTC)
    ada = await web.user()
    for name, version in VERSIONS:
        await ada.publish(name, version)
    async with db.read() as conn:
        ids = await conn.all(IDS)
    killed, share = 0, TOTAL // 4
    for part in range(3):
        # The worker is killed as soon as it has saved a cursor. Some later downloads may be written, but not saved.
        await downloads(web, environ, tmp_path, ids, range(part * share, (part + 1) * share))
        cursor = await figure(db, CURSOR)
        async with worker(environ) as process:
            await moved_on(db, cursor)
            process.kill()
            killed += await process.wait() == -9
        assert cursor < await figure(db, CURSOR) < await figure(db, LAST), "the worker was killed too late"
    await downloads(web, environ, tmp_path, ids, range(3 * share, TOTAL))
    refused = await ada.call("GET", "/packages/alpha/9.9.9/tarball")
    await web.flush()
    assert (killed, refused.status) == (3, 404)
    async with worker(environ):
        await caught_up(db)
        await agree(web, es, prefix, since)
        await analytics.replay(db)
        assert await figure(db, CURSOR) < await figure(db, LAST)
        await caught_up(db)
        await agree(web, es, prefix, since)


async def agree(web: Registry, es: AsyncElasticsearch, prefix: str, since: datetime) -> None:
    clients = [CLIENTS[number % len(CLIENTS)] for number in range(TOTAL)]
    versions = Counter(VERSIONS[number % len(VERSIONS)] for number in range(TOTAL))
    expected = {
        "kind": Counter(kind for _, kind, _, _ in clients),
        "client": Counter(client for _, _, client, _ in clients),
        "os": Counter(system for _, _, _, system in clients),
        "country": Counter(COUNTRIES[number % len(COUNTRIES)] for number in range(TOTAL)),
    }
    async with web.app[DB].read() as conn:
        rows = await conn.all(EVENTS)
        # Downloads and replays append no events.
        assert await event_log.last_seq(conn) == len(VERSIONS) + len({name for name, _ in VERSIONS})
    documents = await found(es, prefix)
    assert len(rows) == len(documents) == TOTAL + 1
    served = [document for document in documents if get(document, "event.outcome") == "success"]
    columns = {"kind": "kind", "client": "client", "os": "system", "country": "country"}
    fields = {
        "kind": "registry.client.kind",
        "client": "user_agent.name",
        "os": "user_agent.os.name",
        "country": "client.geo.country_iso_code",
    }
    for group, counts in expected.items():
        assert Counter(getattr(row, columns[group]) for row in rows if row.status == 200) == counts
        assert Counter(get(document, fields[group]) or "" for document in served) == counts
        assert await by(web, group) == counts
    assert Counter((get(d, "package.name"), get(d, "package.version")) for d in served) == versions
    unique = sum(row.is_unique for row in rows)
    assert sum(get(document, "registry.unique") for document in served) == unique
    stats = (await web.get("/stats", params={"interval": "day"})).json
    assert (stats["series"]["downloads"], stats["series"]["unique"]) == (TOTAL, unique)
    assert stats["packages"]["downloads"] == TOTAL
    for name in {name for name, _ in VERSIONS}:
        of_package = (await web.get(f"/packages/{name}/stats")).json
        assert of_package["total_downloads"] == sum(versions[key] for key in versions if key[0] == name)
    await panels_agree(documents, es, prefix, since)


async def panels_agree(documents: list[Document], es: AsyncElasticsearch, prefix: str, since: datetime) -> None:
    """Every panel of downloads on the overview shows the figures that the documents have."""
    objects = [json.loads(line) for line in OUTPUT.read_text(encoding="utf-8").splitlines()]
    patterns = {one["id"]: one["attributes"]["title"] for one in objects if one["type"] == "index-pattern"}
    [overview] = [one for one in objects if one["id"] == "registry-overview"]
    asked = 0
    url = next(iter(es.transport.node_pool.all())).base_url
    until = datetime.now(UTC) + timedelta(minutes=1)
    async with aiohttp.ClientSession() as session:
        asking = Asking(session, url, prefix, since - timedelta(minutes=1), until)
        for panel in json.loads(overview["attributes"]["panelsJSON"]):
            attributes = panel["embeddableConfig"].get("attributes", {})
            if panel["type"] != "lens" or patterns[attributes["references"][0]["id"]] != "registry-downloads-*":
                continue
            expected = PANELS[panel["panelIndex"]](Shown(now=documents, before=[], events=[]))
            shown = await asking.panel(attributes, "registry-downloads-*")
            assert sorted(shown, key=str) == sorted(expected, key=str) != [], panel["panelIndex"]
            asked += 1
    assert asked > 10
