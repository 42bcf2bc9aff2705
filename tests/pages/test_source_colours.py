"""The colours of source code and differences can be read in both themes (WCAG 2.2, 1.4.3)."""

import re

import pytest

from registry.pages import static

ENOUGH = 4.5
SHEET = static.load("style.css").body.decode()
TOKENS = dict(re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}, #[0-9a-f]{6})\)", SHEET))
SOURCE = [name for name in TOKENS if name.startswith("s-")]
PAIRS = [
    *((name, "code") for name in [*SOURCE, "ink", "ink-3"]),
    *((ink, ground) for ink in ("ink", "ink-2") for ground in ("added", "removed")),
]


def luminance(colour: str) -> float:
    values = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), PAIRS)
def test_contrast(ink: str, ground: str, theme: int):
    lighter, darker = sorted((luminance(TOKENS[name].split(", ")[theme]) for name in (ink, ground)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= ENOUGH


def test_there_are_colours_of_source_code():
    assert len(SOURCE) == 7
