"""While Elasticsearch accepts no documents, the consumer waits, /health gives the reason, and no download is lost."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch

from registry.analytics.documents import DOWNLOADS
from registry.elastic import IndexMissing
from registry.errors import SearchUnavailable
from registry.keys import SETTINGS
from registry.search.writes import refusal
from tests.client import Registry
from tests.conftest import MakeRegistry, prompt_background

LIMIT = "cluster.max_shards_per_node"
DOWNLOADED = 100


@pytest.fixture
async def engine(elasticsearch: Any) -> AsyncIterator[AsyncElasticsearch]:
    """A client of Elasticsearch. Its shard limit is reset at the end."""
    async with AsyncElasticsearch(elasticsearch.url, request_timeout=60) as client:
        yield client
        await client.cluster.put_settings(persistent={LIMIT: None})


async def health(registry: Registry) -> tuple[str, dict[str, str]]:
    answer = await registry.get("/health")
    assert answer.status == 200
    return answer.json["status"], answer.json["components"]["search"]


@pytest.fixture
async def registry(make_registry: MakeRegistry) -> AsyncIterator[Registry]:
    """A registry that writes downloads to Elasticsearch at once."""
    registry = await make_registry(with_background=False)
    async with prompt_background(registry.app):
        yield registry


async def test_at_the_shard_limit_downloads_wait_and_are_indexed_after_it_is_raised(
    registry: Registry, engine: AsyncElasticsearch
):
    await (await registry.user()).publish("demo")
    await registry.drain()
    await engine.cluster.put_settings(persistent={LIMIT: 1})
    await asyncio.gather(*(registry.get("/packages/demo/1.0.0/tarball") for _ in range(DOWNLOADED)))
    async with asyncio.timeout(60):
        while DOWNLOADS not in (await health(registry))[1].get("detail", ""):
            await asyncio.sleep(0.1)
    status, component = await health(registry)
    assert (status, component["status"]) == ("degraded", "unhealthy")
    assert DOWNLOADS in component["detail"]
    assert "maximum normal shards open" in component["detail"]
    await engine.cluster.put_settings(persistent={LIMIT: None})
    prefix = registry.app[SETTINGS].search.prefix
    async with asyncio.timeout(60):
        while await indexed(engine, prefix) < DOWNLOADED:
            await asyncio.sleep(0.1)
    assert await indexed(engine, prefix) == DOWNLOADED
    async with asyncio.timeout(60):
        while (await health(registry))[0] != "healthy":
            await asyncio.sleep(0.1)


async def indexed(engine: AsyncElasticsearch, prefix: str) -> int:
    await engine.indices.refresh(index=f"{prefix}{DOWNLOADS}-*")
    # The answer is 503 while the shard of a new index starts.
    answer = await engine.options(ignore_status=503).count(index=f"{prefix}{DOWNLOADS}-*")
    return int(answer.body.get("count", 0))


# Answers of Elasticsearch 9.4.3 to one item of a bulk request.
REFUSED = (
    (400, "document_parsing_exception", "[1:6] failed to parse field [a] of type [ip] in document with id '1'"),
    (400, "mapper_parsing_exception", "failed to parse"),
    (400, "strict_dynamic_mapping_exception", "mapping set to strict, dynamic introduction of [zz] is not allowed"),
    (400, "illegal_argument_exception", 'Document contains at least one immense term in field="k"'),
)
BLOCKED = (
    (400, "validation_exception", "this action would add [1] shards, but this cluster currently has [1]/[1]"),
    (400, "index_closed_exception", "closed"),
    (400, "invalid_index_name_exception", "Invalid index name [T_bad], must be lowercase"),
    (400, "illegal_argument_exception", "unknown setting [index.nonsense]"),
    (403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/8/index write (api)];"),
    (500, "i_o_exception", "No space left on device"),
)
MISSING = (
    (404, "index_not_found_exception", "no such index [x]"),
    (400, "illegal_argument_exception", "no write index is defined for alias [x]"),
)


def test_only_errors_about_a_document_count_as_its_refusal():
    for status, type_, reason in REFUSED:
        assert refusal({"status": status, "error": {"type": type_, "reason": reason}}) == f"{type_}: {reason}"
    for status, type_, reason in BLOCKED:
        with pytest.raises(SearchUnavailable, match="accepts no search documents") as raised:
            refusal({"status": status, "error": {"type": type_, "reason": reason}})
        assert not isinstance(raised.value, IndexMissing)
    for status, type_, reason in MISSING:
        with pytest.raises(IndexMissing):
            refusal({"status": status, "error": {"type": type_, "reason": reason}})
