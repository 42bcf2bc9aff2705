"""Colours source code: the tokens of a text as HTML, with the class names of Pygments and no style."""

from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import find_lexer_class_for_filename, get_lexer_by_name
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

from registry.rendering.protocol import MAX_COLOURED

MAX_HTML = 4 << 20
CLASSES = frozenset(name for name in STANDARD_TYPES.values() if name)

_FORMATTER = HtmlFormatter(nowrap=True)


def lines(text: str, filename: str) -> list[str] | None:
    """Each line as HTML whose elements are closed. None if no language has such file names or the text is too large."""
    if len(text) > MAX_COLOURED:
        return None
    found = find_lexer_class_for_filename(filename)
    return None if found is None else _coloured(text, found(stripnl=False, ensurenl=False))


def block(text: str, language: str) -> str:
    """A code block of a language as HTML. "" if the language is not known or the text is too large."""
    if len(text) > MAX_COLOURED:
        return ""
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return ""
    return "\n".join(_coloured(text, lexer) or [])


def _coloured(text: str, lexer: Lexer) -> list[str] | None:
    html = highlight(text, lexer, _FORMATTER)
    if len(html) > MAX_HTML:
        return None
    return html.removesuffix("\n").split("\n")
