"""Removes the indices of tests from an Elasticsearch that many tests use."""

import json
import urllib.error
import urllib.request
from typing import Any

# Removing the indices of this many tests at once costs Elasticsearch about as much as those of one test.
PREFIXES = 20
# Elasticsearch refuses longer addresses than 4 KiB.
NAMES = 50


class IndexRemover:
    """Collects the index prefixes of finished tests and removes their indices and index templates together."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._prefixes: list[str] = []

    def remove_later(self, prefix: str) -> None:
        self._prefixes.append(prefix)
        if len(self._prefixes) == PREFIXES:
            self.remove()

    def remove(self) -> None:
        """Removes what is left to remove."""
        patterns = ",".join(f"{prefix}*" for prefix in self._prefixes)
        self._prefixes = []
        if not patterns:
            return
        names = sorted(self._call("GET", f"{patterns}?features=aliases"))
        for start in range(0, len(names), NAMES):
            self._call("DELETE", ",".join(names[start : start + NAMES]))
        self._call("DELETE", f"_index_template/{patterns}")

    def _call(self, method: str, path: str) -> Any:
        request = urllib.request.Request(f"{self._url}/{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 404:
                    raise
                return {}
