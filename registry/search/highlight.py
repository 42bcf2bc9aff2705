"""Marks words in a text as it was published, when they were found in its normal form."""

import re
import unicodedata
from collections.abc import Iterator
from html import escape, unescape

from registry.package_format.texts import normal_form

_EM = re.compile("</?em>")


def as_published(marked: str, published: str) -> str:
    """`marked` with the characters of `published`. It is HTML of the normal form, with <em> around words.

    Marks without a character between them become one. Returns `published` without marks if it does not have this
    normal form.
    """
    # Elasticsearch marks each letter of a run.
    marked = marked.replace("</em><em>", "")
    pieces = [unescape(piece) for piece in _EM.split(marked)]
    normal = "".join(pieces)
    if normal == published:
        return marked
    clusters = [(cluster, normal_form(cluster)) for cluster in _clusters(published)]
    if "".join(form for _, form in clusters) != normal:
        return escape(published)
    is_marked = [number % 2 == 1 for number, piece in enumerate(pieces) for _ in piece]
    parts: list[str] = []
    at, inside = 0, False
    for cluster, form in clusters:
        found = any(is_marked[at : at + len(form)]) if form else inside
        if found != inside:
            parts.append("<em>" if found else "</em>")
        parts.append(escape(cluster))
        at, inside = at + len(form), found
    return "".join(parts) + ("</em>" if inside else "")


def _clusters(text: str) -> Iterator[str]:
    """The parts of `text` whose normal forms together are the normal form of `text`."""
    start = 0
    for at in range(1, len(text)):
        if not _joins(text[at]):
            yield text[start:at]
            start = at
    if text:
        yield text[start:]


def _joins(character: str) -> bool:
    """Whether NFKC may join `character` to the one before it: marks, and vowels and finals of Hangul."""
    first = unicodedata.normalize("NFKD", character)[0]
    return bool(unicodedata.combining(first)) or "\u1160" <= first <= "\u11ff" or unicodedata.category(first) == "Mc"
