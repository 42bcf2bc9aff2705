"""A registry that was used for a while and is now idle."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from ephemeral_port_reserve import reserve

from registry.analytics import consumer as analytics
from registry.db.engine import Database, Statement
from registry.doctor.check import Registry
from registry.doctor.examine import opened
from registry.downloads.clients import count as clients
from registry.events.announcements import Announcements
from registry.keys import DB
from registry.search import consumer
from registry.search.counts import refresh as counts
from registry.search.fallback import consumer as words
from registry.server import serving
from registry.settings import Settings
from registry.tasks import running
from registry.worker import CHANNELS
from tests.client import Registry as Client
from tests.conftest import ITERATIONS, SECRET, prompt_background

_BEHIND = Statement(
    """
    SELECT count(*) FROM (VALUES ('search', false), ('words', false), ('registry-events', false),
                                  ('registry-downloads', true), ('clients', true), ('counts', true))
                                  AS n (name, follows_downloads)
    LEFT JOIN consumers c USING (name)
    WHERE coalesce(c.seq, 0) < CASE WHEN follows_downloads THEN (SELECT max(id) FROM downloads)
                                    ELSE (SELECT max(seq) FROM events) END
    """,
    {},
)


@pytest.fixture
def environ(database_url: str, elasticsearch: Any, index_prefix: str, tmp_path: Path) -> dict[str, str]:
    return {
        "REGISTRY_ENV": "testing",
        "REGISTRY_PORT": str(reserve()),
        "REGISTRY_DB_URL": database_url,
        "REGISTRY_ES_URL": elasticsearch.url,
        "REGISTRY_ES_PREFIX": index_prefix,
        "REGISTRY_STORAGE_PATH": str(tmp_path / "STORAGE_PATH"),
        "REGISTRY_SPOOL_PATH": str(tmp_path / "SPOOL_PATH"),
        "REGISTRY_SECRET_KEY": SECRET,
        "REGISTRY_PBKDF2_ITERATIONS": ITERATIONS,
        "REGISTRY_RATE_LIMITS": "off",
    }


@pytest.fixture
async def settings(environ: dict[str, str]) -> Settings:
    """The settings of a registry that was used for a while and is stopped."""
    read = Settings.read(environ)
    async with (
        serving(read, with_background=False) as app,
        prompt_background(app),
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        client = Client(app, session, f"http://127.0.0.1:{environ['REGISTRY_PORT']}")
        await _use(client)
        await _caught_up(app[DB])
    return read


async def catch_up(registry: Registry) -> None:
    """Runs the consumers until they have handled everything."""
    assert registry.dashboards is not None
    hub = Announcements(registry.db, CHANNELS)
    tasks = {
        "announcements": hub.listen,
        "dashboards": partial(analytics.follow, registry.db, hub, registry.dashboards, gather_seconds=0.05),
        "index": partial(consumer.follow, registry.db, hub, registry.index),
        "words": partial(words.follow, registry.db, hub),
        "clients": partial(clients.follow, registry.db, hub),
        "counts": partial(counts.follow, registry.db, hub, registry.index),
    }
    async with running(tasks):
        await _caught_up(registry.db)


async def _caught_up(db: Database) -> None:
    async with asyncio.timeout(120):
        while True:
            async with db.read() as conn:
                if not await conn.value(_BEHIND):
                    return
            await asyncio.sleep(0.05)


async def _use(client: Client) -> None:
    ada = await client.user("ada", admin=True)
    for name in ("alpha", "beta-two", "gamma"):
        for version in ("1.0.0", "1.1.0", "2.0.0-rc.1"):
            await ada.publish(name, version, keywords=["kept"])
    answers = [
        await ada.call("DELETE", "/packages/gamma/1.0.0"),
        await ada.call("DELETE", "/packages/beta-two/1.0.0"),
        await ada.call("POST", "/packages/beta-two/1.0.0/restore"),
        await ada.call("PATCH", "/packages/alpha/1.0.0", json={"yanked": True, "reason": "slow"}),
        await ada.call("PATCH", "/packages/beta-two/1.1.0", json={"yanked": True}),
        await ada.call("PATCH", "/packages/beta-two/1.1.0", json={"yanked": False}),
        await ada.call("PATCH", "/packages/gamma", json={"deprecated": "use alpha"}),
        await ada.call("DELETE", "/packages/beta-two/2.0.0-rc.1"),
    ]
    assert all(answer.status in (200, 204) for answer in answers), answers
    for path in ("alpha/1.1.0", "alpha/1.1.0", "alpha/1.0.0", "beta-two/1.0.0"):
        assert (await client.get(f"/packages/{path}/tarball")).status == 200
    assert (await ada.call("GET", "/packages/none/1.0.0/tarball")).status == 404
    await client.flush()


@pytest.fixture
async def resting(settings: Settings) -> AsyncIterator[Registry]:
    """The resources that the doctor checks. The pauses are short, because no work is in progress."""
    async with opened(settings, lambda _: None) as registry:
        yield replace(registry, settle_seconds=0.05, sweep_settle=timedelta(0))
