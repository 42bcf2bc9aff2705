"""Reads the compose files for the tests: merges them and substitutes variables as Docker Compose does."""

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
    """The services of `files` (default: the main file). Later files override earlier ones."""
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
    """Each variable in `text`, with its operator (":-", ":?" or "") and its default or error text."""
    found = (match for match in REFERENCE.finditer(text) if match["name"])
    return {match["name"]: (match["rule"] or "", match["text"] or "") for match in found}


def filled(text: str, variables: Mapping[str, str]) -> str:
    """`text` with its variables substituted. Raises KeyError if a required one is missing."""

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
    """The environment variables of the container of `service`."""
    return {name: filled(str(value), variables) for name, value in service.get("environment", {}).items()}


def argv(service: Mapping[str, Any], key: str) -> list[str]:
    """The arguments of `command`, `entrypoint` or `healthcheck`, as the container runs them."""
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
