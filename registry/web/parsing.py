"""What comes in: bounded, typed, and refused with a name."""

import re
from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from registry.errors import FieldError, InvalidInput, TooLarge, UnsupportedMediaType

MAX_JSON_BODY = 1 << 20
MAX_LIMIT = 100
MAX_WINDOW = 10_000
_DIGITS = re.compile(r"[0-9]+")

LIMIT_SCHEMA = {"type": "integer", "minimum": 1, "default": 20}
OFFSET_SCHEMA = {"type": "integer", "minimum": 0, "maximum": MAX_WINDOW, "default": 0}

Model = TypeVar("Model", bound="Body")


class Body(BaseModel):
    """A JSON request body. Unknown members are ignored, types are not coerced."""

    model_config = ConfigDict(strict=True, extra="ignore")


async def read_body(request: web.Request, model: type[Model]) -> Model:
    """The JSON body as `model`; every wrong field at once."""
    return check(model, await read_json(request))


def check(model: type[Model], data: dict[str, Any]) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InvalidInput.of([_field_error(item) for item in error.errors(include_url=False)]) from None


def _field_error(item: Any) -> FieldError:
    field = ".".join(str(part) for part in item["loc"]) or "body"
    message = str(item["msg"]).removeprefix("Value error, ")
    return {"field": field, "message": "is required" if item["type"] == "missing" else message}


async def read_json(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object of at most 1 MiB.

    Raises UnsupportedMediaType, TooLarge, or InvalidInput for what is not a UTF-8 JSON object.
    """
    return parse_object(await read_raw_json(request))


async def read_raw_json(request: web.Request) -> bytes:
    """The bytes of a body that is announced as JSON, at most 1 MiB. Raises UnsupportedMediaType or TooLarge."""
    require_json(request)
    if (request.content_length or 0) > MAX_JSON_BODY:
        raise TooLarge("The request body is too large: 1 MiB is the most this address takes.")
    try:
        return await request.read()
    except web.RequestPayloadError as error:
        raise InvalidInput("The body ended early or is not well-formed.") from error


def require_json(request: web.Request) -> None:
    kind = request.content_type
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaType("Send the body as application/json (header Content-Type).")


def parse_object(raw: bytes) -> dict[str, Any]:
    """A JSON object from `raw`, without NUL in any text of it."""
    data = parse_json(raw)
    if not isinstance(data, dict):
        raise InvalidInput("The body must be a JSON object.")
    return data


def parse_json(raw: bytes) -> Any:
    """Any JSON value from `raw`, without NUL in any text of it."""
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"The body is not valid JSON: {error.msg}.") from None
    if b"\\u0000" in raw and _has_nul(data):
        raise InvalidInput("No text in the body may hold a NUL character.")
    return data


def _has_nul(value: Any) -> bool:
    # By a list, not by recursion: a body may be nested deeper than Python's stack.
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


def page_of(request: web.Request) -> tuple[int, int]:
    """(limit, offset) of the query; a limit above 100 is read as 100."""
    errors: list[FieldError] = []
    limit = _number(request, "limit", 20, 1, errors)
    offset = _number(request, "offset", 0, 0, errors)
    if not errors and min(limit, MAX_LIMIT) + offset > MAX_WINDOW:
        errors.append({"field": "offset", "message": f"offset + limit may not pass {MAX_WINDOW}; go on with `cursor`"})
    if errors:
        raise InvalidInput.of(errors)
    return min(limit, MAX_LIMIT), offset


def _number(request: web.Request, name: str, default: int, low: int, errors: list[FieldError]) -> int:
    value = request.query.get(name)
    if value is None:
        return default
    # More digits than any bound has are as good as the bound, and int() takes no more than some thousands.
    number = int(value.lstrip("0")[:18] or 0) if _DIGITS.fullmatch(value) else -1
    if number < low:
        errors.append({"field": name, "message": f"must be a whole number of at least {low}"})
        return default
    return number


def flag_of(request: web.Request, name: str) -> bool:
    """A query flag: `true` or `false`, absent is false."""
    value = request.query.get(name, "false")
    if value not in ("true", "false"):
        raise InvalidInput.field(name, "must be true or false")
    return value == "true"
