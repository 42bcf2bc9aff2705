"""The registry's API: its routes, the user's token, and its errors as failures of the client."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

from urllib3 import BaseHTTPResponse

from registry.client.address import API
from registry.client.failures import ClientError, NotAllowed, NotFound, TryLater
from registry.client.transport import Request, Transport, read_bounded

LOGIN = "/auth/login"
NO_REGISTRY = "Is this the address of a registry? Check --url."
MAX_ANSWER = 32 << 20
MAX_ERROR = 1 << 20
_CLASSES: dict[int, type[ClientError]] = {401: NotAllowed, 403: NotAllowed, 404: NotFound}
_TRANSIENT = {408, 429, 502, 503, 504}

T = TypeVar("T")


class Api:
    """Calls routes of the registry at `url`. `token` is sent to its origin only; "" sends none."""

    def __init__(self, transport: Transport, url: str, token: str) -> None:
        self.transport = transport
        self.url = url
        self._token = token

    def get(self, path: str, **query: object) -> Any:
        """The JSON of a route, with retries. Query parameters that are None are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        request = self.request("GET", path + (f"?{urlencode(given)}" if given else ""))
        return self.transport.retry(lambda: self.send(request, read_json))

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON of a route that changes something, in one attempt."""
        return self.send(self.request(method, path, body), read_json)

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None, **options: Any) -> Request:
        """A request of the route `path`, with the token. `options` are those of Request."""
        headers = {"Accept": "application/json", **options.pop("headers", {})}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
            options["content"] = lambda: data
        return Request(method, f"{self.url}{API}{path}", headers, **options)

    def send(self, request: Request, read: Callable[[BaseHTTPResponse], T]) -> T:
        """The result of `read` on a 2xx. Raises ClientError for every other answer."""

        def read_success(response: BaseHTTPResponse) -> T:
            if not 200 <= response.status < 300:
                raise _failure(response, is_login=request.address.endswith(LOGIN))
            return read(response)

        return self.transport.send(request, read_success)


class Members(dict[str, Any]):
    """A JSON object of an answer. A missing member is a failure with a text, not a KeyError."""

    def __missing__(self, name: str) -> Any:
        raise ClientError(f"The answer has no member {name!r}. {NO_REGISTRY}")


def read_json(response: BaseHTTPResponse) -> Any:
    """The body as a JSON object, without members when it is empty. Raises ClientError when it is something else."""
    data = read_bounded(response, MAX_ANSWER)
    if not data:
        return Members()
    try:
        found = json.loads(data, object_hook=Members)
    except (ValueError, RecursionError) as error:
        raise ClientError(f"The answer is not JSON. {NO_REGISTRY}") from error
    if not isinstance(found, dict):
        raise ClientError(f"The answer is not a JSON object. {NO_REGISTRY}")
    return found


def _failure(response: BaseHTTPResponse, *, is_login: bool) -> ClientError:
    status = response.status
    try:
        body = json.loads(read_bounded(response, MAX_ERROR))
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("code"), str):
        return _strange_failure(response)
    text = str(body.get("detail") or body.get("error") or f"The registry answered with status {status} and no reason.")
    if status == 401 and body.get("code") == "unauthorized" and not is_login:
        text += " Sign in with `synapse-registry login`."
    about: dict[str, Any] = {
        "code": body["code"],
        "status": status,
        "errors": _field_errors(body.get("errors")),
        "body": body,
    }
    if status in _TRANSIENT:
        return TryLater(text, retry_after=_seconds(response.headers.get("Retry-After", "")), **about)
    return _CLASSES.get(status, ClientError)(text, **about)


def _strange_failure(response: BaseHTTPResponse) -> ClientError:
    """The failure of an answer that is not a registry's: the page of a proxy or of another website."""
    status = response.status
    text = f"The answer has the status {status} and is not from a registry."
    if status in _TRANSIENT:
        return TryLater(text, status=status, retry_after=_seconds(response.headers.get("Retry-After", "")))
    # A page that is missing is not a package that is missing.
    kind = NotAllowed if status in (401, 403) else ClientError
    return kind(f"{text} {NO_REGISTRY}", status=status)


def _field_errors(errors: object) -> list[Any]:
    if not isinstance(errors, list):
        return []
    wanted = ("field", "message")
    return [error for error in errors if isinstance(error, dict) and all(isinstance(error.get(k), str) for k in wanted)]


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
