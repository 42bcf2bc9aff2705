"""The opaque cursor: where the last page ended in a total order, as the client carries it."""

import base64
import binascii

import orjson

MAX_CURSOR = 1024
_MAX_TEXT = 600
_MAX_NUMBER = 1 << 62

Position = tuple[int | str, ...]
"""The sort values of the last row: for `name` (name, sort_key), else (downloads or milliseconds, name, sort_key)."""


def encode(sort: str, position: Position) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([sort, *position])).rstrip(b"=").decode()


def decode(text: str, sort: str) -> Position:
    """The position in `text`. Raises ValueError, whose text is for the client, unless it was made for `sort`."""
    content = _content(text)
    if content is None or not isinstance(content[0], str):
        raise ValueError("is not a cursor of this registry")
    if content[0] != sort:
        raise ValueError(f"was made for another sort than {sort}")
    kinds = [str, str] if sort == "name" else [int, str, str]
    values = content[1:]
    if len(values) != len(kinds) or not all(_fits(*pair) for pair in zip(values, kinds, strict=True)):
        raise ValueError("is not a cursor of this registry")
    return tuple(value for value in values if isinstance(value, int | str))


def _content(text: str) -> list[object] | None:
    """The non-empty list inside, or None."""
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
