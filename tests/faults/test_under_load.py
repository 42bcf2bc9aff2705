"""Servers that go away while users are at work: nothing that was answered is lost, and all is found afterwards.

Only with REGISTRY_FAULTS=all; the soak does the same for as long as one likes.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from registry.db import migrate
from registry.db.engine import open_database
from registry.devstack.distribution import elasticsearch_home
from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.postgres import Postgres
from registry.settings import Settings
from tests.conftest import ITERATIONS, SECRET
from tests.faults.disk import filled, mounted
from tests.faults.fleet import Fleet
from tests.faults.load import Load
from tests.faults.soak import Faults
from tests.faults.truth import examine, verify
from tests.servers import cache_folder
from tests.service import command_environment

BEFORE_SECONDS, FULL_SECONDS, AWAY_SECONDS = 5.0, 20.0, 60.0
ROOM = 600 << 20


@pytest.fixture(scope="module")
def own_elasticsearch(stack_folder: Path, java_home: Path) -> Iterator[Elasticsearch]:
    home = elasticsearch_home(cache_folder(os.environ))
    with Elasticsearch(home, java_home, stack_folder / "under-load-es", brief=True, environ=os.environ) as server:
        yield server


@contextlib.asynccontextmanager
async def at_work(folder: Path, postgres: Postgres, elasticsearch: Elasticsearch) -> AsyncIterator[Load]:
    """Users at work on two processes; what must be true is looked at when the block is over."""
    environ = {
        "REGISTRY_DB_URL": postgres.url(),
        "REGISTRY_ES_URL": elasticsearch.url,
        "REGISTRY_ES_PREFIX": f"{folder.name}-",
        "REGISTRY_SECRET_KEY": SECRET,
        "REGISTRY_PBKDF2_ITERATIONS": ITERATIONS,
        "REGISTRY_RATE_LIMITS": "off",
        "REGISTRY_LOG_LEVEL": "warning",
    }
    settings = Settings.read(command_environment(folder, environ))
    await asyncio.to_thread(migrate.upgrade, settings.database)
    async with open_database(settings.database) as db, Fleet(folder, 2, environ) as fleet:
        load = Load(fleet, 5)
        async with load.running(writers=3, readers=6, rate=40):
            await asyncio.sleep(BEFORE_SECONDS)
            yield load
            await asyncio.sleep(BEFORE_SECONDS)
            async with load.paused():
                await verify(load, db)
                await examine(load)
        assert load.problems == []
        assert load.done["publish PUT"] > 0
        assert load.model.downloads()[0] > 0


async def test_a_registry_in_use_has_nothing_for_the_doctor(
    tmp_path: Path, stack_folder: Path, own_elasticsearch: Elasticsearch
):
    folder = tmp_path / "in-use"
    folder.mkdir()
    with Postgres(stack_folder / "in-use", environ=os.environ) as postgres:
        async with at_work(folder, postgres, own_elasticsearch) as load:
            await examine(load)
            assert load.problems == []


async def test_postgresql_restarted_and_killed(tmp_path: Path, stack_folder: Path, own_elasticsearch: Elasticsearch):
    with Postgres(stack_folder / "restarted", environ=os.environ) as postgres:
        folder = tmp_path / "restarted"
        (folder / "postgres").parent.mkdir()
        (folder / "postgres").symlink_to(stack_folder / "restarted")  # where the faults look for its process
        async with at_work(folder, postgres, own_elasticsearch) as load:
            faults = Faults(load, postgres, own_elasticsearch, random.Random(5))
            for fault in (faults.stop_postgresql, faults.kill_postgresql, faults.stop_postgresql):
                await fault()
                await asyncio.sleep(BEFORE_SECONDS)
        assert sum(load.refused.values()) > 0


async def test_the_disk_of_postgresql_is_full(tmp_path: Path, stack_folder: Path, own_elasticsearch: Elasticsearch):
    """It refuses writes or ends itself; with room again, an operator starts it."""
    disk, folder = stack_folder / "full", tmp_path / "full"
    disk.mkdir()
    folder.mkdir()
    with mounted(disk, str(ROOM)), Postgres(disk / "data", environ=os.environ) as postgres:
        async with at_work(folder, postgres, own_elasticsearch) as load:
            load.fleet.database.began()
            with filled(disk):
                await asyncio.sleep(FULL_SECONDS)
            await asyncio.to_thread(postgres.stop)
            await asyncio.to_thread(postgres.start)
            load.fleet.database.ended()
        assert sum(load.refused.values()) > 0


async def test_elasticsearch_is_away_for_a_minute(tmp_path: Path, stack_folder: Path, own_elasticsearch: Elasticsearch):
    """Nobody is refused."""
    folder = tmp_path / "away"
    folder.mkdir()
    with Postgres(stack_folder / "away", environ=os.environ) as postgres:
        async with at_work(folder, postgres, own_elasticsearch) as load:
            load.fleet.search.began()
            await asyncio.to_thread(own_elasticsearch.stop)
            await asyncio.sleep(AWAY_SECONDS)
            await asyncio.to_thread(own_elasticsearch.start)
            load.fleet.search.ended()
        assert not load.refused
