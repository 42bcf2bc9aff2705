"""Texts of files as HTML: coloured where possible, with a number for each line."""

from cachetools import LRUCache
from markupsafe import Markup, escape

from registry.rendering.process import NotRendered, Workers
from registry.rendering.protocol import MAX_COLOURED

MAX_NUMBERED = 20_000
"""Browsers need too long to lay out more lines with numbers. A text with more is shown as one block."""
CACHE_BYTES = 16 << 20


class Sources:
    """Renders texts of files. Those that were seen recently are cached by (storage key, path)."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._cache: LRUCache[tuple[str, str], Markup] = LRUCache(CACHE_BYTES, getsizeof=lambda html: 2 * len(html))

    async def html(self, key: tuple[str, str], text: str) -> Markup:
        """The content of a `<pre>`. The elements of its lines have the ids L1, L2 and so on."""
        found: Markup | None = self._cache.get(key)
        if found is not None:
            return found
        is_final = True
        lines: list[str] | None = None
        try:
            if len(text) <= MAX_COLOURED:
                lines = await self._workers.call("highlight", text=text, filename=key[1].rpartition("/")[2])
        except NotRendered as refused:
            is_final = refused.is_final
        html = numbered(plain_lines(text) if lines is None else lines)
        if is_final and 2 * len(html) <= CACHE_BYTES:
            self._cache[key] = html
        return html


def plain_lines(text: str) -> list[str]:
    """The lines of a text as HTML. The same line ends count as in coloured texts."""
    return str(escape(text)).replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def numbered(lines: list[str]) -> Markup:
    """Lines of HTML, each in an element with an id. The style sheet shows their numbers."""
    if len(lines) > MAX_NUMBERED:
        return Markup("\n".join(lines))  # noqa: S704  # Pygments or plain_lines() escaped them
    shown = (f'<span class="l" id="L{number}">{line}\n</span>' for number, line in enumerate(lines, 1))
    return Markup("".join(shown))  # noqa: S704  # as above
