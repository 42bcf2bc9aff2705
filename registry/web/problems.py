"""Turns failures into JSON answers (RFC 9457, with the member `error` for older clients)."""

import logging
import secrets

import orjson
from aiohttp import HttpVersion11, hdrs, web, web_urldispatcher
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler
from typing_extensions import TypedDict

from registry.errors import (
    FieldError,
    Forbidden,
    Internal,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    RegistryError,
    TooLarge,
    UnsupportedMediaType,
)
from registry.web import metrics
from registry.web.responses import accepts

log = logging.getLogger(__name__)

PROBLEM = "application/problem+json"
# Most bytes of the request line and of one header. The parser's error has the exceeded limit, but does not say what was
# too long. The limits differ, so that from_protocol() can tell the request line from a header.
MAX_LINE = 8190
MAX_HEADER = 8192
TOO_MANY_HEADERS = "Too many headers"


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


def render(request: web.Request, error: RegistryError, request_id: str) -> web.Response:
    """The answer for `error`, as problem+json if the client accepts that, else as plain JSON."""
    response = problem_response(error, request_id, PROBLEM if accepts(request, PROBLEM) else "application/json")
    response.headers[hdrs.VARY] = hdrs.ACCEPT
    return response


def problem_response(error: RegistryError, request_id: str, content_type: str = "application/json") -> web.Response:
    """The answer for `error` in one of the two JSON media types, with the headers that every error has."""
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
        body=orjson.dumps({**error.members, **body}, option=orjson.OPT_NON_STR_KEYS),
        status=error.status,
        headers={
            "X-Request-ID": request_id,
            "X-Content-Type-Options": "nosniff",
            hdrs.CACHE_CONTROL: "no-store",
            **error.headers,
        },
        content_type=content_type,
        charset="utf-8" if content_type == "application/json" else None,
    )


def from_http(error: web.HTTPException) -> RegistryError:
    """The named error for a 4xx of aiohttp."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        # aiohttp-cors adds OPTIONS, for preflights only.
        allowed = ", ".join(sorted(error.allowed_methods - {hdrs.METH_OPTIONS}))
        return MethodNotAllowed(f"{error.method} is not allowed here. Use {allowed}.", headers={"Allow": allowed})
    if error.status == 403:  # only aiohttp-cors raises it
        return Forbidden(
            "The preflight is refused. REGISTRY_CORS_ORIGINS must list the page's origin, "
            "and this address must allow the method."
        )
    if error.status == 404:
        return NotFound("Nothing is served at this address. /openapi.json lists every address.")
    if error.status == 413:
        return TooLarge("The request body is too large. This address takes at most 1 MiB.")
    if error.status == 415:
        return UnsupportedMediaType("Send the body as application/json.")
    return InvalidInput(error.text or error.reason)


def from_protocol(status: int, error: BaseException | None) -> RegistryError:
    """The named error for a request that the HTTP parser refused."""
    if isinstance(error, LineTooLong):
        if MAX_LINE in error.args:
            return _UriTooLong(f"The address is too long. At most {MAX_LINE} bytes are allowed.")
        return _HeadersTooLarge(f"A header is too large. At most {MAX_HEADER} bytes are allowed.")
    if isinstance(error, HttpProcessingError) and TOO_MANY_HEADERS in error.message:
        return _HeadersTooLarge("There are too many headers.")
    if isinstance(error, HttpProcessingError) or status < 500:
        return InvalidInput("The request is not well-formed HTTP.")
    return Internal("Something went wrong on our side.")


def _handle_error(
    self: RequestHandler,  # noqa: ARG001 - it becomes a method
    request: web.BaseRequest,
    status: int = 500,
    exc: BaseException | None = None,
    message: str | None = None,
) -> web.StreamResponse:
    if isinstance(exc, ConnectionError):
        raise exc  # the client is gone, so nobody reads an answer
    if request.writer.output_size:
        raise ConnectionResetError(
            "Part of the answer is sent. Only a cut connection tells the client that the rest is missing."
        )
    failure = from_protocol(status, exc)
    if failure.status >= 500:
        log.error("unhandled protocol error", exc_info=exc, extra={"reason": message})
    metrics.REQUESTS.count("other", "malformed", failure.status)
    request_id = secrets.token_hex(16)
    log.info("malformed request", extra={"request_id": request_id, "status": failure.status, "client": request.remote})
    # The request's headers may be unknown, so its Accept header can't choose the media type.
    response = problem_response(failure, request_id)
    response.force_close()
    return response


async def send_continue(request: web.Request) -> None:
    """Answers `Expect: 100-continue`. Ignores other expectations (RFC 9110, 10.1.1), which aiohttp answers with 417."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


def install_error_handlers() -> None:
    """Makes aiohttp answer requests that no middleware sees with our JSON errors.

    aiohttp has no hook for this: docs/decisions/0007-malformed-http.md.
    """
    RequestHandler.handle_error = _handle_error  # type: ignore[method-assign]
    web_urldispatcher._default_expect_handler = send_continue
