"""The one place that turns a failure into an answer (RFC 9457, with `error` for older clients)."""

import logging

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler
from typing_extensions import TypedDict

from registry.errors import (
    FieldError,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    RegistryError,
    TooLarge,
    UnsupportedMediaType,
)

log = logging.getLogger(__name__)

PROBLEM = "application/problem+json"


class _ProblemRequired(TypedDict):
    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str
    request_id: str


class Problem(_ProblemRequired, total=False):
    """The body of every error."""

    errors: list[FieldError]


class _UriTooLong(RegistryError):
    status, code, title = 414, "uri_too_long", "URI too long"


class _HeadersTooLarge(RegistryError):
    status, code, title = 431, "headers_too_large", "Request headers too large"


def render(error: RegistryError, *, request_id: str, accept: str = "") -> web.Response:
    """The answer for `error`; `accept` is the request's Accept header."""
    body: Problem = {
        "type": f"urn:synapse-registry:error:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "error": error.detail,
        "request_id": request_id,
    }
    if error.errors:
        body["errors"] = error.errors
    return web.Response(
        body=orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS),
        status=error.status,
        headers=error.headers,
        content_type=PROBLEM if PROBLEM in accept else "application/json",
        charset=None if PROBLEM in accept else "utf-8",
    )


def from_http(error: web.HTTPException) -> RegistryError:
    """aiohttp's own 4xx as a named error."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return MethodNotAllowed(f"{error.method} is not possible here; use {allowed}.", headers={"Allow": allowed})
    if error.status == 404:
        return NotFound("Nothing is served at this address. /openapi.json lists what is.")
    if error.status == 413:
        return TooLarge("The request body is too large: 1 MiB is the most this address takes.")
    if error.status == 415:
        return UnsupportedMediaType("Send the body as application/json.")
    return InvalidInput(error.text or error.reason)


def from_protocol(status: int, error: BaseException | None) -> RegistryError:
    """What the HTTP parser refused before a request existed."""
    if isinstance(error, LineTooLong):
        if "request line" in str(error).lower() or "status line" in str(error).lower():
            return _UriTooLong("The address is too long: 8,190 bytes are the most.")
        return _HeadersTooLarge("A header is too large: 8,190 bytes are the most.")
    if isinstance(error, HttpProcessingError) or status < 500:
        return InvalidInput("The request is not well-formed HTTP.")
    return RegistryError("Something went wrong on our side.")


def _handle_error(
    self: RequestHandler,
    request: web.BaseRequest,
    status: int = 500,
    exc: BaseException | None = None,
    message: str | None = None,
) -> web.StreamResponse:
    if status >= 500:
        log.error("unhandled protocol error", exc_info=exc, extra={"reason": message})
    self.force_close()
    response = render(from_protocol(status, exc), request_id="none", accept=request.headers.get("Accept", ""))
    response.force_close()
    return response


def speak_json_for_malformed_http() -> None:
    """Replaces aiohttp's text/plain page for requests that don't parse; it offers no other hook for them."""
    RequestHandler.handle_error = _handle_error  # type: ignore[method-assign]
