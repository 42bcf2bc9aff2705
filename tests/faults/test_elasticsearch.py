"""Elasticsearch behind a spoiled wire: it takes no writes, refuses bulks, is silent. Publishing never notices."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
import pytest

from registry.devstack.elasticsearch import Elasticsearch
from registry.elastic import open_client
from registry.keys import DB, SETTINGS
from registry.search.counts.refresh import refresh_all
from registry.search.index import open_search
from registry.search.reconcile import reconcile
from registry.settings import Settings
from tests.client import Registry, User, tarball
from tests.conftest import MakeRegistry
from tests.downloads.counts import counted
from tests.faults import ALL
from tests.faults.toxic import Fate, Link, Toxic, answer, tcp, toxic

HEAD = "X-Elastic-Product: Elasticsearch\r\n"
FULL = {"type": "es_rejected_execution_exception", "reason": "rejected"}
REJECTED = answer(
    429,
    "Too Many Requests",
    orjson.dumps({"error": FULL, "status": 429}),
    "application/json",
    HEAD,
)


def rejecting_bulks(link: Link, sent: bytes) -> Fate | bytes:
    return REJECTED if b"/_bulk" in sent.partition(b"\r\n")[0] else Fate.PASS


def rejecting_documents(link: Link, sent: bytes) -> Fate | bytes:
    """As a node whose queue of writes is full: the bulk is answered 200, and each document in it 429."""
    head, _, body = sent.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    if b"/_bulk" not in first:
        return Fate.PASS
    [length] = [int(line.partition(b":")[2]) for line in lines if line.lower().startswith(b"content-length:")]
    if len(body) < length:
        return Fate.KEEP
    actions = [line for line in map(orjson.loads, body.splitlines()) if line.keys() <= {"index", "delete"}]
    items = [{kind: {"status": 429, "error": FULL}} for action in actions for kind in action]
    told = orjson.dumps({"took": 1, "errors": True, "items": items})
    return answer(200, "OK", told, "application/json", HEAD)


@pytest.fixture
async def wire(elasticsearch: Elasticsearch) -> AsyncIterator[Toxic]:
    async with toxic(tcp(int(elasticsearch.url.rpartition(":")[2]))) as wire:
        yield wire


@pytest.fixture
async def registry(wire: Toxic, make_registry: MakeRegistry) -> Registry:
    return await make_registry(REGISTRY_ES_URL=f"http://127.0.0.1:{wire.port}")


@pytest.fixture
async def ada(registry: Registry) -> User:
    ada = await registry.user("ada")
    await ada.publish("written-before")
    await registry.drain()
    return ada


@asynccontextmanager
async def rejected(wire: Toxic, settings: Settings) -> AsyncIterator[None]:
    wire.judge = rejecting_bulks
    yield


@asynccontextmanager
async def documents_rejected(wire: Toxic, settings: Settings) -> AsyncIterator[None]:
    wire.judge = rejecting_documents
    yield


@asynccontextmanager
async def silent(wire: Toxic, settings: Settings) -> AsyncIterator[None]:
    wire.silent = True
    yield


@asynccontextmanager
async def read_only(wire: Toxic, settings: Settings) -> AsyncIterator[None]:
    """What the engine does by itself when its disk is nearly full."""
    async with open_client(settings.search) as client:
        assert client is not None
        es = client.options(request_timeout=60)
        for value in (True, None):
            blocks = {"index.blocks.read_only_allow_delete": value}
            await es.indices.put_settings(index=f"{settings.search.prefix}*", settings=blocks)
            if value:
                yield


@pytest.mark.parametrize("fault", [rejected, read_only, silent, *([documents_rejected] if ALL else [])])
async def test_publishes_and_downloads_never_notice_and_afterwards_all_is_found(
    fault: Callable[..., Awaitable[None]], wire: Toxic, ada: User
):
    registry = ada.registry
    async with fault(wire, registry.app[SETTINGS]):
        for number in range(4):
            name = f"written-meanwhile-{number}"
            data = tarball(name=name, version="1.0.0", description="An outage")
            published, page = await asyncio.gather(
                ada.put(name, "1.0.0", data=data), registry.get("/search", params={"q": "written"})
            )
            assert published.status == 201
            assert page.status == 200
            assert "written-before" in {result["name"] for result in page.json["results"]}
            assert page.json["degraded"] or fault is not silent
            assert (await registry.get(f"/packages/{name}/1.0.0/tarball")).body == data
        assert (await ada.call("DELETE", "/packages/written-meanwhile-0/1.0.0")).status == 204
        if fault in (rejected, documents_rejected):
            async with asyncio.timeout(20):
                while not wire.spoiled:
                    await asyncio.sleep(0.05)
    wire.heal()
    await registry.drain()
    async with asyncio.timeout(20):
        while (page := (await registry.get("/search", params={"q": "written"})).json)["degraded"]:
            await asyncio.sleep(0.1)
    assert {result["name"] for result in page["results"]} == {
        "written-before",
        *(f"written-meanwhile-{number}" for number in (1, 2, 3)),
    }
    assert await counted(registry) == 4
    async with open_search(registry.app[SETTINGS].search) as index:
        await refresh_all(registry.app[DB], index)  # at once
        found = await reconcile(registry.app[DB], index)
    assert not any(found.values()), found
