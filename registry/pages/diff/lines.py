"""The lines of a comparison as rows of a table."""

from collections.abc import Sequence
from html import escape

from markupsafe import Markup

from registry.rendering.differ import ADDED, NOTE, REMOVED, Hunk

_CLASSES = {ADDED: "added", REMOVED: "removed", NOTE: "note"}
_WORDS = {ADDED: "added", REMOVED: "removed"}


def rows(hunks: Sequence[Hunk]) -> Markup:
    """Rows with the columns old line, new line, sign, text. A row of class "gap" stands where lines are left out."""
    parts: list[str] = []
    for hunk in hunks:
        old, new = hunk["old"], hunk["new"]
        if old > 1 or new > 1:
            parts.append('<tr class="gap"><td></td><td></td><td></td><td>…</td></tr>')
        for sign, text in hunk["lines"]:
            first = "" if sign in (ADDED, NOTE) else old
            second = "" if sign in (REMOVED, NOTE) else new
            kind = f' class="{_CLASSES[sign]}"' if sign in _CLASSES else ""
            shown = escape(text, quote=False)
            parts.append(f"<tr{kind}><td>{first}</td><td>{second}</td><td>{_sign(sign)}</td><td>{shown}</td></tr>")
            old += sign not in (ADDED, NOTE)
            new += sign not in (REMOVED, NOTE)
    return Markup("\n".join(parts))  # noqa: S704  # the texts are escaped


def _sign(sign: str) -> str:
    return "" if sign == NOTE else sign
