"""Turns a row of PostgreSQL into a document of the index. Both indices hold documents of the same shape."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from registry.db.engine import Row
from registry.package_format.texts import normal_form
from registry.packages.read import deprecation_of
from registry.search.terms import compact_form, slips

Document = dict[str, Any]

PACKAGES, VERSIONS = "packages", "versions"

# Limits of what is indexed, so that a huge value does not slow the index down. Lengths are in characters. Elasticsearch
# refuses keywords of more than 32,766 bytes.
MAX_DESCRIPTION = 5_000
MAX_README = 5_000
MAX_FIELD = 500
MAX_KEYWORD = 256
MAX_KEYWORDS = 100

# Popularity is relative to the clients of the package that has most, or to this number if it has fewer.
LEAST_MAX_CLIENTS = 1_000
LEAST_MAX_POPULARITY = math.log1p(LEAST_MAX_CLIENTS)

_QUALITY = {"readme": 0.3, "license": 0.2, "repository": 0.2, "keywords": 0.15, "homepage": 0.15}


def package_id(row: Row) -> str:
    return str(row.name)


def version_id(name: str, version: str) -> str:
    return f"{name}@{version}"


def document(row: Row) -> Document:
    """The document of a row of store.py: a package with its latest version, or a single version.

    Texts are in normal form; `published` has those that were published in another form, for the answers. A search
    divides `popularity` by the highest popularity, so documents stay valid when the maximum grows. `quality` is the
    share of the expected metadata that is present, from 0 to 1.
    """
    shown = {
        "description": row.description[:MAX_DESCRIPTION],
        "keywords": _distinct(row.keywords),
        "author": row.author[:MAX_FIELD],
        "license": row.license[:MAX_FIELD],
    }
    indexed = {
        "description": normal_form(shown["description"]),
        "keywords": _distinct(map(normal_form, row.keywords)),
        "author": normal_form(shown["author"]),
        "license": normal_form(shown["license"]),
    }
    return {
        **indexed,
        "published": {field: text for field, text in shown.items() if text != indexed[field]},
        "name": row.name,
        "slips": slips(compact_form(row.name)),
        "version": row.version,
        "sort_key": row.sort_key,
        "prerelease": row.is_prerelease,
        "yanked": row.yanked,
        "yank_reason": row.yank_reason,
        "deprecated": row.deprecated is not None,
        "deprecation": _deprecation(row),
        "readme": normal_form(row.readme[:MAX_README]),
        "downloads": row.downloads,
        "popularity": popularity(row.clients),
        "quality": quality(row),
        "published_at": timestamp(row.published_at),
        "created_at": timestamp(row.created_at),
        "updated_at": timestamp(row.updated_at),
    }


def _deprecation(row: Row) -> Document | None:
    found = deprecation_of(row)
    return None if found is None else {**found, "at": timestamp(found["at"])}


def popularity(clients: float) -> float:
    """The popularity of a package with so many clients, weighted by age: see store.CLIENTS."""
    return math.log1p(clients)


def quality(row: Row) -> float:
    return round(sum(weight for field, weight in _QUALITY.items() if getattr(row, field)), 2)


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def download_step(downloads: int) -> int:
    """The count on a logarithmic scale, ten steps for each power of ten. Counts in one step rank practically alike."""
    return round(10 * math.log10(1 + downloads))


def _distinct(keywords: Iterable[str]) -> list[str]:
    """Each keyword once, because repeating a keyword must not improve the score."""
    return list(dict.fromkeys(keyword[:MAX_KEYWORD] for keyword in keywords if keyword))[:MAX_KEYWORDS]
