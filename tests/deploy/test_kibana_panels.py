"""Runs every panel, control and listing on a real Elasticsearch and compares the results with expected figures."""

import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

import es_mappings
from deploy.kibana.generate import OUTPUT
from tests.deploy.kibana_documents import (
    PACKAGE,
    SINCE,
    UNTIL,
    Document,
    downloads,
    fields_of,
    get,
    mapped,
    registry_events,
)
from tests.deploy.kibana_expected import PANELS, Shown
from tests.deploy.kibana_queries import Asking, Json, kuery

TEMPLATES = {"registry-downloads": "downloads", "registry-events": "registry-events"}


def objects(type_: str) -> dict[str, Json]:
    lines = OUTPUT.read_text(encoding="utf-8").splitlines()
    return {one["id"]: one for one in map(json.loads, lines) if one["type"] == type_}


PATTERNS = {id_: view["attributes"]["title"] for id_, view in objects("index-pattern").items()}
LENS = [
    (dashboard, panel["panelIndex"], panel["embeddableConfig"]["attributes"])
    for dashboard, one in objects("dashboard").items()
    for panel in json.loads(one["attributes"]["panelsJSON"])
    if panel["type"] == "lens"
]


@dataclass(frozen=True)
class Indexed:
    """The documents and the Elasticsearch that holds them."""

    asking: Asking
    downloads: list[Document]
    events: list[Document]

    def shown(self, dashboard: str) -> Shown:
        """The dashboard's time range and filters. For the drill-down, a package is selected."""
        chosen = [d for d in self.downloads if dashboard == "registry-overview" or get(d, "package.name") == PACKAGE]
        return Shown(
            now=[document for document in chosen if _time(document) >= SINCE],
            before=[document for document in chosen if _time(document) < SINCE],
            events=[event for event in self.events if _time(event) >= SINCE],
        )

    def of(self, dashboard: str) -> Asking:
        return (
            self.asking if dashboard == "registry-overview" else replace(self.asking, chosen={"package.name": PACKAGE})
        )


def _time(document: Document) -> datetime:
    return datetime.fromisoformat(document["@timestamp"])


@pytest.fixture(scope="module")
def prefix(elasticsearch: Any) -> Iterator[str]:
    """The generated documents, in monthly indices with the real templates."""
    prefix = f"t{uuid4().hex[:12]}-"
    try:
        for name, file in TEMPLATES.items():
            template = es_mappings.load(file)
            template["index_patterns"] = [f"{prefix}{pattern}" for pattern in template["index_patterns"]]
            call("PUT", f"{elasticsearch.url}/_index_template/{prefix}{name}", json.dumps(template))
        lines = _bulk(f"{prefix}registry-downloads", downloads()) + _bulk(f"{prefix}registry-events", registry_events())
        answer = call("POST", f"{elasticsearch.url}/_bulk?refresh=true", "".join(lines))
        assert not answer["errors"], answer["items"][:3]
        yield prefix
    finally:
        if made := ",".join(call("GET", f"{elasticsearch.url}/{prefix}*")):
            call("DELETE", f"{elasticsearch.url}/{made}")
        call("DELETE", f"{elasticsearch.url}/_index_template/{prefix}*")


def call(method: str, url: str, body: str | None = None) -> Any:
    data = None if body is None else body.encode()
    headers = {"Content-Type": "application/x-ndjson" if "_bulk" in url else "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as response:
        return json.load(response)


def _bulk(name: str, documents: list[Document]) -> list[str]:
    lines: list[Json] = []
    for document in documents:
        month = document["@timestamp"][:7].replace("-", ".")
        lines += [{"create": {"_index": f"{name}-{month}", "_id": document["event"]["id"]}}, document]
    return [f"{json.dumps(line)}\n" for line in lines]


@pytest.fixture
async def indexed(elasticsearch: Any, prefix: str) -> AsyncIterator[Indexed]:
    async with aiohttp.ClientSession() as session:
        asking = Asking(session, elasticsearch.url, prefix, SINCE, UNTIL)
        yield Indexed(asking, downloads(), registry_events())


async def test_every_panel_shows_the_figures_of_the_documents(indexed: Indexed):
    assert {panel for _, panel, _ in LENS} == set(PANELS)
    for dashboard, panel, attributes in LENS:
        expected = PANELS[panel](indexed.shown(dashboard))
        assert expected, f"{panel} has nothing to show: the documents are too few"
        view = attributes["references"][0]["id"]
        found = await indexed.of(dashboard).panel(attributes, PATTERNS[view])
        assert sorted(found, key=str) == sorted(expected, key=str), panel


async def test_panels_of_the_whole_registry_ignore_filters(indexed: Indexed):
    by_mirrors = replace(indexed.asking, chosen={"registry.client.kind": "mirror"})
    for panel in ("overview-publishes", "overview-publishers", "overview-webhooks", "overview-lag"):
        (attributes,) = [attributes for _, name, attributes in LENS if name == panel]
        everything = await indexed.asking.panel(attributes, PATTERNS["registry-events"])
        assert await by_mirrors.panel(attributes, PATTERNS["registry-events"]) == everything != []


async def test_every_control_offers_the_values_of_its_field(indexed: Indexed):
    for dashboard in objects("dashboard").values():
        controls = json.loads(dashboard["attributes"]["controlGroupInput"]["panelsJSON"])
        for control in controls.values():
            field = control["explicitInput"]["fieldName"]
            body = {"size": 0, "aggs": {"values": {"terms": {"field": field, "size": 100}}}}
            answer = await indexed.asking.search(PATTERNS["registry-downloads"], body)
            offered = {bucket["key"] for bucket in answer["aggregations"]["values"]["buckets"]}
            assert offered == {get(document, field) for document in indexed.downloads} - {None} != set()


async def test_every_listing_shows_its_documents_newest_first(indexed: Indexed):
    events = [event for event in indexed.events if get(event, "event.kind") == "event"]
    expected = {"registry-recent-events": events, "registry-recent-downloads": indexed.downloads}
    for id_, search in objects("search").items():
        source = json.loads(search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
        ((field, direction),) = search["attributes"]["sort"]
        body = {"size": 1000, "query": {"bool": {"filter": kuery(source["query"])}}, "sort": [{field: direction}]}
        answer = await indexed.asking.search(PATTERNS[search["references"][0]["id"]], body)
        found = [hit["_id"] for hit in answer["hits"]["hits"]]
        newest = sorted(expected[id_], key=_time, reverse=True)
        assert set(found) == {document["event"]["id"] for document in newest}
        assert found[0] == newest[0]["event"]["id"]


def test_each_month_has_an_index_with_the_fields_of_the_template(elasticsearch: Any, prefix: str):
    for name, file in TEMPLATES.items():
        properties = es_mappings.load(file)["template"]["mappings"]["properties"]
        made = call("GET", f"{elasticsearch.url}/{prefix}{name}-*/_mapping")
        assert {index[-7:] for index in made} == {"2026.09", "2026.10", "2026.11"}
        for index in made.values():
            assert mapped(index["mappings"]["properties"]) == mapped(properties)


@pytest.mark.parametrize(("file", "make"), [("downloads", downloads), ("registry-events", registry_events)])
def test_documents_have_every_field_of_the_template_and_no_other(file: str, make: Any):
    properties = es_mappings.load(file)["template"]["mappings"]["properties"]
    assert set().union(*map(fields_of, make())) == set(mapped(properties))


@pytest.mark.parametrize("file", TEMPLATES.values())
def test_the_readme_lists_every_field_of_the_template_with_its_type(file: str):
    readme = Path(es_mappings.__file__).with_name("README.md").read_text(encoding="utf-8")
    heading = {"downloads": "## One download\n", "registry-events": "## One registry event\n"}[file]
    lines = readme.split(heading)[1].split("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("| `")]
    properties = es_mappings.load(file)["template"]["mappings"]["properties"]
    assert {row[1].strip("`"): row[2] for row in rows} == mapped(properties)


@pytest.mark.parametrize("file", TEMPLATES.values())
def test_templates_need_no_optional_module_of_elasticsearch(file: str):
    types = set(mapped(es_mappings.load(file)["template"]["mappings"]["properties"]).values())
    assert types <= {"keyword", "date", "long", "double", "ip", "boolean"}
