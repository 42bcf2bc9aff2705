"""Builds Lens panels: columns define the query, panels define the presentation.

The shapes are those of the saved objects of Kibana 8.19. Every 9.x migrates them.
"""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

LAYER = "data"
LAYER_REFERENCE = f"indexpattern-datasource-layer-{LAYER}"
TIME = "@timestamp"

NUMBER = {"id": "number", "params": {"decimals": 0}}
DECIMAL = {"id": "number", "params": {"decimals": 1}}
BYTES = {"id": "bytes", "params": {"decimals": 1}}


def kuery(query: str) -> Json:
    return {"language": "kuery", "query": query}


@dataclass(frozen=True)
class Panel:
    """One panel. `view` is the id of its data view; `query` (KQL) is a filter in addition to the dashboard's.

    With `global_filters=False` the panel ignores the dashboard's filters, because its documents lack those fields.
    """

    id: str
    title: str
    view: str
    visualization_type: str
    columns: dict[str, Json]
    visualization: Json
    query: str = ""
    description: str = ""
    global_filters: bool = True

    def attributes(self) -> Json:
        """The panel's Lens attributes, to store the panel by value."""
        order = sorted(self.columns, key=lambda name: not self.columns[name]["isBucketed"])
        layer: Json = {"columnOrder": order, "columns": self.columns, "incompleteColumns": {}, "sampling": 1}
        if not self.global_filters:
            layer["ignoreGlobalFilters"] = True
        return {
            "title": self.title,
            "description": self.description,
            "type": "lens",
            "visualizationType": self.visualization_type,
            "references": [{"type": "index-pattern", "id": self.view, "name": LAYER_REFERENCE}],
            "state": {
                "datasourceStates": {"formBased": {"layers": {LAYER: layer}}},
                "visualization": self.visualization,
                "query": kuery(self.query),
                "filters": [],
                "adHocDataViews": {},
                "internalReferences": [],
            },
        }


def count(label: str, *, where: str = "", shift: str = "") -> Json:
    """The number of documents. `where` (KQL) filters this column only; `shift` moves its time range."""
    return _metric("count", "___records___", label, NUMBER, where, shift)


def total(field: str, label: str, number_format: Json, *, shift: str = "") -> Json:
    return _metric("sum", field, label, number_format, "", shift)


def distinct(field: str, label: str, *, shift: str = "") -> Json:
    return _metric("unique_count", field, label, NUMBER, "", shift)


def highest(field: str, label: str, number_format: Json) -> Json:
    return _metric("max", field, label, number_format, "", "")


def latest_time(label: str) -> Json:
    """The time of the latest document of a row."""
    return {
        "label": label,
        "customLabel": True,
        "dataType": "date",
        "operationType": "last_value",
        "isBucketed": False,
        "scale": "interval",
        "sourceField": TIME,
        "filter": kuery(f'"{TIME}": *'),
        "params": {"sortField": TIME, "showArrayValues": False},
    }


def _metric(operation: str, field: str, label: str, number_format: Json, where: str, shift: str) -> Json:
    column: Json = {
        "label": label,
        "customLabel": True,
        "dataType": "number",
        "operationType": operation,
        "isBucketed": False,
        "scale": "ratio",
        "sourceField": field,
        "params": {"emptyAsNull": False, "format": number_format},
    }
    if where:
        column["filter"] = kuery(where)
    if shift:
        column["timeShift"] = shift
    return column


def by_time() -> Json:
    return {
        "label": "Time",
        "customLabel": True,
        "dataType": "date",
        "operationType": "date_histogram",
        "isBucketed": True,
        "scale": "interval",
        "sourceField": TIME,
        "params": {"interval": "auto", "includeEmptyRows": True, "dropPartials": False},
    }


def by(field: str, label: str, size: int, *, most: str, rest: bool = False, data_type: str = "string") -> Json:
    """The `size` values with the highest column `most`. `rest` adds buckets for other and for missing values."""
    return {
        "label": label,
        "customLabel": True,
        "dataType": data_type,
        "operationType": "terms",
        "isBucketed": True,
        "scale": "ordinal",
        "sourceField": field,
        "params": {
            "size": size,
            "orderBy": {"type": "column", "columnId": most},
            "orderDirection": "desc",
            "otherBucket": rest,
            "missingBucket": rest,
            "parentFormat": {"id": "terms"},
            "include": [],
            "exclude": [],
            "includeIsRegex": False,
            "excludeIsRegex": False,
        },
    }


def figure(id_: str, title: str, view: str, now: Json, before: Json, **more: Any) -> Panel:
    """A large number, with the number of the previous period below it."""
    visualization = {
        "layerId": LAYER,
        "layerType": "data",
        "metricAccessor": "now",
        "secondaryMetricAccessor": "before",
        "secondaryPrefix": "previous period",
    }
    return Panel(id_, title, view, "lnsMetric", {"now": now, "before": before}, visualization, **more)


def table(id_: str, title: str, view: str, columns: dict[str, Json], *, sort: str, **more: Any) -> Panel:
    visualization = {
        "layerId": LAYER,
        "layerType": "data",
        "columns": [{"columnId": name} for name in columns],
        "sorting": {"columnId": sort, "direction": "desc"},
        "paging": {"enabled": True, "size": 10},
        "rowHeight": "single",
        "headerRowHeight": "single",
    }
    return Panel(id_, title, view, "lnsDatatable", columns, visualization, **more)


def donut(id_: str, title: str, view: str, group: Json, value: Json, **more: Any) -> Panel:
    layer = {
        "layerId": LAYER,
        "layerType": "data",
        "primaryGroups": ["group"],
        "metrics": ["value"],
        "numberDisplay": "percent",
        "categoryDisplay": "default",
        "legendDisplay": "default",
        "nestedLegend": False,
    }
    visualization = {"shape": "donut", "layers": [layer]}
    return Panel(id_, title, view, "lnsPie", {"group": group, "value": value}, visualization, **more)


def chart(
    id_: str, title: str, view: str, series_type: str, x: Json, value: Json, *, split: Json | None = None, **more: Any
) -> Panel:
    """Bars, lines or areas over `x`. If `split` is given, each of its values gets a series."""
    columns = {"x": x, "value": value} if split is None else {"split": split, "x": x, "value": value}
    layer: Json = {
        "layerId": LAYER,
        "layerType": "data",
        "seriesType": series_type,
        "xAccessor": "x",
        "accessors": ["value"],
        "position": "top",
        "showGridlines": False,
    }
    if split is not None:
        layer["splitAccessor"] = "split"
    visible = {"x": True, "yLeft": True, "yRight": True}
    visualization = {
        "preferredSeriesType": series_type,
        "legend": {"isVisible": True, "position": "right"},
        "valueLabels": "hide",
        "fittingFunction": "None",
        "axisTitlesVisibilitySettings": {"x": False, "yLeft": True, "yRight": True},
        "tickLabelsVisibilitySettings": visible,
        "gridlinesVisibilitySettings": visible,
        "labelsOrientation": {"x": 0, "yLeft": 0, "yRight": 0},
        "layers": [layer],
    }
    return Panel(id_, title, view, "lnsXY", columns, visualization, **more)
