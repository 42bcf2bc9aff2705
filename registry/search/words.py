"""What counts as a word, in queries and in texts. Elasticsearch and PostgreSQL follow the same rules.

The analysis in es_mappings/packages.json repeats `spelled_out` and `spaced` for the texts that it indexes.
"""

import re
import unicodedata

# The stop words of Elasticsearch's English analysis.
STOP_WORDS = frozenset(
    (
        "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not",
        "of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was",
        "will", "with",
    )
)  # fmt: skip

# Scripts without blanks between words, or with long compounds: Thai and Lao, Burmese and Hangul letters, Khmer, kana
# and Bopomofo, Han, Hangul syllables.
RUN_SCRIPTS = (
    "\u0e00-\u0eff\u1000-\u11ff\u1780-\u17ff\u3005-\u3007\u3041-\u30fa\u30fc-\u318f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_MARKS = "\u0300-\u036f" + "".join(
    chr(code) for code in range(0x0E00, 0x3100) if unicodedata.category(chr(code)).startswith("M")
)
_LETTER = rf"(?=[^\W_])[{RUN_SCRIPTS}][{_MARKS}]*"
_RUN_LETTER = re.compile(_LETTER)
_RUN = re.compile(f"(?:{_LETTER})+")

# Further runs of a text are ignored: each one costs a lookup of phrases.
MAX_RUNS = 32

_PLUS_PLUS = re.compile(r"(?<![^\W_])([a-zA-Z])\+\+")
_SHARP = re.compile(r"(?<![^\W_])([a-zA-Z])#(?![^\W\d_])")
_DOT_NET = re.compile(r"(?<![^\W_])\.net(?![^\W_])", re.IGNORECASE)

LANGUAGES = frozenset(("cpp", "csharp", "fsharp", "dotnet"))


def spelled_out(text: str) -> str:
    """`text` with the names of languages as words: C++17 is cpp17, C# and F# are csharp and fsharp, .NET is dotnet."""
    if "+" in text:
        text = _PLUS_PLUS.sub(r"\1pp", text)
    if "#" in text:
        text = _SHARP.sub(r"\1sharp", text)
    return _DOT_NET.sub(" dotnet", text).strip() if "." in text else text


def names_a_language(text: str) -> bool:
    """Whether a word of `text`, which is spelled out, is the name of a language with a sign."""
    return not LANGUAGES.isdisjoint(text.lower().split())


def runs(text: str) -> list[str]:
    """The first MAX_RUNS runs of letters of RUN_SCRIPTS in `text`. Each is searched as a part of a longer run."""
    return [] if text.isascii() else _RUN.findall(text)[:MAX_RUNS]


def letters(run: str) -> list[str]:
    """The letters of a run, each with its marks."""
    return _RUN_LETTER.findall(run)


def without_runs(text: str) -> str:
    """The other words of `text`."""
    return text if text.isascii() else " ".join(_RUN.sub(" ", text).split())


def spaced(text: str) -> str:
    """`text` with blanks around each letter of a run, so that each is a word."""
    return text if text.isascii() else " ".join(_RUN_LETTER.sub(r" \g<0> ", text).split())
