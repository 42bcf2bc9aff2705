"""The expected figures of each panel, computed from the documents without reading the panels."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.deploy.kibana_documents import Document, get
from tests.deploy.kibana_queries import MISSING, OTHER, Row

Rows = list[Row]
Value = Callable[[list[Document]], Any]


@dataclass(frozen=True)
class Shown:
    """The documents that match a dashboard's time and filters, and those of the previous period."""

    now: list[Document]
    before: list[Document]
    events: list[Document]

    @property
    def served(self) -> list[Document]:
        return [document for document in self.now if get(document, "event.outcome") == "success"]

    @property
    def failed(self) -> list[Document]:
        return [document for document in self.now if get(document, "event.outcome") == "failure"]


def sent(documents: list[Document]) -> float:
    return float(sum(get(document, "http.response.body.bytes") for document in documents))


def clients(documents: list[Document]) -> int:
    return len({get(document, "client.user.hash") for document in documents})


def unique(documents: list[Document]) -> list[Document]:
    return [document for document in documents if get(document, "registry.unique")]


def last(documents: list[Document]) -> str:
    """The time in Elasticsearch's notation."""
    latest = max(datetime.fromisoformat(document["@timestamp"]) for document in documents)
    return latest.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def day(document: Document) -> str:
    return str(document["@timestamp"][:10])


def grouped(documents: list[Document], field: str) -> dict[Any, list[Document]]:
    """The documents grouped by `field`, the largest group first. Documents without the field are left out."""
    groups: dict[Any, list[Document]] = {}
    for document in documents:
        if (value := get(document, field)) is not None:
            groups.setdefault(value, []).append(document)
    return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))


def top(documents: list[Document], field: str, size: int) -> list[tuple[Any, list[Document]]]:
    return list(grouped(documents, field).items())[:size]


def top_and_rest(documents: list[Document], field: str, size: int) -> list[tuple[Any, list[Document]]]:
    """The first groups, with documents without the field as one group, and all other documents as the last group."""
    groups = grouped(documents, field)
    if without := [document for document in documents if get(document, field) is None]:
        groups[MISSING] = without
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    rest = [document for _, group in ordered[size:] for document in group]
    return ordered[:size] + ([(OTHER, rest)] if rest else [])


def table(groups: list[tuple[Any, list[Document]]], *values: Value) -> Rows:
    return [(key, *(value(group) for value in values)) for key, group in groups]


def daily(groups: list[tuple[Any, list[Document]]], value: Value = len) -> Rows:
    rows = []
    for key, group in groups:
        days: dict[str, list[Document]] = {}
        for document in group:
            days.setdefault(day(document), []).append(document)
        rows += [(key, at, value(of_day)) for at, of_day in days.items()]
    return rows


def nested(documents: list[Document], outer: str, size: int, inner: str, inner_size: int) -> Rows:
    return [
        (key, below, len(group))
        for key, documents_of in top(documents, outer, size)
        for below, group in top(documents_of, inner, inner_size)
    ]


def figure(of: Callable[[Shown], Any]) -> Callable[[Shown], Rows]:
    return lambda shown: [(of(shown), of(Shown(shown.before, [], [])))]


BOTH: dict[str, Callable[[Shown], Rows]] = {
    "downloads": figure(lambda s: len(s.served)),
    "distinct": figure(lambda s: len(unique(s.served))),
    "clients": figure(lambda s: clients(s.served)),
    "bytes": figure(lambda s: sent(s.served)),
    "failed": figure(lambda s: len(s.failed)),
    "kinds": lambda s: daily(top_and_rest(s.served, "registry.client.kind", 5)),
    "share": lambda s: table(top_and_rest(s.served, "registry.client.kind", 5), len),
    "client": lambda s: table(top(s.served, "user_agent.name", 10), len),
    "client-versions": lambda s: nested(s.served, "user_agent.name", 10, "user_agent.version", 5),
    "os": lambda s: table(top_and_rest(s.served, "user_agent.os.name", 8), len),
    "statuses": lambda s: daily(top(s.failed, "http.response.status_code", 8)),
    "failed-paths": lambda s: nested(s.failed, "url.path", 20, "http.response.status_code", 3),
}
PANELS: dict[str, Callable[[Shown], Rows]] = {
    **{f"{dashboard}-{name}": rows for dashboard in ("overview", "package") for name, rows in BOTH.items()},
    "overview-top-packages": lambda s: table(
        top(s.served, "package.name", 50), len, lambda group: len(unique(group)), clients, sent
    ),
    "overview-top-owners": lambda s: table(
        top(s.served, "organization.name", 50), lambda group: len(grouped(group, "package.name")), len
    ),
    "overview-countries": lambda s: table(top_and_rest(s.served, "client.geo.country_iso_code", 50), len),
    "overview-publishes": lambda s: daily(
        top([event for event in s.events if get(event, "event.kind") == "event"], "event.action", 8)
    ),
    "overview-lag": lambda s: daily(
        top(s.events, "registry.consumer.name", 8),
        lambda group: max(get(sample, "registry.consumer.seconds_behind") for sample in group),
    ),
    "overview-publishers": lambda s: daily(top(s.events, "registry.publisher.kind", 5)),
    "overview-webhooks": lambda s: daily(
        top(s.events, "registry.webhooks.state", 3),
        lambda group: max(get(sample, "registry.webhooks.number") for sample in group),
    ),
    "package-adoption": lambda s: daily(top_and_rest(s.served, "package.version", 10)),
    "package-versions": lambda s: table(top(s.served, "package.version", 100), len, clients, last),
}
