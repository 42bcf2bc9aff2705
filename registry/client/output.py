"""What the commands print: text for people, or one JSON value for scripts."""

import json
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from registry.client.failures import ClientError

# Texts come from strangers. These characters could move the cursor, change colours or reorder the text.
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_WIDEST = 60
# Terminals with fewer columns get a progress bar without sizes and times, so that its rate fits.
_NARROW = 70
_SHORT_BAR = "{desc}: {percentage:3.0f}%|{bar}| {rate_fmt}"


class Bar(Protocol):
    """A progress bar in bytes."""

    def update(self, count: int, /) -> object: ...


class _NoBar:
    def update(self, _: int, /) -> None:
        pass


class Output:
    """Prints results on stdout, and notes, questions and progress on stderr."""

    def __init__(self, *, as_json: bool, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self._out = out or sys.stdout
        self._err = err or sys.stderr

    @property
    def is_terminal(self) -> bool:
        return self._out.isatty()

    def result(self, data: Any, text: str) -> None:
        """Prints `text`, or `data` with --json."""
        self._write(self._out, json.dumps(data) if self.as_json else text)

    def note(self, text: str) -> None:
        self._write(self._err, text)

    def failure(self, error: ClientError) -> None:
        """Prints why a command failed: on stderr, or as an object on stdout with --json."""
        if self.as_json:
            about = {"error": str(error), "code": error.code, "status": error.status, "errors": error.errors}
            self._write(self._out, json.dumps({**error.body, **about}))
            return
        # With errors of single fields, the text only repeats them in one line.
        for line in [f"{problem['field']}: {problem['message']}" for problem in error.errors] or [str(error)]:
            self._write(self._err, f"error: {line}")

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
        """The rows in columns, each row in one line. On a terminal the last column is cut to the width."""
        lines = [[" ".join(str(cell).split()) for cell in row] for row in (headings, *rows)]
        widths = [min(_WIDEST, max(map(width_of, column))) for column in zip(*lines, strict=True)][:-1]
        limit = shutil.get_terminal_size().columns if self.is_terminal else None
        return "\n".join(_row(line, widths, limit) for line in lines)

    def fields(self, rows: Sequence[tuple[str, str]]) -> str:
        """Labels and their values, each in one line. On a terminal, long values continue below their beginning."""
        column = max((len(label) for label, _ in rows), default=0) + 3
        limit = shutil.get_terminal_size().columns if self.is_terminal else sys.maxsize
        return "\n".join(
            textwrap.fill(
                " ".join(value.split()),
                max(limit, column + 20),
                initial_indent=f"{label}:".ljust(column),
                subsequent_indent=" " * column,
                # What is copied from the screen, such as a checksum or an address, stays in one piece.
                break_long_words=False,
                break_on_hyphens=False,
            )
            for label, value in rows
        )

    @contextmanager
    def progress(self, label: str, total: int, done: int = 0) -> Iterator[Bar]:
        """A bar with the rate, on a terminal. `total` and `done` are bytes."""
        if not self._err.isatty():
            yield _NoBar()
            return
        from tqdm import tqdm

        is_narrow = shutil.get_terminal_size().columns < _NARROW
        with tqdm(
            desc=label, total=total, initial=done, unit="B", unit_scale=True, file=self._err, leave=False,
            bar_format=_SHORT_BAR if is_narrow else None,
        ) as bar:  # fmt: skip
            yield bar

    @staticmethod
    def _write(stream: TextIO, text: str) -> None:
        safe = _CONTROL.sub("\ufffd", text)
        encoding = stream.encoding or "utf-8"
        stream.write(safe.encode(encoding, "replace").decode(encoding) + "\n")


def size(count: int) -> str:
    """A number of bytes for people, such as 1.2 kB."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5 or unit == "GB":
            break
    return f"{value:.1f} {unit}"


def deprecation(data: dict[str, Any]) -> str:
    """What to tell about a deprecated package or version; "" when it is not deprecated."""
    about = data.get("deprecation") or {}
    successor = f" Use {about['successor']} instead." if about.get("successor") else ""
    return f"{data['deprecated']}{successor}" if data["deprecated"] else ""


def width_of(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Me", "Mn"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _row(cells: Sequence[str], widths: Sequence[int], limit: int | None) -> str:
    padded = (cell + " " * (width - width_of(cell)) for cell, width in zip(cells, widths, strict=False))
    text = "  ".join([*padded, cells[-1]]).rstrip()
    return text if limit is None or width_of(text) <= limit else f"{_beginning(text, limit - 1)}…"


def _beginning(text: str, limit: int) -> str:
    """As much of the text as fits into `limit` columns."""
    left = limit
    for position, character in enumerate(text):
        left -= _columns(character)
        if left < 0:
            return text[:position]
    return text
