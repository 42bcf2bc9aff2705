"""Writes Kibana's saved objects: `python -m deploy.kibana.generate [--prefix PREFIX] [--output FILE]`.

The ids never change, so a new import replaces the objects of the last one.
"""

import argparse
import json
import sys
from pathlib import Path

from deploy.kibana.dashboards import DASHBOARDS, DOWNLOADS, EVENTS, LISTINGS, Control, Dashboard, Listing
from deploy.kibana.lens import LAYER_REFERENCE, TIME, Json, Panel, kuery

OUTPUT = Path(__file__).with_name("registry.ndjson")
SEARCH_SOURCE = "kibanaSavedObjectMeta.searchSourceJSON.index"
# The version of each type's attributes, as in Kibana 8.19. Later versions migrate on import, earlier ones refuse.
TYPE_VERSIONS = {"index-pattern": "8.0.0", "search": "7.9.3", "dashboard": "8.9.0"}
VIEWS = ((DOWNLOADS, "Registry downloads"), (EVENTS, "Registry events"))
FIELD_FORMATS = {
    "http.response.body.bytes": {"id": "bytes"},
    "package.size": {"id": "bytes"},
    "file.size": {"id": "bytes"},
    # Without thousands separators, because these numbers are identifiers.
    "http.response.status_code": {"id": "number", "params": {"pattern": "0"}},
    "event.sequence": {"id": "number", "params": {"pattern": "0"}},
}


def saved_objects(prefix: str = "") -> list[Json]:
    """All objects. Each comes after the objects it refers to. `prefix` is the registry's REGISTRY_ES_PREFIX."""
    views = [_data_view(id_, name, prefix) for id_, name in VIEWS]
    return [*views, *map(_search, LISTINGS), *map(_dashboard, DASHBOARDS)]


def ndjson(objects: list[Json]) -> str:
    return "".join(f"{_text(one)}\n" for one in objects)


def _object(type_: str, id_: str, attributes: Json, references: list[Json]) -> Json:
    return {
        "attributes": attributes,
        "coreMigrationVersion": "8.8.0",
        "id": id_,
        "managed": False,
        "references": references,
        "type": type_,
        "typeMigrationVersion": TYPE_VERSIONS[type_],
    }


def _data_view(id_: str, name: str, prefix: str) -> Json:
    attributes = {
        "title": f"{prefix}{id_}-*",
        "name": name,
        "timeFieldName": TIME,
        "allowNoIndex": True,
        "fields": "[]",
        "sourceFilters": "[]",
        "fieldFormatMap": _text(FIELD_FORMATS),
        "fieldAttrs": "{}",
        "runtimeFieldMap": "{}",
    }
    return _object("index-pattern", id_, attributes, [])


def _search(listing: Listing) -> Json:
    source = {"query": kuery(listing.query), "filter": [], "indexRefName": SEARCH_SOURCE}
    attributes = {
        "title": listing.title,
        "description": listing.description,
        "columns": list(listing.columns),
        "sort": [[TIME, "desc"]],
        "grid": {},
        "hideChart": True,
        "isTextBasedQuery": False,
        "timeRestore": False,
        "kibanaSavedObjectMeta": {"searchSourceJSON": _text(source)},
    }
    return _object("search", listing.id, attributes, [_reference("index-pattern", listing.view, SEARCH_SOURCE)])


def _dashboard(dashboard: Dashboard) -> Json:
    panels, references = _panels(dashboard)
    options = {
        "useMargins": True,
        "syncColors": True,
        "syncCursor": True,
        "syncTooltips": False,
        "hidePanelTitles": False,
    }
    attributes = {
        "title": dashboard.title,
        "description": dashboard.description,
        "panelsJSON": _text(panels),
        "optionsJSON": _text(options),
        "timeRestore": True,
        "timeFrom": dashboard.since,
        "timeTo": "now",
        "refreshInterval": {"pause": True, "value": 60000},
        "kibanaSavedObjectMeta": {"searchSourceJSON": _text({"query": kuery(""), "filter": []})},
        "controlGroupInput": _controls(dashboard.controls),
        "version": 1,
        "hits": 0,
    }
    references += [
        _reference("index-pattern", DOWNLOADS, f"controlGroup_{control.id}:optionsListDataView")
        for control in dashboard.controls
    ]
    return _object("dashboard", dashboard.id, attributes, references)


def _panels(dashboard: Dashboard) -> tuple[list[Json], list[Json]]:
    """The panels with their positions, and their references."""
    panels: list[Json] = []
    references: list[Json] = []
    y = 0
    for row in dashboard.rows:
        x = 0
        for width, shown in row.panels:
            place = {"x": x, "y": y, "w": width, "h": row.height, "i": shown.id}
            panel, reference = _panel(shown)
            panels.append({**panel, "title": shown.title, "panelIndex": shown.id, "gridData": place})
            references.append(reference)
            x += width
        y += row.height
    return panels, references


def _panel(shown: Panel | Listing) -> tuple[Json, Json]:
    if isinstance(shown, Listing):
        name = f"panel_{shown.id}"
        panel = {"type": "search", "embeddableConfig": {"enhancements": {}}, "panelRefName": name}
        return panel, _reference("search", shown.id, f"{shown.id}:{name}")
    config = {"attributes": shown.attributes(), "enhancements": {}}
    return {"type": "lens", "embeddableConfig": config}, _reference(
        "index-pattern", shown.view, f"{shown.id}:{LAYER_REFERENCE}"
    )


def _controls(controls: tuple[Control, ...]) -> Json:
    panels = {
        control.id: {
            "order": order,
            "width": "medium",
            "grow": True,
            "type": "optionsListControl",
            "explicitInput": {
                "id": control.id,
                "fieldName": control.field,
                "title": control.title,
                "singleSelect": control.single,
                "selectedOptions": [],
                "enhancements": {},
            },
        }
        for order, control in enumerate(controls)
    }
    ignored = dict.fromkeys(("ignoreFilters", "ignoreQuery", "ignoreTimerange", "ignoreValidations"), False)
    return {
        "controlStyle": "oneLine",
        "chainingSystem": "HIERARCHICAL",
        "panelsJSON": _text(panels),
        "ignoreParentSettingsJSON": _text(ignored),
    }


def _reference(type_: str, id_: str, name: str) -> Json:
    return {"type": type_, "id": id_, "name": name}


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Write the saved objects of the registry's Kibana dashboards.")
    parser.add_argument("--prefix", default="", help="the registry's REGISTRY_ES_PREFIX (default: none)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the file (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    chosen.output.write_text(ndjson(saved_objects(chosen.prefix)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
