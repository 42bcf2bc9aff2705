"""Splits texts into the word pieces of a BERT vocabulary, as uncased BERT models expect. Pure functions.

A text is lower-cased, loses its accents, and is split into words at blanks and punctuation; each Chinese character is a
word. Then the longest piece of the vocabulary that a word begins with is cut off, again and again.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

UNKNOWN, START, END, PADDING = "[UNK]", "[CLS]", "[SEP]", "[PAD]"
CONTINUED = "##"
# Longer words are one unknown piece.
LONGEST_WORD = 100
# Bounds the work for a long text, of which only the first pieces count.
CHARACTERS_PER_PIECE = 32
_CHINESE = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class Vocabulary:
    """The pieces of a vocabulary. The number of a piece is its place in the list, from 0 on.

    Raises ValueError for a list without the special pieces.
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self._numbers = {piece: number for number, piece in enumerate(pieces)}
        if missing := {UNKNOWN, START, END, PADDING} - self._numbers.keys():
            raise ValueError(f"it has no piece {min(missing)}")
        self.last = max(self._numbers.values())

    @classmethod
    def read(cls, file: Path) -> "Vocabulary":
        """Reads a file with one piece in each line. Raises OSError, ValueError."""
        return cls(file.read_text(encoding="utf-8").rstrip("\n").split("\n"))

    def numbers(self, text: str, most: int) -> list[int]:
        """The numbers of the pieces of `text`: at most `most`, including the pieces for start and end."""
        found = [self._numbers[START]]
        for word in words(text[: most * CHARACTERS_PER_PIECE]):
            found += self._pieces(word)
            if len(found) >= most:
                break
        return [*found[: most - 1], self._numbers[END]]

    def is_familiar(self, text: str) -> bool:
        """Whether at least half of the words of `text` are whole pieces. It is false for a text without words."""
        found = [word for word in words(text) if any(character.isalnum() for character in word)]
        return bool(found) and 2 * sum(word in self._numbers for word in found) >= len(found)

    def _pieces(self, word: str) -> list[int]:
        unknown = [self._numbers[UNKNOWN]]
        if len(word) > LONGEST_WORD:
            return unknown
        found: list[int] = []
        at = 0
        while at < len(word):
            prefix = CONTINUED if at else ""
            ends = (end for end in range(len(word), at, -1) if prefix + word[at:end] in self._numbers)
            if (end := next(ends, None)) is None:
                return unknown
            found.append(self._numbers[prefix + word[at:end]])
            at = end
        return found


def words(text: str) -> Iterator[str]:
    """The words of `text` in lower case without accents. Punctuation marks and Chinese characters are words."""
    word = ""
    for character in unicodedata.normalize("NFD", "".join(map(_cleaned, text)).lower()):
        category = unicodedata.category(character)
        if category == "Mn":
            continue
        stands_alone = _is_punctuation(character, category) or _is_chinese(character)
        if (stands_alone or character.isspace()) and word:
            yield word
            word = ""
        if stands_alone:
            yield character
        elif not character.isspace():
            word += character
    if word:
        yield word


def _cleaned(character: str) -> str:
    """Blanks for white space, and nothing for characters that aren't text."""
    if character in "\t\n\r":
        return " "
    category = unicodedata.category(character)
    if character in "\0\ufffd" or category.startswith("C"):
        return ""
    return " " if category == "Zs" else character


def _is_punctuation(character: str, category: str) -> bool:
    """BERT also counts the ASCII symbols, such as $ and ^."""
    return category.startswith("P") or (
        character.isascii() and not character.isalnum() and character.isprintable() and character != " "
    )


def _is_chinese(character: str) -> bool:
    return character > "\u3000" and any(first <= ord(character) <= last for first, last in _CHINESE)
