"""The lexemes of texts, and the tsqueries for them."""

import pytest

from registry.search.fallback.asked import asked
from registry.search.fallback.lexemes import LONGEST_WORD, Texts, folded, vector, words
from registry.search.fallback.typos import is_similar
from registry.search.request import SearchRequest
from tests.search.words.corpus import nfd


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Météo", "Meteo"), (nfd("Météo"), "Meteo"), ("Straße", "Strasse"), ("łódź", "lodz"), ("ёлка", "елка"),
        ("βιβλιοθήκης", "βιβλιοθηκησ"), ("हिन्दी", "हिन्दी"), ("เสื้อ", "เสื้อ"), ("ﾃﾞｰﾀ", "データ"), ("ＨＴＴＰ", "HTTP"),
    ],
)  # fmt: skip
def test_accents_are_removed_and_vowel_signs_are_kept(text: str, plain: str) -> None:
    assert folded(text) == plain


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SHA-256, sha1", [("sha", False), ("256", True), ("sha1", False)]),
        ("C++ and C#", [("cpp", False), ("and", False), ("csharp", False)]),
        ("redis客户端", [("redis", False), ("客", False), ("户", False), ("端", False)]),
        ("हिन्दी पाठ", [("हिन्दी", False), ("पाठ", False)]),
        ("a . b", [("a", False), ("b", False)]),
    ],
)
def test_texts_are_split_into_words(text: str, found: list[tuple[str, bool]]) -> None:
    assert [(word.text, word.is_linked) for word in words(text)] == found


def test_parts_and_joined_words_have_positions_between_their_neighbours() -> None:
    texts = Texts("x", "my Node.js 18", (), "", "", "")
    lexemes = dict(each.split(":") for each in vector(texts).split(" ") if ":" in each)
    first = int(lexemes["'my'"].rstrip("A"))
    assert lexemes["'node'"] == f"{first + 1}A"
    assert lexemes["'nodej'"] == f"{first + 1}A,{first + 2}A"
    assert lexemes["'18'"] == f"{first + 3}A"


def test_repeated_words_and_huge_texts_stay_within_the_limits_of_postgresql() -> None:
    text = vector(Texts("x", "word " * 20_000 + "it's \\ end", ("k'1",), "", "", "y" * 5_000))
    assert all(int(place.rstrip("ABC")) < 16_384 for place in text.split("'word':")[1].split(" ")[0].split(","))
    assert max(len(each) for each in text.split("'")[1::2]) <= LONGEST_WORD + 1  # and a sign


@pytest.mark.parametrize(
    "q",
    [
        "x " * 256,
        "abcdefgh" * 64,
        "a-b " * 128,
        "a1" * 256,
        "é" * 512,
        "网" * 512,
        "\u3300" * 512,
        "wi-fi sha256 " * 40,
    ],
)
def test_the_tsqueries_of_the_longest_texts_are_bounded(q: str) -> None:
    assert len(asked(SearchRequest.parse([("q", q[:512])])).matching) < 50_000


@pytest.mark.parametrize(
    ("typed", "name", "similar"),
    [
        ("requests", "requests", True), ("reqeusts", "requests", True), ("reqeustss", "requests", True),
        ("rqeusst", "requests", False), ("flask", "flasky", True),
        ("flask", "flaskyy", False), ("nunpi", "numpy", False), ("numpy", "pandas", False),
    ],
)  # fmt: skip
def test_names_are_similar_up_to_two_letters(typed: str, name: str, similar: bool) -> None:
    assert is_similar(typed, name) is similar
