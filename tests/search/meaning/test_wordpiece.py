"""Word pieces. The expected numbers were made by the tokenizer that was published with the model."""

import gzip
from importlib import resources
from pathlib import Path

import pytest

from registry.search.meaning.wordpiece import Vocabulary, words

FILES = resources.files("registry.search.meaning") / "vocabulary"
KNOWN = [
    ("Fast, lightweight HTTP-client!", [101, 3435, 1010, 12038, 8299, 1011, 7396, 999, 102]),
    ("unaffable naïve Café", [101, 14477, 20961, 3468, 15743, 7668, 102]),
    ("高性能 for Python", [101, 1981, 100, 100, 2005, 18750, 102]),
    ("C++ and c# $100^2", [101, 1039, 1009, 1009, 1998, 1039, 1001, 1002, 2531, 1034, 1016, 102]),
    ("x" * 101 + " ok", [101, 100, 7929, 102]),
    ("e\u0301\t\u200bx\ufffdy", [101, 1041, 1060, 2100, 102]),
    ("don't re-invent", [101, 2123, 1005, 1056, 2128, 1011, 1999, 15338, 102]),
    ("", [101, 102]),
    ("한국어", [101, 1469, 30006, 30021, 29991, 30014, 30020, 29999, 30008, 102]),
]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    file.write_bytes(gzip.decompress((FILES / "vocab.txt.gz").read_bytes()))
    return Vocabulary.read(file)


@pytest.mark.parametrize(("text", "numbers"), KNOWN, ids=[ascii(text)[:20] for text, _ in KNOWN])
def test_a_text_has_the_numbers_of_the_published_tokenizer(
    vocabulary: Vocabulary, text: str, numbers: list[int]
) -> None:
    assert vocabulary.numbers(text, 64) == numbers


def test_a_long_text_is_cut_and_still_ends_with_the_end(vocabulary: Vocabulary) -> None:
    numbers = vocabulary.numbers("word " * 1_000, 64)
    assert (len(numbers), numbers[0], numbers[-1]) == (64, 101, 102)


@pytest.mark.parametrize(
    ("text", "familiar"),
    [
        ("make the monitor warmer", True),
        ("kubernetes cluster", True),
        ("qwzrtpl", False),
        ("xqzvw network qwertzy", False),
        ("?!", False),
        ("", False),
    ],
)
def test_a_text_is_familiar_if_half_of_its_words_are_pieces(vocabulary: Vocabulary, text: str, familiar: bool) -> None:
    assert vocabulary.is_familiar(text) is familiar


def test_words_are_split_at_blanks_punctuation_and_chinese_letters() -> None:
    assert list(words("Read_me: 日本 Ünï\u3000two")) == ["read", "_", "me", ":", "日", "本", "uni", "two"]


def test_a_vocabulary_without_special_pieces_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vocab.txt"
    file.write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"no piece \["):
        Vocabulary.read(file)
