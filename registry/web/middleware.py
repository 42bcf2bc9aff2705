"""The one middleware: it identifies, limits and authorises a request, renders its failure, and records its answer."""

import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientPayloadError, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Middleware

from registry.errors import (
    DatabaseUnavailable,
    Internal,
    InvalidInput,
    ReadOnly,
    RegistryError,
    RequestTimeout,
    Unauthorized,
    UnsupportedMediaType,
)
from registry.web import problems
from registry.web.access import authorise, needs_credentials
from registry.web.addresses import ClientAddress, network_key
from registry.web.answers import REQUEST_ID, complete
from registry.web.connections import SLOW_CLIENTS, BodyTooSlow, BodyWatch, SlowClientLimits
from registry.web.context import CONTEXT, IN_FLIGHT, Context
from registry.web.cors import check_preflight
from registry.web.credentials import CREDENTIAL_CHECK, CredentialSource
from registry.web.limits import RateLimiter
from registry.web.parsing import refuse_repeated_parameters
from registry.web.recording import record
from registry.web.route import OPEN, ErrorRenderer, Handler, Route

log = logging.getLogger(__name__)

CLIENT_CLOSED_REQUEST = 499  # recorded if the client disconnects before it gets an answer
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


Admit = Callable[[web.Request, Route, Any], Awaitable[None]]
"""Gets the request, its route and its principal."""


@dataclass(frozen=True)
class Gate:
    """The steps that a request takes before its handler and after it.

    `routes` maps the router's routes to ours. `sources` maps the names in `Route.credentials` to sources.
    `admit` makes another check of a request with valid credentials, and may raise Forbidden. `render_unrouted` renders
    the errors of requests that match no route. `read_only` refuses requests that change something.
    """

    routes: Mapping[web.AbstractRoute, Route]
    sources: Mapping[str, CredentialSource]
    limiter: RateLimiter
    clients: ClientAddress
    private: bool
    slow_clients: SlowClientLimits = SLOW_CLIENTS
    admit: Admit | None = None
    render_unrouted: ErrorRenderer = problems.render
    read_only: bool = False

    def middleware(self) -> Middleware:
        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            began = time.perf_counter()
            context = request[CONTEXT] = self._context(request)
            in_flight = request.app[IN_FLIGHT]
            status = CLIENT_CLOSED_REQUEST
            in_flight.count += 1
            try:
                response = await self._answer(request, context, handler)
                status = response.status
                if not context.started:
                    complete(request, response)
                return response
            finally:
                in_flight.count -= 1
                record(request, context, context.failed_with or status, time.perf_counter() - began)

        return gate

    def _context(self, request: web.Request) -> Context:
        given = request.headers.get(REQUEST_ID)
        return Context(
            request_id=given if given and _SANE_ID.fullmatch(given) else f"{random.getrandbits(128):032x}",
            route=self.routes.get(request.match_info.route),
            client=self.clients.of(request),
            country=self.clients.country(request),
        )

    async def _answer(self, request: web.Request, context: Context, handler: Handler) -> web.StreamResponse:
        try:
            if request.content.is_eof():
                return await self._admit_and_handle(request, context, handler)
            with BodyWatch(request, self.slow_clients):
                return await self._admit_and_handle(request, context, handler)
        except ConnectionError:
            raise  # the client has disconnected, so there is nobody to answer
        except Exception as error:  # noqa: BLE001 - every failure becomes a named error
            failure = _named(error, context)
        if context.started:
            # Part of the answer is sent. Only a cut connection tells the client that the rest is missing.
            context.failed_with = failure.status
            log.warning("answer cut short", extra={"request_id": context.request_id, "code": failure.code})
            raise ConnectionResetError(failure.detail)
        return _render(request, context, failure, self.render_unrouted)

    async def _admit_and_handle(self, request: web.Request, context: Context, handler: Handler) -> web.StreamResponse:
        route = context.route
        if route is None:
            check_preflight(request)
            return await handler(request)
        source = self.sources[route.credentials]
        credentials = None if route.access == OPEN else source.find(request)
        if credentials is not None:
            try:
                await self._identify(request, context, route, source, credentials)
            except Unauthorized:
                if not source.wrong_is_none:
                    context.headers = await self.limiter.hit(route.limit, network_key(context.client))
                    raise
        user = context.principal
        is_of_user = user is not None and not route.counts_address
        key = f"user:{user.user_id}" if is_of_user else network_key(context.client)
        context.headers = await self.limiter.hit(route.limit, key)
        _refuse_encoded_body(request)
        if self.read_only and route.method != "GET" and not route.works_read_only:
            raise ReadOnly("This registry is read-only. You can search, read and download, but not change anything.")
        authorise(route, user, private=self.private, hint=source.hint)
        if self.admit is not None and user is not None:
            await self.admit(request, route, user)
        refuse_repeated_parameters(request, route)
        return await handler(request)

    async def _identify(
        self, request: web.Request, context: Context, route: Route, source: CredentialSource, credentials: str
    ) -> None:
        """Sets the principal of `credentials`. Raises Unauthorized or TooManyRequests for wrong ones."""
        try:
            if source.wrong_is_none:
                context.principal = await source.look_up(request, credentials)
                return
            context.principal = await request.app[CREDENTIAL_CHECK].check(
                request, credentials, lambda: source.look_up(request, credentials), source.is_signed
            )
        except DatabaseUnavailable:
            if needs_credentials(route, private=self.private) or route.method != "GET":
                raise
            # Anyone may read this, so the request is served as an anonymous one.


def _refuse_encoded_body(request: web.Request) -> None:
    encoding = request.headers.get(hdrs.CONTENT_ENCODING)
    if encoding is not None and encoding.lower() != "identity":
        raise UnsupportedMediaType("Send the body without a Content-Encoding.")


def _named(error: Exception, context: Context) -> RegistryError:
    """Turns `error` into a named error. Logs unexpected errors."""
    if isinstance(error, RegistryError):
        return error
    if isinstance(error, web.HTTPException):
        return problems.from_http(error)
    if isinstance(error, BodyTooSlow):
        return RequestTimeout(str(error), headers={"Connection": "close"})
    if isinstance(error, HttpProcessingError | ClientPayloadError | web.PayloadAccessError | web.RequestPayloadError):
        return InvalidInput("The body ended early or is not well-formed.")
    log.error("unhandled error", exc_info=error, extra={"request_id": context.request_id})
    return Internal("Something went wrong on our side. The log has the details under this request id.")


def _render(
    request: web.Request, context: Context, error: RegistryError, render_unrouted: ErrorRenderer
) -> web.StreamResponse:
    if error.status == 503:
        log.warning(
            "request failed",
            extra={"request_id": context.request_id, "code": error.code, "reason": str(error.__cause__ or error)},
        )
    if error.status == 401:
        error.headers.setdefault(hdrs.WWW_AUTHENTICATE, 'Bearer realm="synapse-registry"')
    render = context.route.render_error if context.route else render_unrouted
    return render(request, error, context.request_id)
