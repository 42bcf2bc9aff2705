"""The lines that differ between two texts, in groups with their surroundings (hunks)."""

import difflib
from collections.abc import Sequence

from typing_extensions import TypedDict

CONTEXT = 3
SAME, ADDED, REMOVED, NOTE = " ", "+", "-", "\\"
Group = Sequence[tuple[str, int, int, int, int]]


class Hunk(TypedDict):
    """Adjacent lines. `old` and `new` are the numbers of its first line in the two texts, from 1.

    Each line is its sign (SAME, ADDED or REMOVED) and its text without the line end. A line with the sign NOTE is about
    the line before it.
    """

    old: int
    new: int
    lines: list[tuple[str, str]]


def hunks(old: str, new: str) -> list[Hunk]:
    """The hunks of two texts. Takes long for texts that repeat few different lines: limit its time."""
    before, after = split(old), split(new)
    start, end = _ends(before, after)
    matcher = difflib.SequenceMatcher(None, before[start : len(before) - end], after[start : len(after) - end])
    changed = [
        (kind, a + start, b + start, c + start, d + start)
        for kind, a, b, c, d in matcher.get_opcodes()
        if kind != "equal"
    ]
    return [_hunk(group, before, after) for group in _groups(changed)]


def replacement(old: str, new: str) -> list[Hunk]:
    """One hunk that replaces everything between the common beginning and the common end. Takes linear time."""
    before, after = split(old), split(new)
    start, end = _ends(before, after)
    changed = ("replace", start, len(before) - end, start, len(after) - end)
    return [_hunk([changed], before, after)] if before != after else []


def split(text: str) -> list[str]:
    """The lines of a text, each with its line end. Only LF ends a line, as in other programs that show differences."""
    lines = text.split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _ends(before: Sequence[str], after: Sequence[str]) -> tuple[int, int]:
    """The number of equal lines at the beginning, and of other equal lines at the end."""
    start, shorter = 0, min(len(before), len(after))
    while start < shorter and before[start] == after[start]:
        start += 1
    end, most = 0, shorter - start
    while end < most and before[-1 - end] == after[-1 - end]:
        end += 1
    return start, end


def _groups(changed: Group) -> list[list[tuple[str, int, int, int, int]]]:
    """The changes, in groups. Changes with at most 2 * CONTEXT lines between them are in one group."""
    groups: list[list[tuple[str, int, int, int, int]]] = []
    for change in changed:
        if groups and change[1] - groups[-1][-1][2] <= 2 * CONTEXT:
            groups[-1].append(change)
        else:
            groups.append([change])
    return groups


def _hunk(group: Group, before: Sequence[str], after: Sequence[str]) -> Hunk:
    first, last = group[0], group[-1]
    lead = min(CONTEXT, first[1])
    position, lines = first[1] - lead, []
    for _, old_start, old_end, new_start, new_end in group:
        lines += [(SAME, line) for line in before[position:old_start]]
        lines += [(REMOVED, line) for line in before[old_start:old_end]]
        lines += [(ADDED, line) for line in after[new_start:new_end]]
        position = old_end
    lines += [(SAME, line) for line in before[position : last[2] + CONTEXT]]
    shown = [part for sign, line in lines for part in _shown(sign, line)]
    return {"old": first[1] - lead + 1, "new": first[3] - lead + 1, "lines": shown}


def _shown(sign: str, line: str) -> list[tuple[str, str]]:
    """The line, and a note if it is the last one and has no line end. The CR of a changed line is made visible."""
    text = line.removesuffix("\n")
    if text.endswith("\r"):
        text = text[:-1] if sign == SAME else f"{text[:-1]}␍"
    return [(sign, text)] if line.endswith("\n") else [(sign, text), (NOTE, "No line end at the end of the file")]
