"""A real Elasticsearch in which each test has its own index prefix."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from elasticsearch import AsyncElasticsearch

from registry.analytics.index import AnalyticsIndex, open_analytics
from registry.setting_parts import SearchSettings
from registry.settings import Settings


@pytest.fixture
def prefix() -> str:
    return f"t{uuid4().hex[:12]}-"


@pytest.fixture
async def es(elasticsearch: Any, prefix: str) -> AsyncIterator[AsyncElasticsearch]:
    """A client of Elasticsearch. The test's indices and templates are deleted at the end."""
    async with AsyncElasticsearch(elasticsearch.url, request_timeout=60) as client:
        yield client
        for name in (await client.indices.get(index=f"{prefix}*")).body:
            await client.indices.delete(index=name)
        await client.indices.delete_index_template(name=f"{prefix}*")


@pytest.fixture
def own(elasticsearch: Any, prefix: str) -> SearchSettings:
    return Settings.read({"REGISTRY_ES_URL": elasticsearch.url, "REGISTRY_ES_PREFIX": prefix}).search


@pytest.fixture
async def index(own: SearchSettings, es: AsyncElasticsearch) -> AsyncIterator[AnalyticsIndex]:
    async with open_analytics(own) as opened:
        assert opened is not None
        yield opened
