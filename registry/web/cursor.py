"""The opaque cursor of a list: the sort values of the last row of a page, as text for the client."""

import base64
import binascii
from collections.abc import Sequence

import orjson

MAX_CURSOR = 1024
NOT_OURS = "is not a cursor of this registry"
_MAX_TEXT = 600
_MAX_NUMBER = 1 << 62

Position = tuple[int | str, ...]
"""The values that a row is sorted by. No other row of the list has the same values."""


def encode(sort: str, position: Sequence[int | str]) -> str:
    """The cursor that continues after `position` in a list sorted by `sort`."""
    return base64.urlsafe_b64encode(orjson.dumps([sort, *position])).rstrip(b"=").decode()


def decode(text: str, sort: str, kinds: Sequence[type]) -> Position:
    """The position in `text`, whose values are of `kinds` (int or str).

    Raises ValueError, with a text for the client, unless the cursor was made for `sort`.
    """
    content = _content(text)
    if content is None or not isinstance(content[0], str):
        raise ValueError(NOT_OURS)
    if content[0] != sort:
        raise ValueError(f"belongs to a list with another sort than {sort}")
    values = content[1:]
    if len(values) != len(kinds) or not all(_fits(*pair) for pair in zip(values, kinds, strict=True)):
        raise ValueError(NOT_OURS)
    return tuple(value for value in values if isinstance(value, int | str))


def _content(text: str) -> list[object] | None:
    """The list in a cursor, None if there is none or it is empty."""
    if len(text) > MAX_CURSOR or not text.isascii():
        return None
    try:
        content = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, orjson.JSONDecodeError):
        return None
    return content if isinstance(content, list) and content else None


def _fits(value: object, kind: type) -> bool:
    if type(value) is not kind:
        return False
    if isinstance(value, str):
        return len(value) <= _MAX_TEXT and "\0" not in value
    return isinstance(value, int) and abs(value) < _MAX_NUMBER
