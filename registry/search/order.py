"""Orders results by relevance: by score, and those with equal scores by downloads, name and version.

Elasticsearch only sorts by score, which costs less: it reads no other field of the packages that match. A page also
asks for the hits next to it. If a hit of the page and a hit next to it have the same score, the page depends on the
other criteria. Then Elasticsearch is asked again and sorts by all of them. So pages never overlap, whatever the order
in which Elasticsearch stores packages.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from registry.search.filters import Body
from registry.search.index import SearchIndex
from registry.search.query import by_relevance
from registry.web.parsing import MAX_WINDOW

Hits = list[dict[str, Any]]


async def search_in_order(index: SearchIndex, kind: str, body: Body) -> dict[str, Any]:
    """The answer to `body`, whose results are in the body's `sort`, or by relevance if it has none.

    Raises SearchUnavailable.
    """
    if "sort" in body:
        return await index.search(kind, body)
    offset, limit = body.get("from", 0), body["size"]
    first = max(offset - 1, 0)
    wider = {**body, "from": first, "size": min(offset + limit + 1, MAX_WINDOW) - first}
    answer = await index.search(kind, wider)
    hits = answer["hits"]["hits"]
    end = offset - first + limit
    if is_cut(hits, offset - first, end) or (offset + limit == MAX_WINDOW and len(hits) >= end):
        return await index.search(kind, by_relevance(body))
    answer["hits"]["hits"] = in_order(hits[offset - first : end])
    return answer


def is_cut(hits: Sequence[Mapping[str, Any]], start: int, end: int) -> bool:
    """Whether hits with equal scores are on both sides of `start` or `end`."""
    return any(hits[edge - 1]["_score"] == hits[edge]["_score"] for edge in (start, end) if 0 < edge < len(hits))


def in_order(hits: Hits) -> Hits:
    """`hits`, which are in the order of their scores, with equal scores in the order of the other criteria."""
    scores = [hit["_score"] for hit in hits]
    if len(set(scores)) == len(scores):
        return hits
    newest_first = sorted(hits, key=lambda hit: hit["_source"]["sort_key"], reverse=True)
    return sorted(newest_first, key=_place)


def _place(hit: Mapping[str, Any]) -> tuple[float, int, str]:
    source = hit["_source"]
    return -hit["_score"], -source["downloads"], source["name"]
