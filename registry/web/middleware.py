"""The one middleware: request id, limits, credentials, errors, metrics and the access log."""

import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientPayloadError, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from registry.errors import (
    DatabaseUnavailable,
    Internal,
    InvalidInput,
    RegistryError,
    RequestTimeout,
    Unauthorized,
    UnsupportedMediaType,
)
from registry.web import connections, metrics, problems
from registry.web.connections import BodyTooSlow, BodyWatch
from registry.web.limits import ClientAddress, RateLimiter, network_key
from registry.web.route import OPEN, READ, SIGNED_IN, Handler, Route

access_log = logging.getLogger("registry.access")
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Context:
    """What is known of one request: of `headers`, which every answer gets, the first is its id."""

    request_id: str
    headers: dict[str, str]
    client: str
    country: str = ""
    principal: Any = None
    started: bool = False  # part of the answer is out


CONTEXT = web.RequestKey("context", Context)


class UnderWay:
    """How many requests are being answered; once `closing`, each answer is the last of its connection."""

    def __init__(self) -> None:
        self.count = 0
        self.closing = False
        metrics.IN_FLIGHT.set_function(lambda: self.count)


UNDER_WAY = web.AppKey("under_way", UnderWay)
Authenticate = Callable[[web.Request, str], Awaitable[Any]]

REQUEST_ID = "X-Request-ID"
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
NEEDS_CREDENTIALS = "Credentials are needed: send `Authorization: Bearer <token>`; POST /api/v1/auth/login gives one."


class Gate:
    """Everything a request passes before its handler, and its answer on the way out."""

    def __init__(
        self,
        routes: Mapping[Handler, Route],
        limiter: RateLimiter,
        clients: ClientAddress,
        under_way: UnderWay,
        *,
        authenticate: Authenticate,
        private: bool,
    ) -> None:
        self._routes = routes
        self._limiter = limiter
        self._clients = clients
        self._under_way = under_way
        self._authenticate = authenticate
        self._private = private

    def middleware(self) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            began = time.perf_counter()
            given = request.headers.get(REQUEST_ID)
            request_id = given if given and _SANE_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
            headers = {REQUEST_ID: request_id, "X-Content-Type-Options": "nosniff"}
            request[CONTEXT] = context = Context(request_id, headers, self._clients.of(request))
            route = self._routes.get(request.match_info.handler)
            status = 499  # the client left before there was an answer
            self._under_way.count += 1
            try:
                if request.content.is_eof():
                    response = await self._answer(request, context, handler, route)
                else:
                    with BodyWatch(request):
                        response = await self._answer(request, context, handler, route)
                status = response.status
                if not context.started:
                    response.headers.update(context.headers)
                if self._under_way.closing:
                    response.force_close()
                return response
            finally:
                self._under_way.count -= 1
                self._record(request, context, route, status, time.perf_counter() - began)

        return gate

    async def _answer(
        self, request: web.Request, context: Context, handler: Handler, route: Route | None
    ) -> web.StreamResponse:
        try:
            if route is not None:
                await self._admit(request, context, route)
            return await handler(request)
        except ConnectionError:
            raise  # the client is gone; there is nobody to answer
        except RegistryError as error:
            failure = error
        except web.HTTPException as error:
            failure = problems.from_http(error)
        except BodyTooSlow:
            detail = f"The body came too slowly: {connections.LEAST_RATE} bytes a second are the least."
            failure = RequestTimeout(detail, headers={"Connection": "close"})
        except (HttpProcessingError, ClientPayloadError, web.PayloadAccessError, web.RequestPayloadError):
            failure = InvalidInput("The body ended early or is not well-formed.")
        except Exception:  # the last line: whatever it was, the client gets a named 500 and the log the trace
            log.exception("unhandled error", extra={"request_id": context.request_id})
            failure = Internal("Something went wrong on our side. The request id finds it in the log.")
        if context.started:
            # Half an answer is out: only cutting the connection tells the client that it is not whole.
            log.warning("answer cut short", extra={"request_id": context.request_id, "code": failure.code})
            raise ConnectionResetError(failure.detail)
        return _failed(request, context, failure)

    async def _admit(self, request: web.Request, context: Context, route: Route) -> None:
        """Finds out who asks, counts the request, and refuses what no handler reads."""
        context.country = self._clients.country(request)
        address = network_key(context.client)
        try:
            if route.access != OPEN and hdrs.AUTHORIZATION in request.headers:
                context.principal = await self._principal(request, route)
        except Unauthorized:
            context.headers |= await self._limiter.hit(route.limit, address)
            raise
        principal = context.principal
        key = address if principal is None else f"user:{principal.user_id}"
        context.headers |= await self._limiter.hit(route.limit, key)
        encoding = request.headers.get(hdrs.CONTENT_ENCODING)
        if encoding is not None and encoding.lower() != "identity":
            raise UnsupportedMediaType("Send the body without a Content-Encoding.")
        if principal is None and (route.access == SIGNED_IN or (route.access == READ and self._private)):
            raise Unauthorized(NEEDS_CREDENTIALS)
        if principal is not None and route.access == READ and self._private:
            principal.require("read")

    async def _principal(self, request: web.Request, route: Route) -> Any:
        """Whose credentials came; None for nobody known. Raises Unauthorized for credentials that don't hold."""
        try:
            return await self._authenticate(request, request.headers[hdrs.AUTHORIZATION])
        except DatabaseUnavailable:
            if route.access == SIGNED_IN or self._private:
                raise
            return None  # what anyone may read is served without knowing who asks

    def _record(self, request: web.Request, context: Context, route: Route | None, status: int, seconds: float) -> None:
        path = route.path if route else "unknown"
        method = request.method if route else "other"
        metrics.REQUESTS.count(method, path, status)
        metrics.REQUESTS.time(method, path, seconds)
        if access_log.isEnabledFor(logging.INFO):
            access_log.info(
                "request",
                extra={
                    "request_id": context.request_id,
                    "method": request.method,
                    "path": request.path,
                    "route": path,
                    "status": status,
                    "ms": round(seconds * 1000, 2),
                    "client": context.client,
                },
            )


def _failed(request: web.Request, context: Context, error: RegistryError) -> web.StreamResponse:
    if error.status == 503:
        log.warning(
            "request failed",
            extra={"request_id": context.request_id, "code": error.code, "reason": str(error.__cause__ or error)},
        )
    if error.status == 401:
        error.headers.setdefault("WWW-Authenticate", 'Bearer realm="synapse-registry"')
    accept = ",".join(request.headers.getall("Accept", []))
    return problems.render(error, request_id=context.request_id, accept=accept)


async def send_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Sends the headers of an answer whose body follows piece by piece, before its handler returns."""
    context = request[CONTEXT]
    context.started = True
    response.headers.update(context.headers)
    if request.app[UNDER_WAY].closing:
        response.force_close()
    await response.prepare(request)
