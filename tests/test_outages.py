"""A server goes away and comes back: what clients see meanwhile, and that nothing is lost."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.devstack.distribution import elasticsearch_home
from registry.devstack.elasticsearch import Elasticsearch
from tests.client import tarball
from tests.conftest import MakeRegistry
from tests.servers import cache_folder


@pytest.fixture
def own_elasticsearch(stack_folder: Path, java_home: Path) -> Iterator[Elasticsearch]:
    """A node that the test may stop and start."""
    home = elasticsearch_home(cache_folder(os.environ))
    with Elasticsearch(home, java_home, stack_folder / "outages", brief=True, environ=os.environ) as server:
        yield server


async def test_without_elasticsearch_all_but_relevance_goes_on_and_afterwards_everything_is_found(
    own_elasticsearch: Elasticsearch, make_registry: MakeRegistry
):
    registry = await make_registry(REGISTRY_ES_URL=own_elasticsearch.url)
    ada = await registry.user("ada")
    await ada.publish("written-before", "1.0.0")
    assert await registry.search("written") == ["written-before"]

    await asyncio.to_thread(own_elasticsearch.stop)
    data = tarball(name="written-meanwhile", version="1.0.0", description="An outage")
    assert (await ada.put("written-meanwhile", "1.0.0", data=data)).status == 201
    assert (await registry.get("/packages/written-meanwhile/1.0.0/tarball")).body == data
    meanwhile = await registry.get("/search", params={"q": "written"})
    assert meanwhile.status == 200
    assert meanwhile.json["degraded"] is True
    assert {result["name"] for result in meanwhile.json["results"]} == {"written-before", "written-meanwhile"}
    health = await registry.get("/health")
    assert (health.status, health.json["status"]) == (200, "degraded")

    await asyncio.to_thread(own_elasticsearch.start)
    async with asyncio.timeout(30):
        while (page := (await registry.get("/search", params={"q": "written"})).json)["degraded"] or page["total"] < 2:
            await asyncio.sleep(0.1)
    assert {result["name"] for result in page["results"]} == {"written-before", "written-meanwhile"}
    async with asyncio.timeout(60):  # each consumer clears its failure at its next attempt
        while (await registry.get("/health")).json["status"] != "healthy":
            await asyncio.sleep(0.1)
