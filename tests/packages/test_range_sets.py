"""Which versions a range allows, and whether two ranges have a version in common."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.package_format import versions
from registry.package_format.range_sets import parse

NPM = json.loads(Path(__file__).with_name("npm_ranges.json").read_text(encoding="utf-8"))
VERSIONS = [versions.parse(text) for text in NPM["versions"]]
VERDICTS = {text: given for text, given in NPM["verdicts"].items() if given is not None and text.isascii()}


def test_a_range_allows_the_same_versions_as_in_npm():
    for text, verdicts in VERDICTS.items():
        assert "".join(str(int(parse(text).allows(version))) for version in VERSIONS) == verdicts, text


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(VERDICTS)), st.sampled_from(sorted(VERDICTS)))
def test_ranges_that_allow_one_version_meet(one, other):
    both = [a == b == "1" for a, b in zip(VERDICTS[one], VERDICTS[other], strict=True)]
    assert parse(one).meets(parse(other)) or not any(both)
    assert parse(one).meets(parse(other)) == parse(other).meets(parse(one))


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("^1.2.3", "1.9.0", True),
        ("^1.2.3", "2.0.0", False),
        ("^1.2.3", "<=1.2.3", True),
        (">1.2.3", "<=1.2.3", False),
        (">1.2.3 <1.2.4", "*", False),
        (">1.2.3 <1.2.5", "*", True),
        (">1.2.3", "<1.2.5", True),
        (">1.2.3", "<1.2.4", False),
        ("<0.0.0", "*", False),
        ("<=0.0.0", "*", True),
        # A prerelease needs an alternative of each range that names one of the same MAJOR.MINOR.PATCH.
        (">=1.0.0-beta <1.0.0", "*", False),
        (">=1.0.0-beta <1.0.0", ">1.0.0-alpha <1.0.0", True),
        (">=1.0.0-beta <1.0.0", ">1.0.1-alpha <1.0.2", False),
        (">1.0.0-beta <1.0.0-beta.0", "*", False),
        (">1.0.0-beta <1.0.0-beta.1", ">=1.0.0-alpha", True),
        (">1.0.0-beta <1.0.0-beta.0", ">=1.0.0-alpha", False),
        ("<1.0.0-alpha", ">=1.0.0-0 <1.0.0", True),
        ("<1.0.0-0", ">=1.0.0-0 <1.0.0", False),
        ("^1 || ^3", "2 || 3.4", True),
        ("^1 || ^3", "2 || 4", False),
        ("1.2.3+build", "1.2.3", True),
        (">9007199254740990.0.0", ">=9007199254740991.0.0", True),
    ],
)
def test_ranges_meet_if_some_version_is_in_both(one, other, meet):
    assert parse(one).meets(parse(other)) is meet
    assert parse(other).meets(parse(one)) is meet


@pytest.mark.parametrize(
    ("text", "highest"),
    [("^1.2", "2.0.0"), ("1 || 3.0.0", "3.0.0"), ("*", None), ("1 || >2", None), (">1 <=5.1.0 <9", "5.1.0")],
)
def test_no_allowed_version_is_above_the_highest_key(text, highest):
    assert parse(text).highest_key == (highest and versions.parse(highest).sort_key)


@pytest.mark.parametrize("text", ["one", "1.x.3", "1" * 257])
def test_what_is_no_range_is_named(text):
    with pytest.raises(ValueError, match=r"range"):
        parse(text)
