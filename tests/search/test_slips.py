"""The forms by which names with a typing error are found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.search.terms import LONGEST_TYPO, slips

NAMES = st.text("abcz1", min_size=4, max_size=12)


def share_a_form(one: str, other: str) -> bool:
    return bool(set(slips(one)) & set(slips(other)))


@given(name=NAMES, at=st.integers(1, 10), letter=st.sampled_from("abcxyz"))
def test_names_that_differ_by_one_letter_have_a_form_in_common(name: str, at: int, letter: str) -> None:
    at = min(at, len(name) - 1)
    before, there, after = name[:at], name[at], name[at + 1 :]
    assert share_a_form(name, before + after)
    assert share_a_form(name, before + letter + after)
    assert share_a_form(name, before + letter + there + after)
    if after:
        assert share_a_form(name, before + after[0] + there + after[1:])


@pytest.mark.parametrize("other", ["umpy", "bumpy", "numbly", "n"])
def test_other_first_letters_and_two_wrong_letters_have_no_form_in_common(other: str) -> None:
    assert not share_a_form("numpy", other)


def test_a_name_has_at_most_as_many_forms_as_letters() -> None:
    assert slips("abc") == ["abc", "ac", "ab"]
    assert slips("aabb") == ["aabb", "abb", "aab"]
    assert len(slips("ab" * (LONGEST_TYPO // 2))) == LONGEST_TYPO
    assert slips("a" * (LONGEST_TYPO + 1)) == []
