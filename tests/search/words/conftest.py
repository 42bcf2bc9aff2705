"""A registry with the packages of corpus.py, filled once for each module of tests, because they only search."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.postgres import Postgres
from registry.settings import Settings
from tests.search.conftest import Shelf, opened, shared_registry
from tests.search.words.corpus import PACKAGES


@pytest.fixture(scope="module")
def filled(postgres: Postgres, elasticsearch: Elasticsearch) -> Iterator[Settings]:
    """The settings of a registry with PACKAGES."""
    with shared_registry(postgres, elasticsearch, PACKAGES) as settings:
        yield settings


@pytest.fixture
async def engine(filled: Settings) -> AsyncIterator[Shelf]:
    """The packages, searched with Elasticsearch."""
    async with opened(filled) as shelf:
        yield shelf


@pytest.fixture
async def fallback(filled: Settings) -> AsyncIterator[Shelf]:
    """The same packages, searched with PostgreSQL."""
    async with opened(replace(filled, search=replace(filled.search, url="http://127.0.0.1:9"))) as shelf:
        yield shelf
