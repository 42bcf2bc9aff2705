"""The settings and the mapping of the search indices: packages.json and, with a sentence model, a field for vectors."""

import re
from collections.abc import Mapping
from typing import Any

import es_mappings
from registry.search.documents import PACKAGES
from registry.search.meaning.encoder import FIELDS, Encoder

_LAYOUT = re.compile(r"-v([0-9]{1,9})-[^-]*$")


def layout_of(index: str) -> int:
    """The number of the layout in the name of an index; 0 if it has none."""
    found = _LAYOUT.search(index)
    return int(found[1]) if found else 0


def body_of(kind: str, encoder: Encoder | None) -> dict[str, Any]:
    """The body that creates an index of `kind`: settings, mappings and, in "version", the number of the layout."""
    found = es_mappings.load(PACKAGES)
    if kind == PACKAGES and encoder is not None:
        found["mappings"]["properties"][encoder.field] = {
            "type": "dense_vector",
            "dims": encoder.dimensions,
            "element_type": "bfloat16",
            "similarity": "dot_product",
            "index_options": {"type": "bbq_flat"},
        }
    return found


def has_vectors_of(properties: Mapping[str, Any], encoder: Encoder | None) -> bool:
    """Whether an index of packages with these fields has vectors of this model alone; without a model, none at all."""
    return {name for name in properties if name.startswith(FIELDS)} == ({encoder.field} if encoder else set())
