"""Runs the search of a Lens panel: translates its saved state to a query, and the response to rows.

Covers what the dashboards use and raises on everything else, so that no panel passes unasked. `last_value` is asked by
top_hits, which needs no optional module and gives the same as Kibana's top_metrics.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp

Json = dict[str, Any]
Row = tuple[Any, ...]

MISSING = "__missing__"
OTHER = "__other__"
_CLAUSE = re.compile(
    r'(?P<negated>not )?"?(?P<field>[\w.@]+)"?\s*:\s*(?:(?P<any>\*)|"(?P<text>[^"*]*)"|(?P<word>[\w.]+))'
)


def kuery(query: Json) -> list[Json]:
    """Filters for clauses of the form `field : value`, joined by `and`."""
    assert query["language"] == "kuery"
    return [_clause(part) for part in query["query"].split(" and ")] if query["query"] else []


def _clause(text: str) -> Json:
    found = _CLAUSE.fullmatch(text)
    if found is None:
        raise ValueError(f"not read here: {text}")
    if found["any"]:
        asked: Json = {"exists": {"field": found["field"]}}
    else:
        asked = {"match_phrase": {found["field"]: found["text"] if found["word"] is None else found["word"]}}
    return {"bool": {"must_not": asked}} if found["negated"] else asked


@dataclass(frozen=True)
class Asking:
    """Elasticsearch's address, the time range, and the selected values of the dashboard's controls."""

    session: aiohttp.ClientSession
    url: str
    prefix: str
    since: datetime
    until: datetime
    chosen: Json = field(default_factory=dict)

    async def search(self, pattern: str, body: Json) -> Json:
        async with self.session.post(f"{self.url}/{self.prefix}{pattern}/_search", json=body) as response:
            answer: Json = await response.json()
            assert response.status == 200, answer
            return answer

    async def panel(self, attributes: Json, pattern: str) -> list[Row]:
        """The panel's table: one row for each combination of buckets, in the order of its columns."""
        state = attributes["state"]
        (layer,) = state["datasourceStates"]["formBased"]["layers"].values()
        columns = [(name, layer["columns"][name]) for name in layer["columnOrder"]]
        buckets = [column for column in columns if column[1]["isBucketed"]]
        metrics = [column for column in columns if not column[1]["isBucketed"]]
        chosen = {} if layer.get("ignoreGlobalFilters") else self.chosen
        filters = kuery(state["query"]) + [{"term": {name: value}} for name, value in chosen.items()]
        tables = []
        for shift in sorted({_shift(column) for _, column in metrics}):
            plain = [(name, column) for name, column in metrics if _shift(column) == shift]
            rows = await self._rows(pattern, filters, buckets, plain, shift)
            tables.append((plain, rows))
        if len(tables) == 1:
            return [key + values for key, values in tables[0][1]]
        assert not buckets, "a shifted column is only read in a panel without buckets"
        found = {name: value for plain, rows in tables for (name, _), value in zip(plain, rows[0][1], strict=True)}
        return [tuple(found[name] for name, _ in metrics)]

    async def _rows(
        self, pattern: str, filters: list[Json], buckets: list[Any], metrics: list[Any], shift: int
    ) -> list[tuple[Row, Row]]:
        length = self.until - self.since
        window = {"gte": (self.since - shift * length).isoformat(), "lt": (self.until - shift * length).isoformat()}
        filters = [*filters, {"range": {"@timestamp": window}}]
        body = {
            "size": 0,
            "track_total_hits": True,
            "query": {"bool": {"filter": filters}},
            "aggs": _aggregations(buckets, metrics, window),
        }
        answer = await self.search(pattern, body)
        top = {**answer.get("aggregations", {}), "doc_count": answer["hits"]["total"]["value"]}
        rows = list(_read(top, buckets, metrics))
        if buckets and buckets[0][1]["params"].get("otherBucket") and top[buckets[0][0]]["sum_other_doc_count"]:
            rows += await self._others(pattern, body, [key[0] for key, _ in rows], buckets, metrics)
        return rows

    async def _others(
        self, pattern: str, body: Json, keys: list[Any], buckets: list[Any], metrics: list[Any]
    ) -> list[tuple[Row, Row]]:
        """One row for all values beyond the first."""
        source = buckets[0][1]["sourceField"]
        not_these: Json = {"bool": {"must_not": {"terms": {source: keys}}}}
        if MISSING in keys:
            not_these["bool"]["filter"] = {"exists": {"field": source}}
        window = body["query"]["bool"]["filter"][-1]["range"]["@timestamp"]
        more = {
            **body,
            "query": {"bool": {"filter": [*body["query"]["bool"]["filter"], not_these]}},
            "aggs": _aggregations(buckets[1:], metrics, window),
        }
        answer = await self.search(pattern, more)
        top = {**answer.get("aggregations", {}), "doc_count": answer["hits"]["total"]["value"]}
        return [((OTHER, *key), values) for key, values in _read(top, buckets[1:], metrics)]


def _shift(column: Json) -> int:
    """The number of periods that the column is shifted back."""
    return {"": 0, "previous": 1}[column.get("timeShift", "")]


def _aggregations(buckets: list[Any], metrics: list[Any], window: Json) -> Json:
    if not buckets:
        return dict(item for name, column in metrics for item in _metric(name, column))
    (name, column), *inner = buckets
    params = column["params"]
    if column["operationType"] == "date_histogram":
        assert params["interval"] == "auto"
        asked: Json = {"date_histogram": {"field": column["sourceField"], "fixed_interval": "1d", "min_doc_count": 1}}
    else:
        asked = {"terms": {"field": column["sourceField"], "size": params["size"], "order": _order(params, metrics)}}
        if params["missingBucket"]:
            asked["terms"]["missing"] = MISSING
    below = _aggregations(inner, metrics, window)
    ordering = dict(item for other, metric in metrics for item in _metric(other, metric))
    return {name: {**asked, "aggs": below | ordering}}


def _order(params: Json, metrics: list[Any]) -> Json:
    assert params["orderBy"]["type"] == "column"
    by = params["orderBy"]["columnId"]
    column = dict(metrics)[by]
    plain_count = column["operationType"] == "count" and "filter" not in column
    return {"_count" if plain_count else by: params["orderDirection"]}


_SIMPLE = {"sum": "sum", "unique_count": "cardinality", "max": "max", "average": "avg"}


def _metric(name: str, column: Json) -> Iterator[tuple[str, Json]]:
    operation, source = column["operationType"], column["sourceField"]
    if operation == "count":
        assert source == "___records___"
        if "filter" in column:
            yield name, {"filter": {"bool": {"filter": kuery(column["filter"])}}}
    elif operation == "last_value":
        sort = [{column["params"]["sortField"]: "desc"}]
        latest = {"top_hits": {"size": 1, "sort": sort, "_source": False, "fields": [source]}}
        yield name, {"filter": {"bool": {"filter": kuery(column["filter"])}}, "aggs": {"latest": latest}}
    else:
        assert "filter" not in column
        yield name, {_SIMPLE[operation]: {"field": source}}


def _read(found: Json, buckets: list[Any], metrics: list[Any]) -> Iterator[tuple[Row, Row]]:
    if not buckets:
        yield (), tuple(_value(found, name, column) for name, column in metrics)
        return
    (name, column), *inner = buckets
    for bucket in found[name]["buckets"]:
        at_day = column["operationType"] == "date_histogram"
        key = bucket["key_as_string"][:10] if at_day else bucket["key"]
        for below, values in _read(bucket, inner, metrics):
            yield (key, *below), values


def _value(found: Json, name: str, column: Json) -> Any:
    operation = column["operationType"]
    if operation == "count":
        return found[name]["doc_count"] if "filter" in column else found["doc_count"]
    if operation == "last_value":
        (hit,) = found[name]["latest"]["hits"]["hits"]
        return hit["fields"][column["sourceField"]][0]
    return found[name]["value"]
