import json
import re
from pathlib import Path

import nodesemver
import pytest
import semver
from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry.errors import InvalidInput
from registry.package_format.ranges import MAX_RANGE, range_problem
from registry.package_format.versions import parse
from tests.deadline import deadline

# The examples of section 11 of SemVer, and cases that a comparison as text or as integers gets wrong.
PRECEDENCE = (
    "0.0.0 < 0.0.9 < 0.0.10 < 0.9.0 < 0.10.0 < 1.0.0-0 < 1.0.0-9 < 1.0.0-10 < 1.0.0-10.0 < 1.0.0-99999999999999999999"
    " < 1.0.0--1 < 1.0.0-0a < 1.0.0-A < 1.0.0-A-B < 1.0.0-AB < 1.0.0-alpha < 1.0.0-alpha.1 < 1.0.0-alpha.2"
    " < 1.0.0-alpha.10 < 1.0.0-alpha.beta < 1.0.0-alpha- < 1.0.0-beta < 1.0.0-beta.2 < 1.0.0-beta.11 < 1.0.0-rc.1"
    " < 1.0.0 < 1.0.1 < 2.0.0 < 2.1.0 < 2.1.1 < 10.0.0"
)
BUILD = re.compile(r"\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*")
ASCENDING = PRECEDENCE.split(" < ")
WRONG = (
    "1 1.0 1.0.0.0 v1.0.0 V1.0.0 =1.0.0 01.0.0 1.01.0 1.0.01 1.0.0-01 1.0.0- 1.0.0-a..b 1.0.0-. 1.0.0+ 1.0.0+a..b"
    " 1.0.0+a+b 1.0.0-é 1.0.x * latest -1.0.0 +1.0.0 1.0.0_1 ١.0.0 1.0.٠ 1.0.0-² 1.0.0-\ud800 1.0.0\x00"
)

numbers = st.integers(0, 3) | st.integers(0, 10**30)
identifiers = numbers.map(str) | st.from_regex(r"[0-9]{0,2}[A-Za-z-][0-9A-Za-z-]{0,3}", fullmatch=True)
prereleases = st.lists(identifiers, max_size=3).map(".".join).map(lambda text: text and "-" + text)
builds = st.sampled_from(["", "+build", "+001", "+a.b-c"])
texts = st.builds("{}.{}.{}{}{}".format, numbers, numbers, numbers, prereleases, builds).filter(lambda t: len(t) <= 128)

npm = json.loads(Path(__file__).with_name("npm_ranges.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", [*ASCENDING, "1.0.0+001", "1.0.0-a+b", "1.0.0-0-0", "1" * 124 + ".0.0"])
def test_valid_versions_are_accepted(text):
    version = parse(text)
    assert str(version) == version.text == text
    assert semver.Version.parse(text) == semver.Version(
        *map(int, (version.major, version.minor, version.patch)), version.prerelease or None, version.build or None
    )


@pytest.mark.parametrize(
    "text",
    [*WRONG.split(" "), "", " 1.0.0", "1.0.0 ", "1.0.0\n", "1. 0.0", "1" * 125 + ".0.0", "1.0.0-" + "a" * 123],
)
def test_invalid_versions_are_refused(text):
    with pytest.raises(InvalidInput) as refusal:
        parse(text)
    assert [error["field"] for error in refusal.value.errors] == ["version"]


def test_sorts_by_precedence():
    assert [str(version) for version in sorted(map(parse, reversed(ASCENDING)))] == ASCENDING


@settings(deadline=None)
@given(texts, texts)
@example("1.0.0-a", "1.0.0-a-")
@example("1.0.0-a.z", "1.0.0-a-b")
@example("1.0.0-a.0", "1.0.0-a.-")
def test_sort_keys_follow_precedence(a, b):
    keys = parse(a).sort_key.encode(), parse(b).sort_key.encode()
    assert (keys[0] > keys[1]) - (keys[0] < keys[1]) == semver.Version.parse(a).compare(b)
    assert (keys[0] == keys[1]) == (parse(a).canonical == parse(b).canonical)


def test_sort_keys_are_short_printable_ascii():
    keys = [parse(text).sort_key for text in [*ASCENDING, "0.0.0-" + ".".join("0" * 61), "1" * 124 + ".0.0"]]
    assert all(key.isascii() and key.isprintable() and " " not in key for key in keys)
    assert max(map(len, keys)) <= 400


def test_versions_that_differ_only_in_build_metadata_have_one_canonical_text():
    one, other = parse("1.0.0-rc.1+linux"), parse("1.0.0-rc.1+mac")
    assert one != other
    assert one.canonical == other.canonical == "1.0.0-rc.1"
    assert not one < other
    assert not other < one


@pytest.mark.parametrize(("text", "verdicts"), npm["verdicts"].items())
def test_ranges_match_the_same_versions_as_in_npm(text, verdicts):
    # npm accepts Unicode blanks as well. We refuse them, because readers can't see them.
    if verdicts is None or not text.isascii():
        assert range_problem(text)
    else:
        assert range_problem(text) is None
        plain = BUILD.sub("", text)
        read = nodesemver.make_range(plain, loose=False)
        assert "".join(str(int(bool(read.test(parse(version).canonical)))) for version in npm["versions"]) == verdicts


@pytest.mark.parametrize(
    "text", [" " * 257, "1" * 257, "\x00", "1\x00", "\ud800", "1 \x1c|| 2", "1\x85", "v" * 200 + "!", "v = " * 60, "é"]
)
def test_hostile_ranges_are_refused(text):
    assert range_problem(text)


@settings(deadline=None)
@given(st.text(max_size=300) | st.text("0123.xX*^~<>=v-+| \tab", max_size=MAX_RANGE))
def test_any_text_is_a_range_or_a_named_problem(text):
    problem = range_problem(text)
    assert problem is None or problem.isascii()


@pytest.mark.parametrize(
    "piece", ["v ", "= ", "v +a", "<- ", "1 ", "1||", "^1 ", "vvvvvvvv ", "1.1.1-", "~> ", " - ", "0-"]
)
@pytest.mark.parametrize("end", ["", "!"])
def test_no_range_makes_the_parser_hang(piece, end):
    with deadline(10):
        range_problem((piece * MAX_RANGE)[: MAX_RANGE - len(end)] + end)
