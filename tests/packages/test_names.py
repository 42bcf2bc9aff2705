import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import InvalidInput
from registry.package_format.names import RESERVED, fold_name, similarity_key, validate_name

CONTRACT = re.compile(r"^[a-z0-9](?:[a-z0-9_-]{0,212}[a-z0-9])?\Z")


@pytest.mark.parametrize("name", ["a", "7", "my-library", "my_library", "a--b", "a" * 214])
def test_valid_names_are_accepted(name):
    assert validate_name(name) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "empty"),
        ("a" * 215, "214"),
        ("My-Library", "capital letters; 'my-library'"),
        ("-a", "begin and end"),
        ("a_", "begin and end"),
        ("a.b", "only the letters"),
        ("a b", "only the letters"),
        ("a/b", "only the letters"),
        ("a\n", "only the letters"),
        ("a\x00", "only the letters"),
        ("é", "only the letters"),
        ("İ", "only the letters"),
        ("٣", "only the letters"),
        ("\ud800", "only the letters"),
    ],
)
def test_invalid_names_are_refused_with_a_reason(name, message):
    with pytest.raises(InvalidInput, match=message) as refusal:
        validate_name(name)
    assert [error["field"] for error in refusal.value.errors] == ["name"]


@settings(deadline=None)
@given(st.text(max_size=6) | st.text("aZ9-_", max_size=230))
def test_exactly_the_documented_names_are_valid(name):
    if CONTRACT.match(name):
        assert validate_name(name) == name == fold_name(name)
    else:
        with pytest.raises(InvalidInput):
            validate_name(name)


@pytest.mark.parametrize(
    ("segment", "name"),
    [("My-Library", "my-library"), ("ABC", "abc"), ("\u212aelvin", None), ("a/b", None), ("", None), ("a\n", None)],
)
def test_reads_fold_only_ascii_capitals(segment, name):
    assert fold_name(segment) == name


def test_similarity_keys_treat_hyphens_and_underscores_alike():
    assert similarity_key("a_b-c") == similarity_key("a-b_c") != similarity_key("ab-c")


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_names_are_valid_names(name):
    assert validate_name(name) == similarity_key(name) == name
