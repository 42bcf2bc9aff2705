"""The parser of limit and offset, and the codec of cursors."""

import base64

import pytest
from multidict import MultiDict

from registry.errors import FieldError
from registry.packages.listing.page import decode_cursor
from registry.search.request import SearchRequest
from registry.web import cursor
from registry.web.parsing import TOO_LARGE, parse_number, parse_page
from tests.client import Registry
from tests.web.shape import case, check_error

LISTS = ("/packages?", "/search?q=demo&")


@pytest.mark.parametrize(
    ("given", "page"),
    [
        ({}, (20, 0)),
        ({"limit": "1"}, (1, 0)),
        ({"limit": "101"}, (100, 0)),
        ({"limit": "0" * 50 + "7"}, (7, 0)),
        ({"limit": "9" * 5000}, (100, 0)),
        ({"limit": "100", "offset": "9900"}, (100, 9900)),
    ],
)
def test_a_page_is_read(given: dict[str, str], page: tuple[int, int]):
    errors: list[FieldError] = []
    assert parse_page(given, errors) == page
    assert not errors


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"limit": ""}, "limit"),
        ({"limit": "0"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "+1"}, "limit"),
        ({"limit": "1.0"}, "limit"),
        ({"limit": " 1"}, "limit"),
        ({"limit": "１"}, "limit"),
        ({"offset": ""}, "offset"),
        ({"offset": "x"}, "offset"),
        ({"offset": "9981"}, "offset"),
        ({"offset": "9" * 5000}, "offset"),
    ],
)
async def test_an_invalid_page_names_the_wrong_field(given: dict[str, str], field: str):
    errors: list[FieldError] = []
    parse_page(given, errors)
    assert [error["field"] for error in errors] == [field]


def test_a_number_of_too_many_digits_is_too_large():
    errors: list[FieldError] = []
    assert parse_number(MultiDict({"seq": "9" * 18}), "seq", errors) == TOO_LARGE - 1
    assert parse_number(MultiDict({"seq": "1" + "0" * 18}), "seq", errors) == TOO_LARGE
    assert not errors


async def test_both_lists_refuse_invalid_pages_with_the_same_messages(registry: Registry):
    for wrong in ("limit=", "limit=0", "limit=x&offset=-1", "limit=100&offset=9901", "cursor=nonsense&sort=name"):
        with case(wrong):
            answers = [await registry.get(path + wrong) for path in LISTS]
            for answer in answers:
                check_error(answer, 400)
            assert answers[0].json["errors"] == answers[1].json["errors"]
    beyond = await registry.get("/packages?limit=100&offset=9901")
    assert "cursor" in beyond.json["detail"]


@pytest.mark.parametrize("position", [("demo", "demo"), (7, "demo"), (-1, "é")])
def test_a_cursor_leads_back_to_its_position(position: tuple[int | str, ...]):
    kinds = [type(value) for value in position]
    assert cursor.decode(cursor.encode("name", position), "name", kinds) == position


@pytest.mark.parametrize(
    "text",
    [
        "",
        "é",
        "a" * 2000,
        base64.urlsafe_b64encode(b"[]").decode(),
        base64.urlsafe_b64encode(b'{"a": 1}').decode(),
        cursor.encode("other", ("a", "b")),
        cursor.encode("name", ("a",)),
        cursor.encode("name", (1, "b")),
        cursor.encode("name", ("a", "b\0")),
        cursor.encode("name", ("a", "b" * 700)),
    ],
)
def test_an_invalid_cursor_is_refused(text: str):
    with pytest.raises(ValueError, match=r"^(is not|belongs to)"):
        cursor.decode(text, "name", (str, str))


def test_the_list_and_the_search_share_one_codec():
    made = cursor.encode("downloads", (7, "demo"))
    assert decode_cursor(made, "downloads") == (7, "demo")
    searched = cursor.encode("downloads", (7, "demo", "key"))
    assert SearchRequest.parse([("q", "x"), ("sort", "downloads"), ("cursor", searched)]).after == (7, "demo", "key")
