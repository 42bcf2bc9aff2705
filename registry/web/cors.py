"""CORS: lets pages of other origins call the API (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

import re
from dataclasses import dataclass

from aiohttp import hdrs, web

from registry.errors import Forbidden
from registry.web.problems import method_not_allowed

ANY = "*"
PREFLIGHT_SECONDS = 600  # how long a browser may reuse the answer to a preflight
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True)
class Cors:
    """Pages of `origins` may call the API; `*` means all origins. `credentials`: whether they may send credentials."""

    origins: frozenset[str]
    credentials: bool

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a preflight for a path that exists, None if `request` is something else.

        Raises Forbidden if the origin is not allowed, and MethodNotAllowed if the path doesn't have the method.
        """
        method = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD)
        # No route has OPTIONS, so the router refuses it and says which methods the path has.
        refusal = request.match_info.http_exception
        is_preflight = request.method == hdrs.METH_OPTIONS and hdrs.ORIGIN in request.headers
        if not is_preflight or method is None or not isinstance(refusal, web.HTTPMethodNotAllowed):
            return None
        if self._allowed(request) is None:
            raise Forbidden("Pages of this origin may not call the API: REGISTRY_CORS_ORIGINS doesn't name the origin.")
        if method not in refusal.allowed_methods:
            raise method_not_allowed("This method", refusal.allowed_methods)
        headers = {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: ", ".join(sorted(refusal.allowed_methods)),
            hdrs.ACCESS_CONTROL_MAX_AGE: str(PREFLIGHT_SECONDS),
        }
        wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "").split(",")
        if names := [name.strip() for name in wanted if _NAME.fullmatch(name.strip())]:
            headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = ", ".join(names)
        return web.Response(headers=headers)

    async def allow(self, request: web.Request, response: web.StreamResponse) -> None:
        """For on_response_prepare: lets a page of an allowed origin read the answer and all its headers."""
        origin = self._allowed(request)
        if origin is None:
            return
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = ", ".join(sorted({*response.headers}))
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        if self.credentials:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"

    def _allowed(self, request: web.Request) -> str | None:
        """The value of Access-Control-Allow-Origin, None unless the request's origin is allowed."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None:
            return None
        if ANY in self.origins:
            return ANY
        return origin if origin in self.origins else None
