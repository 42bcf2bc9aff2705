"""Generated documents with the fields of es_mappings/README.md, over two periods of 30 days, the same in each run."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

Document = dict[str, Any]

BEFORE = datetime(2026, 9, 13, tzinfo=UTC)
SINCE = BEFORE + timedelta(days=30)
UNTIL = SINCE + timedelta(days=30)
PACKAGE = "tensor-kit"
PACKAGES = {PACKAGE: "ada", "tiny-http": "ada", "yaml-lite": "grace", "left-pad": "linus"}
VERSIONS = [f"1.{minor}.0" for minor in range(13)]
CLIENTS = [
    ("synapse-cli", "2.1.0", "Linux", "human"),
    ("synapse-cli", "2.0.3", "Windows", "human"),
    ("synapse-cli", "2.1.0", "Linux", "ci"),
    ("curl", "8.9.1", None, "unknown"),
    ("synapse-mirror", "0.4.0", "Linux", "mirror"),
    ("crawler", "1", None, "bot"),
]
CONSUMERS = ("search", "downloads")


def shared(at: datetime, id_: str) -> Document:
    return {
        "@timestamp": at.isoformat(),
        "ecs": {"version": "9.4.0"},
        "service": {"name": "synapse-registry", "version": "1.0.0"},
        "event": {"id": id_, "kind": "event", "outcome": "success"},
    }


def downloads() -> list[Document]:
    chance = random.Random(7)
    return [_download(chance, number) for number in range(700)]


def _download(chance: random.Random, number: int) -> Document:
    name = chance.choices(list(PACKAGES), [8, 4, 2, 1])[0]
    # Later versions have more downloads, so that the versions with the fewest are in no top ten.
    version = chance.choices(VERSIONS, range(1, len(VERSIONS) + 1))[0]
    client, client_version, system, kind = chance.choices(CLIENTS, [6, 3, 5, 2, 2, 1])[0]
    size = chance.randint(1_000, 900_000)
    document = shared(BEFORE + timedelta(seconds=chance.randrange(60 * 86_400)), f"download-{number}")
    document["event"] |= {
        "category": ["package", "web"],
        "type": ["access"],
        "action": "package-download",
        "dataset": "registry.downloads",
    }
    agent = {"original": f"{client}/{client_version}", "name": client, "version": client_version}
    if system is not None:
        agent |= {"os": {"name": system, "version": "1"}, "device": {"name": "x86_64"}}
    document |= {
        "package": {"name": name, "version": version, "type": "synapse", "size": size, "checksum": f"{size:064x}"},
        "file": {"name": f"{name}-{version}.tar.gz", "size": size},
        "organization": {"name": PACKAGES[name]},
        "client": {"ip": f"192.0.{chance.randrange(9)}.0", "user": {"hash": f"{chance.randrange(120):016x}"}},
        "user_agent": agent,
        "http": {"request": {"method": "GET"}, "response": {"status_code": 200, "body": {"bytes": size}}},
        "url": {"path": f"/api/v1/packages/{name}/{version}/tarball"},
        "registry": {"client": {"kind": kind, "rule": f"{kind}-rule"}, "unique": chance.random() < 0.8},
    }
    if chance.random() < 0.7:
        document["client"]["geo"] = {"country_iso_code": chance.choice(["DE", "FR", "JP", "US"])}
    if chance.random() < 0.15:
        _fail(document, chance.choices([404, 503, 416], [6, 2, 1])[0])
    return document


def _fail(document: Document, status: int) -> None:
    document["event"]["outcome"] = "failure"
    document["http"]["response"] = {"status_code": status, "body": {"bytes": 120}}
    document["registry"]["unique"] = False
    del document["package"]["size"], document["package"]["checksum"], document["file"]["size"]


def registry_events() -> list[Document]:
    chance = random.Random(11)
    return [*_log(chance), *_samples(chance)]


def _log(chance: random.Random) -> Iterator[Document]:
    actions = ["version.published", "version.deleted", "version.yanked"]
    for number in range(1, 91):
        action = chance.choices(actions, [7, 1, 2])[0]
        name = chance.choice(list(PACKAGES))
        document = shared(BEFORE + timedelta(hours=16 * number - 1), f"event-{number}")
        document["event"] |= {
            "category": ["package"],
            "type": ["deletion" if action == "version.deleted" else "change"],
            "action": action,
            "dataset": "registry.events",
            "sequence": number,
        }
        if action == "version.published":
            document["registry"] = {"publisher": {"kind": chance.choices(["user", "github", "gitlab"], [3, 5, 1])[0]}}
        yield document | {
            "package": {"name": name, "version": chance.choice(VERSIONS), "type": "synapse"},
            "organization": {"name": PACKAGES[name]},
            "user": {"id": "1"},
        }


def _samples(chance: random.Random) -> Iterator[Document]:
    for number in range(120):
        at = BEFORE + timedelta(hours=12 * number)
        for consumer in CONSUMERS:
            document = shared(at, f"lag-{consumer}-{number}")
            document["event"] |= {
                "kind": "metric",
                "category": ["package"],
                "type": ["info"],
                "action": "consumer.lag",
                "dataset": "registry.consumers",
            }
            behind = {"events_behind": chance.randrange(50), "seconds_behind": chance.randrange(1, 400) / 8}
            yield document | {"registry": {"consumer": {"name": consumer, **behind}}}
        for state in ("working", "failing", "disabled"):
            document = shared(at, f"webhooks-{state}-{number}")
            document["event"] |= {
                "kind": "metric",
                "category": ["package"],
                "type": ["info"],
                "action": "webhooks.state",
                "dataset": "registry.webhooks",
            }
            yield document | {"registry": {"webhooks": {"state": state, "number": chance.randrange(9)}}}


def get(document: Document, field: str) -> Any:
    """The value of a dotted field, or None if the document does not have it."""
    value: Any = document
    for part in field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def fields_of(document: Document, before: str = "") -> set[str]:
    found: set[str] = set()
    for name, value in document.items():
        found |= fields_of(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}"}
    return found


def mapped(properties: dict[str, Any], before: str = "") -> dict[str, str]:
    """The type of each field of a mapping's properties."""
    found: dict[str, str] = {}
    for name, spec in properties.items():
        found |= (
            mapped(spec["properties"], f"{before}{name}.")
            if "properties" in spec
            else {f"{before}{name}": spec["type"]}
        )
    return found
