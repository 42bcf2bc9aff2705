"""The order of results with equal scores."""

from typing import Any

import pytest

from registry.search.index import SearchIndex
from registry.search.order import in_order, is_cut
from registry.search.request import SearchRequest
from registry.web.parsing import MAX_WINDOW
from tests.search.conftest import Shelf

ALIKE = {"description": "Counts birds"}
# Published in this order. Every second package has more downloads.
NAMES = ["kiwi", "crow", "wren", "duck", "tern", "rook", "swan", "coot", "ibis"]


def hit(score: float, name: str, downloads: int = 0, sort_key: str = "1") -> dict[str, Any]:
    return {"_score": score, "_source": {"name": name, "downloads": downloads, "sort_key": sort_key}}


def test_equal_scores_are_in_the_order_of_downloads_name_and_version() -> None:
    expected = [hit(9, "z"), hit(5, "b", 7), hit(5, "a", 2, "2"), hit(5, "a", 2, "1"), hit(5, "c", 2), hit(1, "a")]
    mixed = [expected[0], *(expected[at] for at in (4, 3, 1, 2)), expected[5]]
    assert in_order(mixed) == expected


@pytest.mark.parametrize(
    ("scores", "start", "end", "cut"),
    [
        ([5, 4, 3], 0, 2, False),
        ([5, 4, 4], 0, 2, True),
        ([4, 4, 3], 0, 2, False),
        ([5, 5, 4, 3], 1, 3, True),
        ([5, 4, 3], 1, 3, False),
        ([5, 5], 0, 2, False),
        ([], 0, 2, False),
    ],
)
def test_a_page_is_cut_when_a_hit_next_to_it_has_the_same_score(
    scores: list[int], start: int, end: int, cut: bool
) -> None:
    assert is_cut([hit(score, "a") for score in scores], start, end) == cut


@pytest.fixture
async def alike(shelf: Shelf) -> Shelf:
    """Packages with the same description, each in a segment of its own."""
    for number, name in enumerate(NAMES):
        await shelf.publish(name, downloads=50 * (number % 2), **ALIKE)
        await shelf.drain()
    return shelf


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
async def test_pages_of_equal_scores_do_not_overlap(alike: Shelf, limit: int) -> None:
    expected = sorted(NAMES[1::2]) + sorted(NAMES[::2])
    found = []
    for offset in range(0, len(NAMES), limit):
        found += await alike.names("birds", limit=limit, offset=offset)
    assert found == expected


async def test_pages_do_not_overlap_when_elasticsearch_stores_packages_in_another_order(alike: Shelf) -> None:
    first = await alike.names("birds", limit=3)
    await alike.publish("crow", "2.0.0", downloads=50, **ALIKE)  # its document moves to the end
    await alike.drain()
    assert first + await alike.names("birds", limit=10, offset=3) == sorted(NAMES[1::2]) + sorted(NAMES[::2])


async def test_the_last_page_has_the_results_that_no_other_page_has(
    alike: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of the window no hit after the page can be asked for."""
    monkeypatch.setattr("registry.search.order.MAX_WINDOW", 6)
    found = [name for offset in (0, 3) for name in await alike.names("birds", limit=3, offset=offset)]
    assert found == (sorted(NAMES[1::2]) + sorted(NAMES[::2]))[:6]


async def test_the_last_page_is_answered(alike: Shelf) -> None:
    assert await alike.names("birds", limit=10, offset=MAX_WINDOW - 10) == []


@pytest.mark.parametrize(
    ("q", "requests"),
    [
        ("wren", ["query"]),
        ("counting birds", ["query"]),
        ("wrem", ["query", "suggest"]),  # found, but only with a typing error
        ("zzzzzz", ["query", "query suggest"]),
    ],
)
async def test_spellings_are_asked_for_only_if_nothing_matches_well(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, q: str, requests: list[str]
) -> None:
    await shelf.publish("wren", **ALIKE)
    await shelf.drain()
    asked, search = [], SearchIndex.search

    async def recorded(self: SearchIndex, kind: str, body: Any, **more: Any) -> Any:
        if "aggs" not in body:
            parts = ("query" if body["size"] else "", "suggest" if "suggest" in body else "")
            asked.append(" ".join(part for part in parts if part))
        return await search(self, kind, body, **more)

    monkeypatch.setattr(SearchIndex, "search", recorded)
    page = await shelf.find(q)
    assert asked == requests
    assert page.get("suggestion") == {"wrem": "wren"}.get(q)
    assert SearchRequest.parse([("q", q)]).wants_spelling
