"""Lists of the admins' pages: which part is wanted, and the address of the next one."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from registry.errors import FieldError, InvalidInput
from registry.web import paging
from registry.web.cursor import encode

SHOWN = 50

Row = TypeVar("Row")


def start_of(query: Mapping[str, str], sort: str) -> int:
    """The id below which the wanted rows are. `sort` tells the cursors of different lists apart.

    Raises InvalidInput.
    """
    errors: list[FieldError] = []
    start = paging.position_of(query, sort, errors, start=paging.NEWEST)
    if errors:
        raise InvalidInput.of(errors)
    return start


def page_of(
    found: Sequence[Row], path: str, query: Mapping[str, str], sort: str, *names: str
) -> tuple[Sequence[Row], str]:
    """(up to SHOWN rows, the address of the next page or ""). `found` has one row more if there is a next page.

    The address keeps the parameters `names` of the query.
    """
    shown = found[:SHOWN]
    if len(found) <= SHOWN:
        return shown, ""
    last: Any = shown[-1]
    number = last["id"] if isinstance(last, Mapping) else last.id
    kept = [(name, query[name]) for name in names if query.get(name)]
    return shown, f"{path}?{urlencode([*kept, ('cursor', encode(sort, (number,)))])}"
