"""Builds the documents for dashboards, one for each download or event. Pure functions.

es_mappings/README.md lists the fields.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from registry import __version__
from registry.db.engine import Row
from registry.downloads import agents
from registry.events.log import VERSION_DELETED, Event

# Each kind of document has a consumer of the same name, and indices whose names begin with it.
DOWNLOADS, EVENTS = KINDS = ("registry-downloads", "registry-events")
# A download with this HTTP status or a higher one is a failure.
FROM_FAILURE = 400
# Many downloads have the same User-Agent or the same version. An entry takes a few hundred bytes.
CACHED_AGENTS = CACHED_VERSIONS = 1_000

Source = Mapping[str, Any]


# Not frozen: each download makes a place and a document, and freezing would double the time to create them.
@dataclass(slots=True)
class Place:
    """The address of a document: `id` in the index of its kind and month. A repeated write replaces the document."""

    kind: str
    id: str
    at: datetime

    @property
    def index(self) -> str:
        """The name of the index without REGISTRY_ES_PREFIX."""
        at = self.at.astimezone(UTC)
        return f"{self.kind}-{at.year}.{at.month:02}"  # much faster than strftime


@dataclass(slots=True)
class Document(Place):
    """A place and the JSON document that belongs there."""

    source: Source


def download_place(id_: int, at: datetime) -> Place:
    """The place of a row of the table `downloads`."""
    return Place(DOWNLOADS, f"download-{id_}", at)


def event_place(seq: int, at: datetime) -> Place:
    """The place of an event of the log."""
    return Place(EVENTS, f"event-{seq}", at)


def download(row: Row, owner: str | None) -> Document:
    """The document of a row from downloads.store.read_after(). `owner` is the username of the package's first owner."""
    if row.package_version_id is not None:
        names = _version(row.package_name, row.package_version, row.tarball_size, row.checksum, owner)
    else:
        # Clients can ask for any names. Those must not take the places of real versions in the cache.
        names = _version.__wrapped__(row.package, row.version)
    fields = {
        **names,
        "client": _client(row),
        "user_agent": _user_agent(row.user_agent, row.client, row.system),
        "http": {
            "request": {"method": "GET"},
            "response": {"status_code": row.status, "body": {"bytes": row.bytes}},
        },
        "registry": {"client": {"kind": row.kind, "rule": row.rule}, "unique": row.is_unique},
    }
    outcome = "failure" if row.status >= FROM_FAILURE else "success"
    event = {"category": ["package", "web"], "type": ["access"], "action": "package-download", "outcome": outcome}
    return _document(download_place(row.id, row.downloaded_at), "registry.downloads", event, fields)


def event(each: Event, owner: str | None, publisher: str | None = None) -> Document:
    """The document of an event. `owner` is the username of the package's first owner.

    `publisher` says who published a version: github, gitlab or oidc for a CI job, otherwise user.
    """
    event_fields = {
        "category": ["package"],
        "type": ["deletion" if each.type == VERSION_DELETED else "change"],
        "action": each.type,
        "sequence": each.seq,
    }
    fields: dict[str, Any] = {"package": _present({"name": each.package, "version": each.version, "type": "synapse"})}
    if owner is not None:
        fields["organization"] = {"name": owner}
    if each.actor_id is not None:
        fields["user"] = {"id": str(each.actor_id)}
    if publisher is not None:
        fields["registry"] = {"publisher": {"kind": publisher}}
    return _document(event_place(each.seq, each.created_at), "registry.events", event_fields, fields)


def lag(consumer: str, behind: int, seconds: float, at: datetime) -> Document:
    """The document of a sample: at the time `at`, `consumer` is `behind` entries and `seconds` behind its log."""
    event_fields = {"kind": "metric", "category": ["package"], "type": ["info"], "action": "consumer.lag"}
    figures = {"name": consumer, "events_behind": behind, "seconds_behind": round(seconds, 3)}
    place = Place(EVENTS, f"lag-{consumer}-{int(at.timestamp() * 1000)}", at)
    return _document(place, "registry.consumers", event_fields, {"registry": {"consumer": figures}})


def webhooks(state: str, number: int, at: datetime) -> Document:
    """The document of a sample: at the time `at`, `number` webhooks are in `state`: working, failing or disabled."""
    event_fields = {"kind": "metric", "category": ["package"], "type": ["info"], "action": "webhooks.state"}
    place = Place(EVENTS, f"webhooks-{state}-{int(at.timestamp() * 1000)}", at)
    return _document(
        place, "registry.webhooks", event_fields, {"registry": {"webhooks": {"state": state, "number": number}}}
    )


def _document(place: Place, dataset: str, event_fields: Source, fields: Source) -> Document:
    source = {
        "@timestamp": place.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ecs": {"version": "9.4.0"},
        "event": {"id": place.id, "kind": "event", "outcome": "success", "dataset": dataset, **event_fields},
        "service": {"name": "synapse-registry", "version": __version__},
        **fields,
    }
    return Document(place.kind, place.id, place.at, source)


@functools.lru_cache(CACHED_VERSIONS)
def _version(
    name: str, version: str, size: int | None = None, checksum: str | None = None, owner: str | None = None
) -> Source:
    """The fields that all downloads of a version have. Only the name and version if nobody could be served."""
    file = f"{name}-{version}.tar.gz"
    fields: dict[str, Any] = {
        "package": _present({"name": name, "version": version, "type": "synapse", "size": size, "checksum": checksum}),
        "file": _present({"name": file, "size": size}),
        "url": {"path": f"/api/v1/packages/{name}/{version}/tarball"},
    }
    return fields if size is None else {**fields, "organization": {"name": owner}}


def _client(row: Row) -> Source:
    client: dict[str, Any] = {"user": {"hash": row.client_hash}} if row.client_hash else {}
    if row.ip_address is not None:
        client["ip"] = row.ip_address.partition("/")[0]
    if row.country:
        client["geo"] = {"country_iso_code": row.country}
    return client


@functools.lru_cache(CACHED_AGENTS)
def _user_agent(original: str, client: str, system_name: str) -> Source:
    """`client` and `system_name` are the values that were counted. The current parser supplies the other fields."""
    agent = agents.parse(original)
    system = _present({"name": system_name, "version": agent.system_version if system_name else ""})
    fields = {"original": original, "name": client, "version": agent.version}
    return _present({**fields, "os": system, "device": _present({"name": agent.device})})


def _present(fields: Source) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in ("", None, {})}
