"""Reads the fields of a settings part from variables, and finds variables that are not settings."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, field, fields
from typing import Any

from registry import setting_types as types
from registry.setting_files import read_secret

# Kubernetes sets these in every container of a namespace that has a Service named `registry`.
_SERVICE_LINKS = re.compile(r"REGISTRY_(?:SERVICE|PORT)_.+")


def var(name: str, default: str, doc: str, parse: Callable[[str], Any] = types.text, *, secret: bool = False) -> Any:
    """A settings field read from the variable `name`; `default` is its text when unset."""
    metadata = {"name": name, "default": default, "doc": doc, "parse": parse, "secret": secret}
    return field(metadata=metadata, repr=not secret)


def read_part(part: Any, environ: Mapping[str, str], problems: list[str]) -> Any:
    """An instance of the dataclass `part`; None if a variable is wrong, which is appended to `problems`."""
    values: dict[str, Any] = {}
    for item in fields(part):
        name = item.metadata["name"]
        file = environ.get(f"{name}_FILE") if item.metadata["secret"] else None
        try:
            values[item.name] = _parse(item, read_secret(file) if file else environ.get(name, ""))
        except ValueError as wanted:
            problems.append(f"{name}{'_FILE' if file else ''} wants {wanted}")
    return part(**values) if len(values) == len(fields(part)) else None


def unknown(environ: Iterable[str], known: Iterable[Field[Any]]) -> Iterator[tuple[str, str]]:
    """(name, the nearest setting or "") of each REGISTRY_* variable that is not a setting, such as a mistyped one."""
    names = {"REGISTRY_ENV", *(item.metadata["name"] for item in known)}
    names = {name for name in names if name.startswith("REGISTRY_")}
    names |= {f"{item.metadata['name']}_FILE" for item in known if item.metadata["secret"]}
    for name in sorted(environ):
        if name.startswith("REGISTRY_") and name not in names and not _SERVICE_LINKS.fullmatch(name):
            # Compared without the common prefix, which makes all names similar.
            endings = sorted(known_name.removeprefix("REGISTRY_") for known_name in names)
            nearest = difflib.get_close_matches(name.removeprefix("REGISTRY_"), endings, n=1)
            yield name, f"REGISTRY_{nearest[0]}" if nearest else ""


def _parse(item: Field[Any], value: str) -> Any:
    # Blanks around a secret may be part of it.
    text = value if item.metadata["secret"] else value.strip()
    return item.metadata["parse"](text or item.metadata["default"])
