"""Reads the packages to measure relevance with: those of this machine's Debian index, or those of a registry."""

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator

from tests.bench.catalogue import Entry

# Nobody searches for packages of these sections by what they do.
LEFT_OUT = frozenset(("debug", "kernel", "localization", "metapackages", "oldlibs"))
DAMPING, ROUNDS = 0.85, 20
DOWNLOADS_OF_THE_LEAST = 100
PAGE = 100


def of_debian() -> list[Entry]:
    """The packages that apt knows, the most popular first. Popularity is the PageRank over dependencies."""
    dump = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, encoding="utf-8").stdout
    found = {fields["Package"]: fields for fields in _paragraphs(dump) if fields.get("Section") not in LEFT_OUT}
    depends = {
        name: [other for other in _depends(fields.get("Depends", "")) if other in found and other != name]
        for name, fields in found.items()
    }
    ranks = _page_ranks(depends)
    least = min(ranks.values())
    entries = {
        _name(name): Entry(
            _name(name),
            fields.get("Description", ""),
            tuple(tag.strip().partition("::")[2] for tag in fields.get("Tag", "").split(",") if "::" in tag),
            fields.get("Section", ""),
            round(DOWNLOADS_OF_THE_LEAST * ranks[name] / least),
        )
        for name, fields in found.items()
    }
    return sorted(entries.values(), key=lambda entry: (-entry.downloads, entry.name))


def of_registry(api: str) -> list[Entry]:
    """All packages that the registry at `api` lists, the most popular first."""
    entries: list[Entry] = []
    address = f"{api}/api/v1/packages?sort=downloads&limit={PAGE}"
    cursor = ""
    while cursor is not None:
        with urllib.request.urlopen(f"{address}&cursor={cursor}" if cursor else address, timeout=60) as answer:
            page = json.load(answer)
        entries += [
            Entry(p["name"], p["description"], tuple(p["keywords"]), "", p["total_downloads"]) for p in page["packages"]
        ]
        cursor = page["next_cursor"]
    return entries


def _paragraphs(dump: str) -> Iterator[dict[str, str]]:
    """The fields of each package. Lines that begin with a blank continue a field."""
    for paragraph in dump.split("\n\n"):
        lines = re.sub(r"\n\s+", " ", paragraph).splitlines()
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        if "Package" in fields:
            yield fields


def _depends(text: str) -> set[str]:
    """The names in a Depends field: `a (>= 1), b | c`."""
    return {part.split()[0].partition(":")[0] for part in re.split(r"[,|]", text) if part.strip()}


def _name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.replace("+", "p")).strip("-")


def _page_ranks(links: dict[str, list[str]]) -> dict[str, float]:
    ranks = dict.fromkeys(links, 1.0)
    for _ in range(ROUNDS):
        given = dict.fromkeys(links, 1 - DAMPING)
        for name, others in links.items():
            for other in others:
                given[other] += DAMPING * ranks[name] / len(others)
        ranks = given
    return ranks
