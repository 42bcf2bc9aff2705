"""What counts as a word, and the forms of a query."""

import re
import unicodedata

import pytest

import es_mappings
from registry.package_format.texts import normal_form
from registry.search.highlight import as_published
from registry.search.terms import Terms, consists_of_stop_words, has_stop_words, parse_terms, variants
from registry.search.words import STOP_WORDS, letters, runs, spaced, spelled_out, without_runs


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("me\u0301te\u0301o", "météo"),
        ("ＪＳＯＮ", "JSON"),
        ("ﾃﾞｰﾀ", "データ"),
        ("con\ufb01g", "config"),
        ("pack\u00adage", "package"),
        ("葛\U000e0100", "葛"),
        ("plain", "plain"),
    ],
)
def test_forms_of_the_same_characters_are_one_text(text: str, form: str) -> None:
    assert normal_form(text) == form


def test_a_query_with_a_long_normal_form_is_cut() -> None:
    assert len(parse_terms("\u3300" * 512).text) == 512


def test_queries_are_parsed_in_normal_form() -> None:
    assert parse_terms("ｈｔｔｐ me\u0301te\u0301o") == Terms(text="http météo")
    assert parse_terms("－draft ＂a b＂") == Terms(text="a b", phrases=("a b",), excluded=("draft",))
    assert parse_terms("keyword:me\u0301te\u0301o").fields == (("keyword", "météo"),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("C++ and c++17", "Cpp and cpp17"),
        ("C# or F#", "Csharp or Fsharp"),
        ("C#9 or a#b", "Csharp9 or a#b"),
        (".NET, (.net)", "dotnet, ( dotnet)"),
        ("example.net ASP.NET gtk+ issue #12 a+b", "example.net ASP.NET gtk+ issue #12 a+b"),
    ],
)
def test_languages_named_with_signs_are_words(text: str, words: str) -> None:
    assert spelled_out(text) == words


def test_fields_are_not_spelled_out_but_exclusions_are() -> None:
    assert parse_terms("keyword:c++ -.NET C#") == Terms(
        text="Csharp", excluded=("dotnet",), fields=(("keyword", "c++"),)
    )


def test_runs_are_told_apart_from_other_words() -> None:
    assert runs("redis客户端 for 网络") == ["客户端", "网络"]
    assert without_runs("redis客户端 for 网络") == "redis for"
    assert spaced("redis客户端 for 网络") == "redis 客 户 端 for 网 络"
    assert letters("เสื้อ") == ["เ", "สื้", "อ"]
    assert runs("plain é हिन्दी ёлка") == []


def test_the_index_knows_the_same_run_scripts_and_stop_words() -> None:
    analysis = es_mappings.load("packages")["settings"]["analysis"]
    for code in range(0x30000):
        if unicodedata.category(chr(code))[0] in "LN":
            assert (len(runs(chr(code))) == 1) == _in_java_class(code, analysis["tokenizer"]["pkg_split"]["pattern"])
    assert analysis["filter"]["en_stop"]["stopwords"] == "_english_"
    assert len(STOP_WORDS) == 33


def _in_java_class(code: int, pattern: str) -> bool:
    """Whether `code` is in the first class of the form (?<=[...]) of a pattern of Java."""
    found = re.findall(r"\\(?:u|x\{)([0-9A-F]+)", pattern.split("(?<=[")[1].split("]")[0])
    bounds = [int(bound, 16) for bound in found]
    return any(low <= code <= high for low, high in zip(bounds[::2], bounds[1::2], strict=True))


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("web socket", ["websocket"]),
        ("SHA-256", ["SHA256"]),
        ("web socket server", ["websocket server", "web socketserver"]),
        ("nodejs18", ["nodejs 18"]),
        ("websocket", []),
        ("one two three four", []),
        ("网络 库", []),
    ],
)
def test_compounds_have_other_spellings(text: str, others: list[str]) -> None:
    assert variants(text) == others


def test_stop_words_are_noticed_within_a_phrase() -> None:
    assert has_stop_words("state of the art")
    assert not has_stop_words("often other")


def test_a_text_of_stop_words_may_have_punctuation() -> None:
    assert consists_of_stop_words("To be, or not to be!")
    assert not consists_of_stop_words("to be, or what")


@pytest.mark.parametrize(
    ("marked", "published", "expected"),
    [
        (
            "Le <em>météo</em> d&#x27;été",
            "Le me\u0301te\u0301o d'e\u0301te\u0301",
            "Le <em>me\u0301te\u0301o</em> d&#x27;e\u0301te\u0301",
        ),
        ("<em>JSON</em>解析", "ＪＳＯＮ解析", "<em>ＪＳＯＮ</em>解析"),
        ("&lt;b&gt; <em>データ</em>", "<b> ﾃﾞｰﾀ", "&lt;b&gt; <em>ﾃﾞｰﾀ</em>"),
        (
            "<em>분석</em>기",
            unicodedata.normalize("NFD", "분석기"),
            f"<em>{unicodedata.normalize('NFD', '분석')}</em>{unicodedata.normalize('NFD', '기')}",
        ),
        ("<em>same</em>", "same", "<em>same</em>"),
        ("<em>数</em><em>据</em>库", "数据库", "<em>数据</em>库"),
        ("<em>other</em>", "ﬁ & more", "ﬁ &amp; more"),
        ("<em>package</em>", "pack\u00adage", "<em>pack\u00adage</em>"),
    ],
)
def test_marks_are_moved_to_the_published_text(marked: str, published: str, expected: str) -> None:
    assert as_published(marked, published) == expected
