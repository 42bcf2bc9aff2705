"""CORS: lets pages of other origins call the API. Uses aiohttp-cors and corrects some of its faults.

docs/decisions/0015-one-middleware.md lists the faults.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import hdrs, web
from aiohttp_cors import CorsConfig, ResourceOptions
from aiohttp_cors.urldispatcher_router_adapter import ResourcesUrlDispatcherRouterAdapter

from registry.web.context import CONTEXT
from registry.web.route import BEARER


class _RouterAdapter(ResourcesUrlDispatcherRouterAdapter):
    """Gives every answer CORS headers, also the router's own 404 and 405. All routes have the same `options`."""

    def __init__(self, router: web.UrlDispatcher, options: Mapping[str, ResourceOptions]) -> None:
        super().__init__(router, options)
        self.options = options

    def is_cors_enabled_on_request(self, request: web.Request) -> bool:
        route = request[CONTEXT].route if CONTEXT in request else None
        if route is not None and route.credentials != BEARER:
            return False  # a page of the registry, which no other origin may read
        # The library copies the Origin into the answer. aiohttp can't send what isn't printable.
        return request.headers.get(hdrs.ORIGIN, "").isprintable()

    def get_non_preflight_request_config(self, request: web.Request) -> Any:  # noqa: ARG002 - the library's signature
        return self.options


def allow_origins(app: web.Application, origins: Sequence[str], *, credentials: bool) -> CorsConfig:
    """Pages of `origins` may read answers and their headers. They may call the routes that are added to the result."""
    # Without allow_methods, a preflight is refused unless its path has the method.
    options = ResourceOptions(  # type: ignore[no-untyped-call]
        allow_credentials=credentials, expose_headers="*", allow_headers="*", max_age=600
    )
    by_origin = dict.fromkeys(origins, options)
    return CorsConfig(app, defaults=by_origin, router_adapter=_RouterAdapter(app.router, by_origin))


def check_preflight(request: web.Request) -> None:
    """Call it before the OPTIONS handler of aiohttp-cors. Does nothing for addresses without one.

    Raises HTTPMethodNotAllowed for an OPTIONS request that is no preflight. Raises HTTPForbidden for a preflight with
    headers that can't be copied into the answer.
    """
    resource = request.match_info.route.resource
    if resource is None:
        return
    headers = request.headers
    if hdrs.ORIGIN not in headers or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in headers:
        raise web.HTTPMethodNotAllowed(request.method, [route.method for route in resource])
    copied = headers[hdrs.ORIGIN] + headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
    if not copied.isprintable():
        raise web.HTTPForbidden
