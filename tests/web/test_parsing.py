"""The parsers of query parameters, cursors and JSON bodies."""

import base64
from typing import Annotated, Any, Literal

import pytest
from multidict import MultiDict
from pydantic import AwareDatetime, Field

from registry.app import API
from registry.errors import FieldError, InvalidInput
from registry.packages.listing.page import decode_cursor
from registry.search.request import SearchRequest
from registry.web import cursor
from registry.web.parsing import OTHER_MESSAGE, TOO_LARGE, Body, check, parse_number, parse_object, parse_page
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


async def test_every_route_refuses_two_values_of_a_parameter_that_takes_one(registry: Registry):
    admin = await registry.user("ada", admin=True)
    await admin.publish("demo")
    checked = set()
    for route in API:
        address = registry.url + route.path.format(
            name="demo", version="1.0.0", id="1", badge="version", username="grace"
        )
        for parameter in (each for each in route.parameters if each["in"] == "query"):
            name = parameter["name"]
            with case((route.id, name)):
                answer = await admin.call(route.method, f"{address}?{name}=1&{name}=1")
                repeated = {"field": name, "message": "is given more than once"}
                if parameter["schema"]["type"] == "array":
                    assert repeated not in answer.json["errors"]
                elif route.path.startswith("/account/"):  # its errors are pages
                    assert answer.status == 400
                    assert repeated["message"].encode() in answer.body
                else:
                    check_error(answer, 400)
                    assert answer.json["errors"] == [repeated]
                checked.add((route.id, name))
    assert len(checked) > 30


async def test_filters_and_unknown_parameters_may_repeat(registry: Registry):
    await (await registry.user("ada")).publish("demo")
    for path in (
        "/packages?x=1&x=2",
        "/search?q=demo&x=1&x=2",
        "/search?q=demo&keyword=a&keyword=b&author=a&author=b&license=a&license=b",
        "/packages/demo?limit=1&limit=2",
    ):
        with case(path):
            assert (await registry.get(path)).status == 200


async def test_a_stranger_who_repeats_a_parameter_gets_401(registry: Registry):
    check_error(await registry.call("PUT", "/packages/demo/1.0.0?dry_run=true&dry_run=false"), 401)


class Nested(Body):
    text: Annotated[str, Field(max_length=2)]


class Everything(Body):
    """Has a field of each kind that request bodies have."""

    text: Annotated[str, Field(min_length=2, max_length=3)]
    number: Annotated[int, Field(ge=1, le=5)]
    flag: bool
    entries: Annotated[list[Nested], Field(min_length=1, max_length=2)]
    at: Annotated[AwareDatetime, Field(strict=False)]
    optional: str | None = None
    choice: Literal["owner", "maintainer"] = "owner"


GOOD = {"text": "abc", "number": 1, "flag": True, "entries": [{"text": "a"}], "at": "2026-01-31T12:00:00Z"}
TIME = "must be a time with a time zone, such as 2026-01-31T12:00:00Z"


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"text": 1}, "text", "must be a string"),
        ({"text": "a"}, "text", "is too short: the minimum length is 2"),
        ({"text": "abcd"}, "text", "is too long: the maximum length is 3"),
        ({"optional": []}, "optional", "must be a string"),
        ({"choice": "admin"}, "choice", "must be 'owner' or 'maintainer'"),
        ({"number": "1"}, "number", "must be a whole number"),
        ({"number": 1.5}, "number", "must be a whole number"),
        ({"number": True}, "number", "must be a whole number"),
        ({"number": 0}, "number", "must be at least 1"),
        ({"number": 6}, "number", "must be at most 5"),
        ({"flag": "true"}, "flag", "must be true or false"),
        ({"entries": {}}, "entries", "must be a list"),
        ({"entries": []}, "entries", "has too few entries: the minimum is 1"),
        ({"entries": [{"text": "a"}] * 3}, "entries", "has too many entries: the maximum is 2"),
        ({"entries": ["a"]}, "entries.0", "must be an object"),
        ({"entries": [{}]}, "entries.0.text", "is required"),
        ({"at": "2026-01-31T12:00:00"}, "at", TIME),
        ({"at": "2026-13-31T12:00:00Z"}, "at", TIME),
        ({"at": "soon"}, "at", TIME),
        ({"at": ""}, "at", TIME),
        ({"at": 1e300}, "at", TIME),
        ({"at": []}, "at", TIME),
        ({"at": {}}, "at", TIME),
    ],
)
def test_an_invalid_body_gets_a_plain_message(changes: dict[str, Any], field: str, message: str):
    assert check(Everything, dict(GOOD)).number == 1
    with pytest.raises(InvalidInput) as caught:
        check(Everything, {**GOOD, **changes})
    assert caught.value.errors == [{"field": field, "message": message}]


def test_every_field_with_a_nul_is_named():
    raw = b'{"a": "x\\u0000", "b": "x", "c": [{"d": "\\u0000"}], "e\\u0000": 1}'
    with pytest.raises(InvalidInput) as refused:
        parse_object(raw)
    assert [error["field"] for error in refused.value.errors] == ["a", "c", "body"]


async def test_no_route_answers_in_the_words_of_pydantic(registry: Registry):
    ada = await registry.user("ada", admin=True)
    await ada.publish("demo")
    values = (None, True, 1, 1.5, "", "x" * 100_000, [], [[]], [1], {}, {"a": 1})
    for route in API:
        model = (route.body or {}).get("application/json")
        if not (isinstance(model, type) and issubclass(model, Body)):
            continue
        address = registry.url + route.path.format(
            name="demo", version="1.0.0", id="1", badge="version", username="grace"
        )
        for value in values:
            with case((route.id, str(value)[:20])):
                answer = await ada.call(route.method, address, json=dict.fromkeys(model.model_fields, value))
                for wrong in answer.json.get("errors", []):
                    assert "nput should" not in wrong["message"]
                    assert wrong["message"] != OTHER_MESSAGE


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
