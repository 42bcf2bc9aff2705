import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import InvalidInput, InvalidManifest
from registry.package_format import manifest as manifests
from registry.package_format.fields import json_problem
from registry.package_format.manifest import (
    MAX_ERRORS,
    MAX_README,
    Manifest,
    Metadata,
    manifest_text_of_jsonb,
    parse_manifest,
)

OWN = {"name": "my-library", "version": "1.0.0", "description": "A library"}


def merge(request: dict[str, Any], members: dict[str, Any], **more: Any) -> Metadata:
    return manifests.merge(request, Manifest(members, json.dumps(members)), **more)


def problems(request, **manifest):
    """Returns the message of each wrong field, and whether the error is InvalidManifest."""
    with pytest.raises(InvalidInput) as refusal:
        merge(request, OWN | manifest)
    assert all(error["message"] and error["field"] in refusal.value.detail for error in refusal.value.errors)
    return {error["field"]: error["message"] for error in refusal.value.errors}, refusal.type is InvalidManifest


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def test_two_forms_of_one_keyword_are_one():
    metadata = merge({}, OWN | {"keywords": ["me\u0301te\u0301o", "rain", "météo", "rain"]})
    assert metadata.keywords == ("me\u0301te\u0301o", "rain")


def test_fields_that_were_left_out_are_empty():
    metadata = merge({}, OWN | {"author": None, "keywords": None, "dependencies": None})
    assert (metadata.name, str(metadata.version), metadata.description) == ("my-library", "1.0.0", "A library")
    assert (metadata.author, metadata.license, metadata.homepage, metadata.repository) == ("", "", "", "")
    assert (metadata.keywords, metadata.dependencies, metadata.readme) == ((), {}, "")


def test_request_fields_take_precedence_unless_they_are_null():
    manifest = OWN | {"author": "ada", "license": "MIT", "keywords": ["old"], "dependencies": {"a": "1"}}
    request = {"description": "Better", "author": None, "license": "", "keywords": ["new"], "dependencies": {}}
    metadata = merge(request, manifest)
    assert (metadata.description, metadata.author, metadata.license) == ("Better", "ada", "")
    assert (metadata.keywords, metadata.dependencies) == (("new",), {})
    assert metadata.manifest == json.dumps(manifest)


def test_objects_become_text():
    metadata = merge(
        {},
        OWN
        | {
            "author": {"name": "Ada", "email": "ada@example.com"},
            "license": {"type": "MIT", "url": "https://example.com"},
            "repository": {"type": "git", "url": "git+https://example.com/x.git"},
        },
    )
    assert (metadata.author, metadata.license) == ("Ada", "MIT")
    assert metadata.repository == "git+https://example.com/x.git"


def test_unknown_fields_are_kept_as_they_are():
    extra = {"scripts": {"build": "make"}, "x": [1, None, 2.5, {"ü": "\t\n"}], "readme": 7, "big": 2**63 - 1}
    assert json.loads(merge({"unheard": object()}, OWN | extra).manifest) == OWN | extra


@pytest.mark.parametrize("field", ["name", "version", "description"])
@pytest.mark.parametrize("value", [None, 1, "", "\x00", [], {}, True])
def test_the_manifest_must_have_the_required_fields(field, value):
    found, manifest_only = problems({}, **{field: value})
    assert set(found) == {field}
    assert "synapse.json" in found[field]
    assert manifest_only
    assert set(problems(OWN, **{field: value})[0]) == {field}


@pytest.mark.parametrize(("field", "value"), [("name", "my_library"), ("version", "1.0.0+build")])
def test_the_request_must_name_the_same_package(field, value):
    found, manifest_only = problems({field: value})
    assert found == {field: f"is {OWN[field]!r} in synapse.json but {value!r} in the request"}
    assert manifest_only


def test_the_request_must_have_the_required_fields():
    with pytest.raises(InvalidInput) as refusal:
        merge({"name": "my-library", "version": None}, OWN, required=("name", "version", "description"))
    assert [error["field"] for error in refusal.value.errors] == ["version", "description"]
    assert refusal.type is InvalidInput


def test_all_problems_of_request_and_manifest_are_listed():
    found, manifest_only = problems(
        {"author": 5, "keywords": "a b", "description": " "},
        license=["MIT"],
        dependencies={"Bad Name": "^1", "good": "not a range", "other": 1},
        extra=float("inf"),
    )
    assert set(found) == {
        *("author", "keywords", "description", "license", "extra"),
        *("dependencies.Bad Name", "dependencies.good", "dependencies.other"),
    }
    assert "'not a range'" in found["dependencies.good"]
    assert "synapse.json" in found["license"]
    assert not manifest_only


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", "x" * 2001),
        ("description", " \n\t"),
        ("author", "x" * 256),
        ("author", "two\nlines"),
        ("author", {"email": "ada@example.com"}),
        ("author", {"name": 1}),
        ("license", "x" * 256),
        ("license", {"url": "https://example.com"}),
        ("license", "\x1b[31m"),
        ("keywords", "a, b"),
        ("keywords", ["a", 1]),
        ("keywords", ["a", " "]),
        ("keywords", ["x" * 65]),
        ("keywords", ["a\nb"]),
        ("keywords", [str(number) for number in range(51)]),
        ("keywords", {"a": 1}),
        ("homepage", "javascript:alert(1)"),
        ("homepage", "example.com"),
        ("homepage", "http://"),
        ("homepage", "http://["),
        ("homepage", "http://host:port/"),
        ("homepage", "https://a b.example"),
        ("homepage", 'https://example.com/"onload="'),
        ("homepage", "java\tscript:alert(1)"),
        ("homepage", "https://example.com/" + "x" * 2000),
        ("homepage", {"url": "https://example.com"}),
        ("repository", "javascript:alert(1)"),
        ("repository", "JavaScript://example.com/%0aalert(1)"),
        ("repository", "data:text/html,x"),
        ("repository", "file:///etc/passwd"),
        ("repository", "repository"),
        ("repository", "user/repo\x7f"),
        ("repository", {"type": "git"}),
        ("repository", ["https://example.com"]),
        ("dependencies", ["a"]),
        ("dependencies", {f"a{number}": "*" for number in range(1001)}),
        ("readme", 5),
        ("readme", "\x00"),
        ("description", "half \ud83d a pair"),
        ("keywords", deep(101)),
        ("dependencies", {"a\x00": "1"}),
        ("author", {"name": "Ada", "\udc00": 1}),
    ],
)
def test_invalid_fields_are_refused(field, value):
    found, manifest_only = problems({field: value})
    assert {name.partition(".")[0] for name in found} == {field}
    assert not manifest_only
    json.dumps(found).encode()
    if field != "readme":
        assert problems({}, **{field: value})[1]


@pytest.mark.parametrize("homepage", ["", "https://example.com", "http://[::1]:8080/x?y#z", "HTTPS://bücher.example/ü"])
def test_valid_homepages_are_accepted(homepage):
    assert merge({"homepage": homepage}, OWN).homepage == homepage


@pytest.mark.parametrize(
    "repository",
    [
        "",
        "https://example.com/u/r.git",
        "git://example.com/r",
        "git+ssh://git@example.com:u/r.git",
        "ssh://git@example.com/r",
        "git@example.com:u/r.git",
        "u/r",
        "u/r#main",
        "github:u/r",
        "gitlab:group/sub/r",
        "example.com/u/r",
    ],
)
def test_valid_repositories_are_accepted(repository):
    assert merge({"repository": repository}, OWN).repository == repository


def test_repeated_keywords_count_once():
    assert merge({"keywords": ["b", "a"] * 40}, OWN).keywords == ("b", "a")


@pytest.mark.parametrize(
    "value", [10**309, -(10**309), float("nan"), float("-inf"), "\ud800", deep(100), {"a": {"\x00": 1}}]
)
def test_values_that_can_not_be_stored_are_refused_at_any_depth(value):
    assert json_problem(value)
    assert problems({}, extra={"list": [value]})[1]


def test_a_hundred_levels_are_accepted():
    assert json.loads(merge({}, OWN | {"extra": deep(99)}).manifest)["extra"] == deep(99)


def test_the_number_and_length_of_errors_are_limited():
    found, _ = problems({}, **{f"{'x' * 1000}{number}\ud800": 1 for number in range(1000)})
    assert len(found) <= MAX_ERRORS
    assert max(map(len, found)) <= 80


def test_the_readme_of_the_request_takes_precedence_and_is_cut_between_characters():
    assert merge({}, OWN, readme="# Archive").readme == "# Archive"
    assert merge({"readme": "# Request"}, OWN, readme="# Archive").readme == "# Request"
    assert merge({"readme": ""}, OWN, readme="# Archive").readme == ""
    assert merge({"readme": "x" + "ü" * MAX_README}, OWN).readme == "x" + "ü" * (MAX_README // 2 - 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "object"),
        (b'"text"', "object"),
        (b"null", "object"),
        (b"\xff{}", "UTF-8"),
        ('{"name": "x"}'.encode("utf-16"), "UTF-8"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b"[" * 100_000, "nested"),
        (b'{"a": 1} x', "not JSON"),
    ],
)
def test_invalid_manifests_are_refused(data, message):
    with pytest.raises(InvalidManifest, match=message):
        parse_manifest(data)


def test_the_text_is_kept_without_its_byte_order_mark():
    text = '{ "name":"b", "x": [1E+30, 0.10, 12345678901234567890123] }\n'
    assert parse_manifest(b"\xef\xbb\xbf" + text.encode()) == Manifest(json.loads(text), text)


def test_only_the_last_of_repeated_members_is_stored():
    found = parse_manifest(b'{"name": "a", "x": {"y": 1, "y": 12345678901234567890123}, "name": "b"}')
    assert found.members == {"name": "b", "x": {"y": 12345678901234567890123}}
    assert found.text == '{"name": "b", "x": {"y": 12345678901234567890123}}'


@pytest.mark.parametrize("number", ["1e309", "-1e999", "9" * 310, "9" * 5000, "-" + "9" * 400])
def test_a_number_too_large_for_a_double_is_refused(number):
    members = parse_manifest(b'{"a": ' + number.encode() + b"}").members
    assert "1.8e308" in problems({}, **members)[0]["a"]


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ('{"a": [1, 2.50, -9223372036854775808], "b": "x"}', '{"a": [1, 2.50, -9223372036854775808], "b": "x"}'),
        ('{"a": 1' + "0" * 308 + "}", '{"a": 1e+308}'),
        ('{"a": 0.' + "0" * 299 + "1}", '{"a": 1e-300}'),
        ('{"ü": "' + "1" * 30 + '"}', '{"ü": "' + "1" * 30 + '"}'),
    ],
)
def test_numbers_that_postgresql_wrote_in_full_are_shortened(stored, text):
    assert manifest_text_of_jsonb(stored) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from([*OWN, "author", "license", "homepage", "repository", "keywords", "dependencies", "readme"])


@settings(deadline=None)
@given(st.dictionaries(fields, json_values, max_size=4), st.dictionaries(fields | st.text(), json_values, max_size=4))
def test_any_json_is_metadata_or_a_named_problem(request_fields, manifest):
    try:
        outcome = merge(request_fields, OWN | manifest).manifest
    except InvalidInput as refusal:
        outcome = json.dumps(refusal.errors, allow_nan=False, ensure_ascii=False)
    assert orjson.loads(outcome)
