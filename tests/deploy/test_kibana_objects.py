"""The committed saved objects: up to date, in the shape that Kibana accepts, and with valid references."""

import json
import re
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest

import es_mappings
from deploy.kibana.generate import OUTPUT, main, ndjson, saved_objects
from tests.deploy.kibana_documents import mapped

Json = dict[str, Any]

OBJECTS: list[Json] = [json.loads(line) for line in OUTPUT.read_text(encoding="utf-8").splitlines()]
ENVELOPE = {"attributes", "coreMigrationVersion", "id", "managed", "references", "type", "typeMigrationVersion"}
# Kibana refuses objects of a later version than its own. 8.19 and every 9.x accept these.
LATEST = {"index-pattern": (8, 0, 0), "search": (7, 9, 3), "dashboard": (8, 9, 0)}
# The attributes of each type. Kibana refuses any other attribute of a dashboard.
ATTRIBUTES = {
    "index-pattern": {
        "title", "name", "timeFieldName", "allowNoIndex", "fields", "sourceFilters", "fieldFormatMap", "fieldAttrs",
        "runtimeFieldMap",
    },
    "search": {
        "title", "description", "columns", "sort", "grid", "hideChart", "isTextBasedQuery", "timeRestore",
        "kibanaSavedObjectMeta",
    },
    "dashboard": {
        "title", "description", "panelsJSON", "optionsJSON", "timeRestore", "timeFrom", "timeTo", "refreshInterval",
        "kibanaSavedObjectMeta", "controlGroupInput", "version", "hits",
    },
}  # fmt: skip
VISUALIZATIONS = {"lnsMetric", "lnsDatatable", "lnsPie", "lnsXY"}
SERIES = {"bar_stacked", "bar_horizontal", "line", "area_percentage_stacked"}
LAYER_REFERENCE = "indexpattern-datasource-layer-"
FIELDS = {
    name: {"___records___": "records", **mapped(es_mappings.load(file)["template"]["mappings"]["properties"])}
    for name, file in (("registry-downloads", "downloads"), ("registry-events", "registry-events"))
}
# The field types that each operation supports, and its required parameters.
OPERATIONS: dict[str, tuple[set[str], set[str]]] = {
    "count": ({"records"}, {"emptyAsNull", "format"}),
    "sum": ({"long", "double"}, {"emptyAsNull", "format"}),
    "max": ({"long", "double"}, {"emptyAsNull", "format"}),
    "unique_count": ({"keyword", "ip"}, {"emptyAsNull", "format"}),
    "last_value": ({"date"}, {"sortField", "showArrayValues"}),
    "date_histogram": ({"date"}, {"interval", "includeEmptyRows", "dropPartials"}),
    "terms": ({"keyword", "long"}, {"size", "orderBy", "orderDirection", "otherBucket", "missingBucket"}),
}


def of_type(type_: str) -> list[Json]:
    return [one for one in OBJECTS if one["type"] == type_]


def panels_of(dashboard: Json) -> list[Json]:
    return list(json.loads(dashboard["attributes"]["panelsJSON"]))


def lens_panels() -> list[tuple[Json, Json]]:
    """(dashboard, panel) of each Lens panel."""
    return [(one, panel) for one in of_type("dashboard") for panel in panels_of(one) if panel["type"] == "lens"]


def layer_of(panel: Json) -> Json:
    (layer,) = panel["embeddableConfig"]["attributes"]["state"]["datasourceStates"]["formBased"]["layers"].values()
    return dict(layer)


def test_the_committed_file_is_what_the_generator_writes(tmp_path: Path):
    written = tmp_path / "again.ndjson"
    subprocess.run(
        [sys.executable, "-m", "deploy.kibana.generate", "--output", str(written)],
        cwd=OUTPUT.parents[2],
        check=True,
        timeout=60,
    )
    assert written.read_bytes() == OUTPUT.read_bytes()


def test_a_prefix_changes_only_the_data_views(tmp_path: Path):
    written = tmp_path / "staging.ndjson"
    main(["--prefix", "staging-", "--output", str(written)])
    changed = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
    titles = [one["attributes"]["title"] for one in changed if one["type"] == "index-pattern"]
    assert titles == ["staging-registry-downloads-*", "staging-registry-events-*"]
    assert ndjson(changed).replace("staging-", "") == OUTPUT.read_text(encoding="utf-8")


def test_each_line_is_an_object_in_the_format_of_an_export():
    assert OUTPUT.read_bytes().endswith(b"}\n")
    assert len(OBJECTS) == len(saved_objects())
    for one in OBJECTS:
        assert set(one) == ENVELOPE
        assert set(one["attributes"]) == ATTRIBUTES[one["type"]]
        assert one["coreMigrationVersion"] == "8.8.0"
        assert tuple(map(int, one["typeMigrationVersion"].split("."))) <= LATEST[one["type"]]


def test_ids_are_stable_and_titles_are_unique():
    assert [(one["type"], one["id"]) for one in OBJECTS] == [
        ("index-pattern", "registry-downloads"),
        ("index-pattern", "registry-events"),
        ("search", "registry-recent-events"),
        ("search", "registry-recent-downloads"),
        ("dashboard", "registry-overview"),
        ("dashboard", "registry-package"),
    ]
    assert [one["attributes"]["title"] for one in of_type("dashboard")] == ["Registry overview", "Package drill-down"]


def test_every_reference_is_to_an_object_of_the_file_and_has_its_own_name():
    known = {(one["type"], one["id"]) for one in OBJECTS}
    for one in OBJECTS:
        assert {(reference["type"], reference["id"]) for reference in one["references"]} <= known
        names = [reference["name"] for reference in one["references"]]
        assert len(names) == len(set(names))


def test_a_dashboard_has_exactly_the_references_of_its_panels_and_controls():
    for dashboard in of_type("dashboard"):
        wanted = set()
        for panel in panels_of(dashboard):
            if panel["type"] == "search":
                wanted.add(("search", panel["panelIndex"], f"{panel['panelIndex']}:{panel['panelRefName']}"))
                assert "attributes" not in panel["embeddableConfig"]
            else:
                (reference,) = panel["embeddableConfig"]["attributes"]["references"]
                wanted.add((reference["type"], reference["id"], f"{panel['panelIndex']}:{reference['name']}"))
                assert "panelRefName" not in panel
        for control in json.loads(dashboard["attributes"]["controlGroupInput"]["panelsJSON"]):
            wanted.add(("index-pattern", "registry-downloads", f"controlGroup_{control}:optionsListDataView"))
        assert {(one["type"], one["id"], one["name"]) for one in dashboard["references"]} == wanted


def test_ids_do_not_contain_the_separator_of_references():
    ids = [panel["panelIndex"] for one in of_type("dashboard") for panel in panels_of(one)]
    ids += [
        id_ for one in of_type("dashboard") for id_ in json.loads(one["attributes"]["controlGroupInput"]["panelsJSON"])
    ]
    assert [id_ for id_ in ids if not re.fullmatch(r"[a-z_-]+", id_)] == []
    assert len(ids) > 20


@pytest.mark.parametrize("dashboard", of_type("dashboard"), ids=lambda one: one["id"])
def test_panels_fill_rows_of_48_columns_without_covering_each_other(dashboard: Json):
    places = [panel["gridData"] for panel in panels_of(dashboard)]
    assert [place["i"] for place in places] == [panel["panelIndex"] for panel in panels_of(dashboard)]
    cells = [
        (x, y)
        for place in places
        for x, y in product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
    ]
    height = max(place["y"] + place["h"] for place in places)
    assert sorted(cells) == sorted(product(range(48), range(height)))
    assert all(place["w"] >= 9 and place["h"] >= 6 for place in places)


@pytest.mark.parametrize("dashboard", of_type("dashboard"), ids=lambda one: one["id"])
def test_panels_have_titles_that_differ(dashboard: Json):
    titles = [panel["title"] for panel in panels_of(dashboard)]
    assert all(titles)
    assert len(titles) == len(set(titles))


def test_both_dashboards_choose_a_time_and_the_drill_down_one_package():
    for dashboard in of_type("dashboard"):
        attributes = dashboard["attributes"]
        assert attributes["timeRestore"] is True
        assert re.fullmatch(r"now-\d+d", attributes["timeFrom"])
    (first, *_) = json.loads(of_type("dashboard")[1]["attributes"]["controlGroupInput"]["panelsJSON"]).values()
    assert (first["explicitInput"]["fieldName"], first["explicitInput"]["singleSelect"]) == ("package.name", True)


def test_controls_are_of_keywords_in_order_and_named():
    for dashboard in of_type("dashboard"):
        group = dashboard["attributes"]["controlGroupInput"]
        assert set(group) == {"controlStyle", "chainingSystem", "panelsJSON", "ignoreParentSettingsJSON"}
        controls = json.loads(group["panelsJSON"])
        assert sorted(control["order"] for control in controls.values()) == list(range(4))
        for id_, control in controls.items():
            given = control["explicitInput"]
            assert (control["type"], given["id"]) == ("optionsListControl", id_)
            assert FIELDS["registry-downloads"][given["fieldName"]] == "keyword"
            assert given["title"]


def test_json_strings_are_valid():
    names = {"fields", "sourceFilters", "fieldFormatMap", "fieldAttrs", "runtimeFieldMap", "panelsJSON", "optionsJSON"}
    for one in OBJECTS:
        texts = [value for name, value in one["attributes"].items() if name in names]
        texts += one["attributes"].get("kibanaSavedObjectMeta", {}).values()
        assert texts
        assert all(isinstance(json.loads(text), (dict, list)) for text in texts)


def test_panels_are_standard_ones_by_value():
    for _, panel in lens_panels():
        attributes = panel["embeddableConfig"]["attributes"]
        assert attributes["title"] == panel["title"]
        assert attributes["visualizationType"] in VISUALIZATIONS
        # 8.19 refuses a version (strict mapping); later ones treat a missing version as the first.
        assert "version" not in attributes
        for layer in attributes["state"]["visualization"].get("layers", []):
            assert layer.get("seriesType", "line") in SERIES


def test_a_layer_lists_each_column_once_with_buckets_first():
    for _, panel in lens_panels():
        layer = layer_of(panel)
        assert sorted(layer["columnOrder"]) == sorted(layer["columns"])
        bucketed = [layer["columns"][name]["isBucketed"] for name in layer["columnOrder"]]
        assert all(before or not after for before, after in pairwise(bucketed))


def test_a_visualization_shows_every_column_and_no_other():
    for _, panel in lens_panels():
        visualization = panel["embeddableConfig"]["attributes"]["state"]["visualization"]
        layers = visualization.get("layers", [visualization])
        (reference,) = panel["embeddableConfig"]["attributes"]["references"]
        assert [f"{LAYER_REFERENCE}{layer['layerId']}" for layer in layers] == [reference["name"]]
        shown: list[str] = []
        for layer in layers:
            shown += [layer[name] for name in layer if name.endswith("Accessor")]
            shown += [*layer.get("accessors", []), *layer.get("primaryGroups", []), *layer.get("metrics", [])]
            shown += [column["columnId"] for column in layer.get("columns", [])]
        assert sorted(shown) == sorted(layer_of(panel)["columns"]), panel["title"]


def test_columns_use_operations_that_their_mapped_fields_support():
    for _, panel in lens_panels():
        (reference,) = panel["embeddableConfig"]["attributes"]["references"]
        for column in layer_of(panel)["columns"].values():
            types, params = OPERATIONS[column["operationType"]]
            assert FIELDS[reference["id"]][column["sourceField"]] in types, panel["title"]
            assert params <= set(column["params"])
            assert column["isBucketed"] is (column["operationType"] in {"terms", "date_histogram"})
            assert column["customLabel"] is True
            assert column["label"]


def test_terms_are_ordered_by_a_column_of_their_layer():
    for _, panel in lens_panels():
        columns = layer_of(panel)["columns"]
        for column in columns.values():
            if column["operationType"] == "terms":
                assert not columns[column["params"]["orderBy"]["columnId"]]["isBucketed"]


def test_bytes_and_counts_have_suitable_formats():
    for _, panel in lens_panels():
        for column in layer_of(panel)["columns"].values():
            if column["sourceField"].endswith("bytes"):
                assert column["params"]["format"]["id"] == "bytes"
            elif column["operationType"] in {"count", "unique_count"}:
                assert column["params"]["format"] == {"id": "number", "params": {"decimals": 0}}


def test_queries_name_mapped_fields_only():
    asked = 0
    for _, panel in lens_panels():
        (reference,) = panel["embeddableConfig"]["attributes"]["references"]
        queries = [panel["embeddableConfig"]["attributes"]["state"]["query"]]
        queries += [column["filter"] for column in layer_of(panel)["columns"].values() if "filter" in column]
        for query in queries:
            named = re.findall(r'"?([\w.@]+)"?\s*:', query["query"])
            assert set(named) <= set(FIELDS[reference["id"]])
            asked += len(named)
    assert asked > 20


def test_listings_show_mapped_fields_newest_first():
    for search in of_type("search"):
        (reference,) = search["references"]
        assert set(search["attributes"]["columns"]) <= set(FIELDS[reference["id"]])
        assert search["attributes"]["sort"] == [["@timestamp", "desc"]]
        source = json.loads(search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
        assert source["indexRefName"] == reference["name"] == "kibanaSavedObjectMeta.searchSourceJSON.index"


def test_data_views_match_the_indices_of_the_templates():
    patterns = [es_mappings.load(file)["index_patterns"] for file in ("downloads", "registry-events")]
    assert [[one["attributes"]["title"]] for one in of_type("index-pattern")] == patterns
    for one in of_type("index-pattern"):
        assert one["attributes"]["timeFieldName"] == "@timestamp"
        assert one["attributes"]["allowNoIndex"] is True
