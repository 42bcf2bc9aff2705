"""Lists in pages that have numbers."""

from urllib.parse import urlencode

from aiohttp import web

from registry.errors import FieldError, InvalidInput
from registry.web.parsing import parse_number
from registry.web.route import query

MAX_PAGE = 10_000
NUMBER = query("page", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}, "Which page of the list")


def page_number(request: web.Request) -> int:
    """The parameter `page`, 1 without it. Raises InvalidInput."""
    errors: list[FieldError] = []
    number = parse_number(request.query, "page", errors, 1, low=1)
    if errors or number > MAX_PAGE:
        raise InvalidInput.field("page", f"must be a whole number from 1 to {MAX_PAGE}")
    return number


def page_url(request: web.Request, number: int) -> str:
    """The address of this page with another number."""
    parameters = [(name, value) for name, value in request.query.items() if name not in ("page", "done")]
    return f"{request.path}?{urlencode([*parameters, ('page', str(number))])}"
