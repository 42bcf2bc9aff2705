"""Documents for dashboards: their shape, their indices, and what happens to those that can't be written."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from elasticsearch import AsyncElasticsearch

import es_mappings
from registry.analytics import consumer, documents
from registry.analytics.documents import DOWNLOADS, EVENTS, Document
from registry.analytics.index import AnalyticsIndex
from registry.db.engine import Database, Statement
from registry.downloads import store
from registry.errors import SearchUnavailable
from registry.events import log as event_log
from registry.events.log import Event
from registry.keys import DB
from tests.client import Registry
from tests.conftest import MakeRegistry, prompt_background
from tests.deploy.kibana_documents import fields_of, get, mapped
from tests.downloads.counts import made_up
from tests.downloads.counts import rows as as_rows

NOON = datetime(2026, 11, 16, 12, tzinfo=UTC)
VERSION = Statement("SELECT id, package_id FROM package_versions LIMIT 1", {})


def document(number: int = 1, at: datetime = NOON, **source: Any) -> Document:
    return Document(DOWNLOADS, f"download-{number}", at, {"@timestamp": at.isoformat(), **source})


def properties(file: str) -> dict[str, str]:
    return mapped(es_mappings.load(file)["template"]["mappings"]["properties"])


async def rows(db: Database) -> list[Any]:
    async with db.read() as conn:
        return await store.read_after(conn, 0, 100)


@pytest.fixture
async def demo(registry: Registry) -> Registry:
    await (await registry.user()).publish("demo")
    return registry


async def test_the_document_of_a_download_has_exactly_the_fields_of_its_template(demo: Registry):
    db = demo.app[DB]
    async with db.transaction() as conn:
        row = await conn.one(VERSION)
        agent = "synapse-cli/2.1.0 (Linux 6.8; x86_64)"
        traits = {"user_agent": agent, "client": "synapse-cli", "system": "Linux", "kind": "human", "country": "DE"}
        store.add(conn, uuid4(), as_rows(made_up(row.id, row.package_id, at=NOON, **traits)))
    made = documents.download((await rows(db))[0], "ada")
    assert (made.index, made.id) == ("registry-downloads-2026.11", made.source["event"]["id"])
    assert fields_of(dict(made.source)) == set(properties("downloads"))
    assert made.source["@timestamp"] == "2026-11-16T12:00:00.000Z"
    expected = {
        "event.outcome": "success", "package.name": "demo", "package.version": "1.0.0", "organization.name": "ada",
        "client.ip": "192.0.2.0", "client.geo.country_iso_code": "DE", "client.user.hash": "0123456789abcdef",
        "user_agent.name": "synapse-cli", "user_agent.version": "2.1.0", "user_agent.os.name": "Linux",
        "user_agent.os.version": "6.8", "user_agent.device.name": "x86_64", "http.response.status_code": 200,
        "http.response.body.bytes": 1000, "url.path": "/api/v1/packages/demo/1.0.0/tarball",
        "registry.client.kind": "human", "registry.unique": True, "file.name": "demo-1.0.0.tar.gz",
    }  # fmt: skip
    assert {field: get(dict(made.source), field) for field in expected} == expected


async def test_the_document_of_a_refused_request_has_no_empty_fields(demo: Registry):
    await (await demo.user()).call("GET", "/packages/demo/9.9.9/tarball", headers={"User-Agent": ""})
    await demo.flush()
    made = dict(documents.download((await rows(demo.app[DB]))[0], None).source)
    assert (get(made, "event.outcome"), get(made, "http.response.status_code")) == ("failure", 404)
    assert (get(made, "package.name"), get(made, "package.version")) == ("demo", "9.9.9")
    for field in ("package.size", "package.checksum", "file.size", "organization", "client.geo", "user_agent.os"):
        assert get(made, field) is None
    assert not _empty(made)


def _empty(value: Any) -> bool:
    """Whether any field is null or empty. Such fields must be left out."""
    return any(map(_empty, value.values())) if isinstance(value, dict) else value in ("", None)


def test_documents_of_events_and_lags_have_exactly_the_fields_of_their_template():
    event = Event(42, "version.deleted", 7, "demo", "1.0.0", 1, {}, NOON)
    made = documents.event(event, "ada")
    published = documents.event(Event(41, "version.published", 7, "demo", "1.0.0", 1, {}, NOON), "ada", "github")
    sample = documents.lag("search", 3, 0.4, NOON)
    hooks = documents.webhooks("failing", 2, NOON)
    fields = set().union(*(fields_of(dict(each.source)) for each in (made, published, sample, hooks)))
    assert fields == set(properties("registry-events"))
    assert fields - fields_of(dict(made.source)) - fields_of(dict(sample.source)) - fields_of(dict(hooks.source)) == {
        "registry.publisher.kind"
    }
    assert (made.id, made.index, sample.index) == ("event-42", "registry-events-2026.11", "registry-events-2026.11")
    assert get(dict(made.source), "event.type") == ["deletion"]
    whole = documents.event(Event(43, "package.deprecated", None, "demo", None, None, {}, NOON), None)
    assert not _empty(dict(whole.source))


async def test_each_month_gets_an_index_with_the_mapping_of_the_template(
    index: AnalyticsIndex, es: AsyncElasticsearch, prefix: str
):
    end = datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC)
    await index.write([document(1, NOON), document(2, end), document(2, end)])
    found = (await es.indices.get_mapping(index=f"{prefix}*")).body
    assert set(found) == {f"{prefix}{DOWNLOADS}-2026.10", f"{prefix}{DOWNLOADS}-2026.11"}
    for each in found.values():
        assert mapped(each["mappings"]["properties"]) == properties("downloads")
    await index.refresh()
    assert (await es.count(index=f"{prefix}{DOWNLOADS}-*"))["count"] == 2


async def test_a_refused_document_does_not_stop_the_others(
    index: AnalyticsIndex, es: AsyncElasticsearch, prefix: str, caplog: pytest.LogCaptureFixture
):
    bad = document(1, client={"ip": "nowhere"})
    await index.write([document(0), bad, document(2)])
    await index.refresh()
    assert (await es.count(index=f"{prefix}{DOWNLOADS}-*"))["count"] == 2
    assert "document for dashboards refused" in caplog.text


async def test_a_write_to_a_read_only_index_fails_and_can_be_repeated(
    index: AnalyticsIndex, es: AsyncElasticsearch, prefix: str
):
    await index.write([document(1)])
    await es.indices.put_settings(index=f"{prefix}*", settings={"index.blocks.write": True})
    with pytest.raises(SearchUnavailable):
        await index.write([document(2)])
    await es.indices.put_settings(index=f"{prefix}*", settings={"index.blocks.write": None})
    await index.write([document(2)])
    await index.refresh()
    assert (await es.count(index=f"{prefix}{DOWNLOADS}-*"))["count"] == 2


async def test_downloads_and_events_are_indexed_once_even_after_a_replay(
    make_registry: MakeRegistry, es: AsyncElasticsearch, prefix: str
):
    registry = await make_registry(REGISTRY_ES_PREFIX=prefix, with_background=False)
    ada = await registry.user()
    await ada.publish("demo")
    await registry.get("/packages/demo/1.0.0/tarball")
    await registry.flush()
    await ada.call("DELETE", "/packages/demo/1.0.0")
    async with prompt_background(registry.app):
        for _ in range(2):
            await handled(registry)
            await es.indices.refresh(index=f"{prefix}registry-*")
            found = await es.search(index=f"{prefix}{EVENTS}-*", sort="event.sequence")
            shown = [
                (get(hit["_source"], "event.action"), get(hit["_source"], "organization.name"))
                for hit in found["hits"]["hits"]
            ]
            actions = ("package.created", "version.published", "version.deleted")
            assert shown == [(action, "ada") for action in actions]
            kinds = [get(hit["_source"], "registry.publisher.kind") for hit in found["hits"]["hits"]]
            assert kinds == [None, "user", None]
            assert (await es.count(index=f"{prefix}{DOWNLOADS}-*"))["count"] == 1
            await consumer.replay(registry.app[DB])


async def handled(registry: Registry) -> None:
    """Returns when both consumers have handled everything."""
    async with asyncio.timeout(30):
        while True:
            async with registry.app[DB].read() as conn:
                lags = {name: behind for name, behind, _ in await consumer.lags(conn)}
            if lags.get(EVENTS) == 0 and lags[DOWNLOADS] == 0:
                return
            await asyncio.sleep(0.05)


async def test_the_lag_of_each_consumer_is_sampled(
    demo: Registry, index: AnalyticsIndex, es: AsyncElasticsearch, prefix: str
):
    await demo.drain()
    await demo.get("/packages/demo/1.0.0/tarball")
    await demo.flush()
    await consumer.sample_lags(demo.app[DB], index)
    await index.refresh()
    found = await es.search(index=f"{prefix}{EVENTS}-*")
    names = {get(hit["_source"], "registry.consumer.name") for hit in found["hits"]["hits"]}
    assert names >= {"search", "registry-downloads", "registry-events"}
    async with demo.app[DB].read() as conn:
        await consumer.replay(demo.app[DB])
        lags = {name: (behind, seconds) for name, behind, seconds in await consumer.lags(conn)}
    assert lags["registry-downloads"][0] == 1
    assert lags["registry-downloads"][1] > 0
    assert lags["search"] == (0, 0.0)


async def test_a_publish_by_a_ci_job_has_the_kind_of_its_publisher(
    demo: Registry, index: AnalyticsIndex, es: AsyncElasticsearch, prefix: str
):
    db = demo.app[DB]
    async with db.transaction() as conn:
        await conn.run(Statement('UPDATE package_versions SET provenance = \'{"kind": "github"}\'', {}))
    async with db.read() as conn:
        await consumer.write_events(db, index, await event_log.read_after(conn, 0, 100))
    await index.refresh()
    found = await es.search(index=f"{prefix}{EVENTS}-*", query={"term": {"registry.publisher.kind": "github"}})
    assert [get(hit["_source"], "event.action") for hit in found["hits"]["hits"]] == ["version.published"]


async def test_the_states_of_webhooks_are_sampled(
    demo: Registry, index: AnalyticsIndex, es: AsyncElasticsearch, prefix: str
):
    states = ("failing_since", "failing_since, disabled_at", "disabled_at")
    async with demo.app[DB].transaction() as conn:
        for number, columns in enumerate(states):
            await conn.run(
                Statement(
                    f"INSERT INTO webhooks (user_id, url, host, scope, events, secret, since_seq, {columns}) "
                    f"SELECT id, 'https://{number}.example/', 'x', 'owner', '{{*}}', 'x', 0"
                    f"{', now()' * len(columns.split(','))} FROM users",
                    {},
                )
            )
    await consumer.sample_webhooks(demo.app[DB], index)
    await index.refresh()
    found = await es.search(index=f"{prefix}{EVENTS}-*")
    shown = {
        hit["_source"]["registry"]["webhooks"]["state"]: hit["_source"]["registry"]["webhooks"]["number"]
        for hit in found["hits"]["hits"]
    }
    assert shown == {"working": 0, "failing": 1, "disabled": 2}


async def test_indices_of_an_older_release_get_the_fields_that_were_added(
    index: AnalyticsIndex, es: AsyncElasticsearch, prefix: str
):
    name = f"{prefix}{EVENTS}-{datetime.now(UTC):%Y.%m}"
    await es.indices.create(index=name, mappings={"dynamic": False, "properties": {"@timestamp": {"type": "date"}}})
    await index.write([documents.webhooks("failing", 2, datetime.now(UTC))])
    await index.refresh()
    assert (await es.count(index=name, query={"term": {"registry.webhooks.state": "failing"}}))["count"] == 1


async def test_retention_removes_old_months_and_creates_the_next_partition(
    demo: Registry, index: AnalyticsIndex, es: AsyncElasticsearch, prefix: str
):
    db, today = demo.app[DB], datetime.now(UTC)
    old = today - timedelta(days=100)
    async with db.transaction() as conn:
        row = await conn.one(VERSION)
        store.add(conn, uuid4(), as_rows(*(made_up(row.id, row.package_id, at=at) for at in (old, today))))
    await index.write([document(1, old), document(2, today), Document(EVENTS, "event-1", old, {})])
    await consumer.retain(db, index, timedelta.max)
    assert len(await rows(db)) == 2
    await consumer.retain(db, index, timedelta(days=60))
    kept = {f"{prefix}{DOWNLOADS}-{today:%Y.%m}", f"{prefix}{EVENTS}-{old:%Y.%m}"}
    assert set((await es.indices.get(index=f"{prefix}*")).body) == kept
    assert [row.downloaded_at.date() for row in await rows(db)] == [today.date()]
    following = store.next_month(date(today.year, today.month, 1))
    async with db.read() as conn:
        name = f"downloads_{following:%Y_%m}"
        assert await conn.value(Statement(f"SELECT to_regclass('{name}')::text", {})) == name
    assert (await demo.get("/packages/demo")).json["total_downloads"] == 2
