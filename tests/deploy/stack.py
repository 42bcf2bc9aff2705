"""The compose files as the tests read them: merged, with variables filled in as Docker Compose would."""

import copy
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "deploy/compose.security.yml", "deploy/compose.tls.yml")
REFERENCE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?:(?P<rule>:[-?])(?P<text>[^}]*))?\})")


@cache
def raw(file: str) -> Any:
    return yaml.safe_load((ROOT / file).read_text())


def services(*files: str) -> dict[str, Any]:
    """The services of `files` (the main one when none is named), the later over the earlier."""
    merged: dict[str, Any] = {}
    for file in files or FILES[:1]:
        for name, service in copy.deepcopy(raw(file)["services"]).items():
            known = merged.setdefault(name, {})
            for key, value in service.items():
                if isinstance(value, dict) and isinstance(known.get(key), dict):
                    known[key].update(value)
                elif key in ("ports", "volumes") and key in known:
                    known[key] += value
                else:
                    known[key] = value
    return merged


def references(text: str) -> dict[str, tuple[str, str]]:
    """Each variable that `text` wants: (":-" or ":?" or "", default or complaint)."""
    found = (match for match in REFERENCE.finditer(text) if match["name"])
    return {match["name"]: (match["rule"] or "", match["text"] or "") for match in found}


def filled(text: str, variables: Mapping[str, str]) -> str:
    """`text` with its variables replaced. KeyError for one that is wanted and missing."""

    def value(match: re.Match[str]) -> str:
        if not match["name"]:
            return "$"
        if found := variables.get(match["name"]):
            return found
        if match["rule"] != ":-":
            raise KeyError(match["name"])
        return match["text"]

    return REFERENCE.sub(value, text)


def environment(service: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, str]:
    """What the container of `service` finds in its environment."""
    return {name: filled(str(value), variables) for name, value in service.get("environment", {}).items()}


def argv(service: Mapping[str, Any], key: str) -> list[str]:
    """The `command` or `entrypoint`, or the health check's command, as the container runs it."""
    words = service["healthcheck"]["test"] if key == "healthcheck" else service[key]
    match words:
        case ["CMD-SHELL", line]:
            words = ["sh", "-c", line]
        case ["CMD", *rest]:
            words = rest
    return [word.replace("$$", "$") for word in words]


def read_env(file: Path) -> dict[str, str]:
    lines = (line for line in file.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)
