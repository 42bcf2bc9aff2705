"""The headers that every answer has: request id, rate limit, Vary and Cache-Control."""

from dataclasses import dataclass

from aiohttp import hdrs, web
from multidict import CIMultiDict

from registry.web.context import CONTEXT, IN_FLIGHT
from registry.web.responses import REVALIDATE
from registry.web.route import OPEN, SIGNED_IN, Route

REQUEST_ID = "X-Request-ID"
NO_STORE = "no-store"


@dataclass(frozen=True)
class CachePolicy:
    """Decides which caches may store an answer.

    `private` is true if reads need credentials. `cors` is true if pages of other origins may call the API.
    """

    private: bool
    cors: bool

    def apply(self, headers: "CIMultiDict[str]", status: int, route: Route | None) -> None:
        """Sets Vary and Cache-Control of an answer."""
        if self.cors:
            add_vary(headers, hdrs.ORIGIN)
        if route is not None and route.is_negotiated:
            add_vary(headers, hdrs.ACCEPT)
        if status >= 400:
            headers[hdrs.CACHE_CONTROL] = NO_STORE
            return
        given = headers.get(hdrs.CACHE_CONTROL)
        if given is None:
            redirect = 300 <= status < 400 and status != 304
            personal = route is not None and route.access == SIGNED_IN
            given = NO_STORE if redirect or personal else REVALIDATE
            headers[hdrs.CACHE_CONTROL] = given
        if self.private and route is not None and route.access != OPEN:
            directives = [part.strip() for part in given.split(",")]
            if NO_STORE not in directives:
                kept = [part for part in directives if part not in ("public", "private")]
                headers[hdrs.CACHE_CONTROL] = ", ".join(["private", *kept])


CACHE_POLICY = web.AppKey("cache_policy", CachePolicy)


def add_vary(headers: "CIMultiDict[str]", name: str) -> None:
    """Adds `name` to Vary unless it is there already."""
    given = headers.getall(hdrs.VARY, None)
    if given is None:
        headers[hdrs.VARY] = name
        return
    names = [part.strip() for value in given for part in value.split(",") if part.strip()]
    if "*" not in names and name.lower() not in (each.lower() for each in names):
        headers[hdrs.VARY] = ", ".join([*names, name])


def compress(request: web.Request, response: web.StreamResponse) -> None:
    """Compresses the body with gzip if the client accepts that."""
    add_vary(response.headers, hdrs.ACCEPT_ENCODING)
    if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower():
        response.enable_compression(web.ContentCoding.gzip)


def complete(request: web.Request, response: web.StreamResponse) -> None:
    """Adds the headers that every answer has. Call it before the head of the answer is sent."""
    context, headers, app = request[CONTEXT], response.headers, request.app
    headers[REQUEST_ID] = context.request_id
    headers["X-Content-Type-Options"] = "nosniff"
    for name, value in context.headers.items():
        headers.setdefault(name, value)  # a refusal for wrong credentials has its own values
    app[CACHE_POLICY].apply(headers, response.status, context.route)
    if app[IN_FLIGHT].closing:
        response.force_close()


async def send_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Sends the head of an answer whose handler then writes the body piece by piece."""
    request[CONTEXT].started = True
    complete(request, response)
    await response.prepare(request)
