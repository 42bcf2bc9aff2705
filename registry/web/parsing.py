"""Parses request bodies and query parameters. Everything is bounded, and every refusal is a named error."""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from registry.errors import FieldError, InvalidInput, TooLarge, UnsupportedMediaType
from registry.web.route import Route, query

MAX_JSON_BODY = 1 << 20
DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_WINDOW = 10_000
MAX_DIGITS = 18
TOO_LARGE = 10**MAX_DIGITS
NO_NUL = "must not contain a NUL character"
MAX_NAMED = 100
_DIGITS = re.compile(r"[0-9]+")

PAGE_PARAMETERS = (
    query(
        "limit",
        {"type": "integer", "minimum": 1, "default": DEFAULT_LIMIT},
        f"Results on a page. More than {MAX_LIMIT} is read as {MAX_LIMIT}.",
    ),
    query(
        "offset",
        {"type": "integer", "minimum": 0, "maximum": MAX_WINDOW, "default": 0},
        f"Results to skip. limit + offset may not exceed {MAX_WINDOW}.",
    ),
)

_TIME = "must be a time with a time zone, such as 2026-01-31T12:00:00Z"
# The messages for pydantic's types of errors. The names in braces are in the context of the error.
_MESSAGES = {
    "missing": "is required",
    "value_error": "{error}",
    "string_type": "must be a string",
    "string_too_short": "is too short: the minimum length is {min_length}",
    "string_too_long": "is too long: the maximum length is {max_length}",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "dict_type": "must be an object",
    "extra_forbidden": "is unknown here; remove it",
    "literal_error": "must be {expected}",
    "list_type": "must be a list",
    "too_short": "has too few entries: the minimum is {min_length}",
    "too_long": "has too many entries: the maximum is {max_length}",
    "model_type": "must be an object",
    "timezone_aware": _TIME,
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "datetime_object_invalid": _TIME,
}
OTHER_MESSAGE = "has a value that is not allowed; /openapi.json describes the allowed values"

Model = TypeVar("Model", bound="Body")


class Body(BaseModel):
    """A JSON request body. Ignores unknown members. Does not convert types."""

    model_config = ConfigDict(strict=True, extra="ignore")


async def read_body(request: web.Request, model: type[Model]) -> Model:
    """The JSON body as `model`. Raises as read_json() does, and InvalidInput with an entry for each wrong field."""
    return check(model, await read_json(request))


def check(model: type[Model], data: dict[str, Any]) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InvalidInput.of([_field_error(item) for item in error.errors(include_url=False)]) from None


def _field_error(item: Any) -> FieldError:
    field = ".".join(str(part) for part in item["loc"]) or "body"
    message = _MESSAGES.get(item["type"], OTHER_MESSAGE)
    return {"field": field, "message": message.format(**item.get("ctx", {}))}


async def read_json(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object of at most 1 MiB.

    Raises UnsupportedMediaType, TooLarge, or InvalidInput for what is not a UTF-8 JSON object.
    """
    return parse_object(await read_raw_json(request))


async def read_raw_json(request: web.Request) -> bytes:
    """The bytes of a JSON body, at most 1 MiB. Raises UnsupportedMediaType, TooLarge or InvalidInput."""
    require_json(request)
    return await read_raw(request)


async def read_raw(request: web.Request) -> bytes:
    """The bytes of a body, at most 1 MiB. Raises TooLarge or InvalidInput."""
    if (request.content_length or 0) > MAX_JSON_BODY:
        raise TooLarge("The request body is too large. This address takes at most 1 MiB.")
    try:
        return await request.read()
    except web.RequestPayloadError as error:
        raise InvalidInput("The body ended early or is not well-formed.") from error


def require_json(request: web.Request) -> None:
    kind = request.content_type
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaType("Send the body as application/json (header Content-Type).")


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`. Raises InvalidInput, also when a text in it has a NUL character."""
    data = parse_json(raw)
    if not isinstance(data, dict):
        raise InvalidInput("The body must be a JSON object.")
    return data


def parse_json(raw: bytes) -> Any:
    """The JSON value in `raw`. Raises InvalidInput, also when a text in it has a NUL character."""
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"The body is not valid JSON: {error.msg}.") from None
    if b"\\u0000" in raw and (fields := _fields_with_nul(data)):
        raise InvalidInput.of([{"field": each, "message": NO_NUL} for each in fields])
    return data


def _fields_with_nul(data: Any) -> list[str]:
    """The members of the body that contain a NUL character, at most MAX_NAMED of them, and of each name."""
    if not isinstance(data, dict):
        return ["body"] if _has_nul(data) else []
    found = ("body" if _has_nul(name) else name[:MAX_NAMED] for name, value in data.items() if _has_nul([name, value]))
    return list(islice(found, MAX_NAMED))


def _has_nul(value: Any) -> bool:
    # A list instead of recursion: a body may be nested deeper than Python's stack.
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str) and "\0" in item:
            return True
        if isinstance(item, dict):
            pending += [*item, *item.values()]
        elif isinstance(item, list):
            pending += item
    return False


def refuse_repeated_parameters(request: web.Request, route: Route) -> None:
    """Raises InvalidInput if a query parameter of `route` that takes one value has several."""
    if not request.query_string:
        return
    repeated = [name for name in route.single_parameters if len(request.query.getall(name, ())) > 1]
    if repeated:
        raise InvalidInput.of([{"field": name, "message": "is given more than once"} for name in repeated])


def parse_page(given: Mapping[str, str], errors: list[FieldError]) -> tuple[int, int]:
    """(limit, offset) among query parameters. A limit above 100 is read as 100. Adds to `errors` what is wrong."""
    before = len(errors)
    limit = min(parse_number(given, "limit", errors, DEFAULT_LIMIT, low=1), MAX_LIMIT)
    offset = parse_number(given, "offset", errors)
    if len(errors) == before and limit + offset > MAX_WINDOW:
        errors.append({"field": "offset", "message": f"limit + offset may not exceed {MAX_WINDOW}; use `cursor`"})
    return limit, offset


def parse_number(
    given: Mapping[str, str], name: str, errors: list[FieldError], default: int = 0, *, low: int = 0
) -> int:
    """The whole number `name` among query parameters, `default` without one. Adds to `errors` what is wrong.

    A number of more than MAX_DIGITS digits is read as TOO_LARGE.
    """
    value = given.get(name)
    if value is None:
        return default
    digits = value.lstrip("0") if _DIGITS.fullmatch(value) else "-1"
    number = int(digits or 0) if len(digits) <= MAX_DIGITS else TOO_LARGE
    if number < low:
        errors.append({"field": name, "message": f"must be a whole number of at least {low}, in plain digits"})
        return default
    return number


def flag_of(request: web.Request, name: str) -> bool:
    """The query flag `name`: `true` or `false`, false without one. Raises InvalidInput."""
    value = request.query.get(name, "false")
    if value not in ("true", "false"):
        raise InvalidInput.field(name, "must be true or false")
    return value == "true"
