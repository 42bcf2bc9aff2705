"""The indices of Elasticsearch as JSON, one file a kind of index; README.md gives the reasons."""

import json
from importlib.resources import files
from typing import Any


def load(name: str) -> dict[str, Any]:
    """The settings and mappings of `name` (the file without `.json`), fresh at each call.

    Raises FileNotFoundError when there is no such file.
    """
    found: dict[str, Any] = json.loads(files(__package__).joinpath(f"{name}.json").read_text(encoding="utf-8"))
    return found
