import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.rendering import differ

TEXTS = st.lists(st.sampled_from("abc\r"), max_size=40).map("\n".join)


def patched(old, hunks):
    """`old` with the hunks applied, as a program that patches files does it."""
    before, after, at, added = differ.split(old), [], 0, False
    for hunk in hunks:
        after += before[at : hunk["old"] - 1]
        at = hunk["old"] - 1
        assert len(after) == hunk["new"] - 1
        for sign, text in hunk["lines"]:
            if sign == differ.NOTE:
                if added:
                    after[-1] = after[-1].removesuffix("\n")
                continue
            added = sign != differ.REMOVED
            line = text.removesuffix("␍") + ("\r" if text.endswith("␍") else "") + "\n"
            if sign != differ.ADDED:
                assert before[at].rstrip("\r\n") == line.rstrip("\r\n")
                line = before[at]
                at += 1
            if added:
                after.append(line)
    return "".join([*after, *before[at:]])


@given(TEXTS, TEXTS)
@pytest.mark.parametrize("compare", [differ.hunks, differ.replacement])
def test_hunks_turn_the_old_text_into_the_new_one(compare, old, new):
    assert patched(old, compare(old, new)) == new


@given(TEXTS)
def test_equal_texts_have_no_hunks(text):
    assert differ.hunks(text, text) == differ.replacement(text, text) == []


def test_a_hunk_has_three_lines_around_it_and_its_line_numbers():
    old = "".join(f"{number}\n" for number in range(1, 41))
    new = old.replace("\n10\n", "\nten\n").replace("\n30\n", "\n")
    first, second = differ.hunks(old, new)
    assert (first["old"], first["new"]) == (7, 7)
    assert first["lines"] == [
        (" ", "7"), (" ", "8"), (" ", "9"), ("-", "10"), ("+", "ten"), (" ", "11"), (" ", "12"), (" ", "13"),
    ]  # fmt: skip
    assert (second["old"], second["new"]) == (27, 27)
    unified = list(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm=""))[2:]
    lines = [sign + text for hunk in (first, second) for sign, text in hunk["lines"]]
    assert lines == [line for line in unified if not line.startswith("@@")]


def test_a_missing_line_end_and_a_changed_one_are_visible():
    assert differ.hunks("a\n", "a")[0]["lines"] == [
        ("-", "a"), ("+", "a"), ("\\", "No line end at the end of the file"),
    ]  # fmt: skip
    assert differ.hunks("a\r\n", "a\n")[0]["lines"] == [("-", "a␍"), ("+", "a")]
