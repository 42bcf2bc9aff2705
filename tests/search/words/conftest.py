"""A registry with the packages of corpus.py, filled once for each module of tests, because they only search."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace

import pytest

from registry.db.engine import open_database
from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.postgres import Postgres
from registry.search.index import open_search
from registry.search.rebuild import heal
from registry.settings import Settings
from tests.client import delete_search_indices
from tests.conftest import new_database
from tests.search.conftest import Shelf, search_settings
from tests.search.words.corpus import PACKAGES


async def _fill(shelf: Shelf) -> None:
    await heal(shelf.db, shelf.index)
    for package in PACKAGES:
        await shelf.publish(**package)
    await shelf.drain()


@pytest.fixture(scope="module")
def filled(postgres: Postgres, elasticsearch: Elasticsearch) -> Iterator[Settings]:
    """The settings of a registry with PACKAGES."""
    with new_database(postgres, "synapse") as url:
        settings = replace(Settings.read({"REGISTRY_DB_URL": url}), search=search_settings(elasticsearch.url))

        async def run(step: Callable[[Shelf], Awaitable[None]]) -> None:
            async with open_database(settings.database) as db, open_search(settings.search) as index:
                await step(Shelf(db, index))

        asyncio.run(run(_fill))
        yield settings
        asyncio.run(run(lambda shelf: delete_search_indices(shelf.index)))


@pytest.fixture
async def engine(filled: Settings) -> AsyncIterator[Shelf]:
    """The packages, searched with Elasticsearch."""
    async with open_database(filled.database) as db, open_search(filled.search) as index:
        yield Shelf(db, index)


@pytest.fixture
async def fallback(filled: Settings) -> AsyncIterator[Shelf]:
    """The same packages, searched with PostgreSQL."""
    away = replace(filled.search, url="http://127.0.0.1:9")
    async with open_database(filled.database) as db, open_search(away) as index:
        yield Shelf(db, index)
