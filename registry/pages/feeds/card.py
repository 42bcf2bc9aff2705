"""Pictures for links that people share: a PNG with the name of a package, what it does and its weekly downloads."""

import asyncio
import io
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil

from cachetools import LRUCache
from PIL import Image, ImageDraw, ImageFont

from registry.web.responses import tag_of

WIDTH, HEIGHT = 1200, 630
MAX_TEXT = 240
MAX_CARDS = 500
AT_ONCE = 2

_PAPER, _INK, _QUIET, _ACCENT, _PALE = "#ffffff", "#1b1c1e", "#686c74", "#0b6e6e", "#a6cccc"
_MARGIN, _LINES = 80, 3
_BARS_HEIGHT, _SLOT = 110, 8
_BETWEEN = "   \N{MIDDLE DOT}   "
_LEAST_KNOWN = 0.8


@dataclass(frozen=True, slots=True)
class Card:
    """What a card shows. `facts` are in a line at its end, `weeks` are weekly downloads and may be empty."""

    site: str
    title: str
    text: str
    facts: tuple[str, ...]
    weeks: tuple[int, ...] = ()


class Cards:
    """Draws cards in threads, and keeps the newest ones."""

    def __init__(self) -> None:
        self._drawn: LRUCache[Card, tuple[bytes, str]] = LRUCache(MAX_CARDS)
        self._places = asyncio.Semaphore(AT_ONCE)

    async def png(self, card: Card) -> tuple[bytes, str]:
        """(the PNG, the tag of its bytes)."""
        if card not in self._drawn:
            async with self._places:
                if card not in self._drawn:
                    body = await asyncio.to_thread(draw, card)
                    self._drawn[card] = (body, tag_of(body))
        return self._drawn[card]


def draw(card: Card) -> bytes:
    """Blocking. Leaves out characters that the font doesn't have, and texts that mostly consist of them."""
    image = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    pen = ImageDraw.Draw(image)
    _mark(pen, _MARGIN, 74)
    pen.text((_MARGIN + 62, 76), _known(card.site), font=_font(34), fill=_INK, stroke_width=0.6)
    size = next((size for size in (84, 72, 60, 48) if _length(card.title, size) <= WIDTH - 2 * _MARGIN), 40)
    title = _cut(_known(card.title), size)
    pen.text((_MARGIN, 268), title, font=_font(size), fill=_INK, stroke_width=1.4, anchor="ls")
    for number, line in enumerate(_wrapped(_known(card.text), 36)):
        pen.text((_MARGIN, 308 + 50 * number), line, font=_font(36), fill=_QUIET)
    facts = _BETWEEN.join(filter(None, map(_known, card.facts)))
    room = WIDTH - 2 * _MARGIN - (_SLOT * (len(card.weeks) + 4) if any(card.weeks) else 0)
    pen.text((_MARGIN, HEIGHT - 74), _cut(facts, 30, room), font=_font(30), fill=_QUIET, anchor="ls")
    _bars(pen, card.weeks)
    pen.rectangle((0, HEIGHT - 12, WIDTH, HEIGHT), fill=_ACCENT)
    file = io.BytesIO()
    image.quantize(64).save(file, "PNG", optimize=True)
    return file.getvalue()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101 - the wheels of Pillow contain FreeType
    return font


@cache
def _has(character: str) -> bool:
    """Whether the font has a glyph of its own for the character. Unknown ones get the glyph of U+FFFF."""
    if character == " ":
        return True
    font = _font(36)
    return bool(bytes(font.getmask(character)) != bytes(font.getmask("\uffff")))


def _known(text: str) -> str:
    """The characters of a text that can be drawn; "" if many of them can't."""
    given = " ".join(text[:MAX_TEXT].split())
    known = " ".join("".join(each for each in given if each.isprintable() and _has(each)).split())
    return known if len(known) >= len(given) * _LEAST_KNOWN else ""


def _length(text: str, size: int) -> float:
    return float(_font(size).getlength(text))


def _cut(text: str, size: int, room: int = WIDTH - 2 * _MARGIN) -> str:
    """`text` in one line of `room` pixels, with an ellipsis at its end if it is too long."""
    if _length(text, size) <= room:
        return text
    fitting = bisect_right(range(len(text)), room, key=lambda count: ceil(_length(text[:count] + "...", size))) - 1
    return text[: max(fitting, 0)].rstrip() + "..."


def _wrapped(text: str, size: int) -> list[str]:
    """The lines of a text. What doesn't fit into _LINES is cut."""
    lines: list[str] = []
    words = text.split(" ")
    while words and len(lines) < _LINES:
        line = words.pop(0)
        while words and _length(f"{line} {words[0]}", size) <= WIDTH - 2 * _MARGIN:
            line += f" {words.pop(0)}"
        lines.append(line)
    if words:
        lines[-1] += " " + words[0]
    return [_cut(line, size) for line in lines]


def _bars(pen: ImageDraw.ImageDraw, weeks: Sequence[int]) -> None:
    top = max(weeks, default=0)
    if not top:
        return
    base, left = HEIGHT - 68, WIDTH - _MARGIN - _SLOT * len(weeks)
    for number, value in enumerate(weeks):
        height = max(round(value / top * _BARS_HEIGHT), 3)
        x = left + _SLOT * number
        colour = _ACCENT if number == len(weeks) - 1 else _PALE
        pen.rectangle((x, base - height, x + _SLOT - 3, base), fill=colour)


def _mark(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    """The mark of the registry: four dots that three lines join."""
    centre, ends = (x + 22, y + 24), ((x + 6, y + 8), (x + 40, y + 4), (x + 22, y + 44))
    for end in ends:
        pen.line((*centre, *end), fill=_ACCENT, width=4)
        pen.circle(end, 6, fill=_INK)
    pen.circle(centre, 7, fill=_ACCENT)
