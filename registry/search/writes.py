"""The writes of a bulk request, and its result for each document. Pure functions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from registry.elastic import IndexMissing, reason_of, refuses_document
from registry.errors import SearchUnavailable
from registry.search.documents import Document


@dataclass(frozen=True, slots=True)
class Write:
    """Puts a document, or deletes it when `document` is None. `seq` is the last event that it includes."""

    kind: str
    id: str
    package: str
    seq: int
    document: Document | None


@dataclass(slots=True)
class Outcome:
    """The result of a bulk: `failed` maps refused documents, as `kind:id`, to the reason."""

    failed: dict[str, str] = field(default_factory=dict)


def reference(write: Write) -> str:
    return f"{write.kind}:{write.id}"


def operation(write: Write, target: str) -> Iterator[Mapping[str, Any]]:
    action = {"_index": target, "_id": write.id, "version": write.seq, "version_type": "external_gte"}
    if write.document is None:
        yield {"delete": action}
    else:
        yield {"index": action}
        yield write.document


def refusal(result: Mapping[str, Any]) -> str | None:
    """The reason why Elasticsearch refuses this document for good.

    None if the write succeeded or was unnecessary: the index has a newer document, or there was none to delete.
    Raises SearchUnavailable for an error that is not about the document: the same write may succeed later.
    """
    error = result.get("error")
    if error is None or result["status"] == 409:
        return None
    # The second error means that the alias belongs to two indices. Both errors are about the index, not the document.
    if error["type"] == "index_not_found_exception" or "no write index is defined" in error["reason"]:
        raise IndexMissing(str(error["reason"]))
    if not refuses_document(error):
        raise SearchUnavailable(f"Elasticsearch accepts no search documents now: {reason_of(error)}")
    return reason_of(error)
