"""The application: its resources, its one middleware, and every route in one place."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp_cors
from aiohttp import web
from cachetools import LRUCache, TTLCache

from registry import __version__
from registry.accounts import authenticate
from registry.accounts import handlers as accounts
from registry.db.engine import open_database
from registry.downloads import handlers as downloads
from registry.downloads.record import open_recorder
from registry.downloads.statistics import handlers as statistics
from registry.keys import DB, SETTINGS, SPOOL, STORAGE
from registry.operations import handlers as operations
from registry.packages import handlers as packages
from registry.packages import names, versions
from registry.packages.cached import PackageCache
from registry.packages.requests import CACHE
from registry.packages.upload import Receiver, continue_later
from registry.search import handlers as search
from registry.search.index import open_search
from registry.search.keys import SEARCH
from registry.settings import Settings
from registry.storage.opened import open_storage
from registry.web import openapi
from registry.web.limits import ClientAddress, RateLimiter
from registry.web.middleware import UNDER_WAY, Gate, UnderWay
from registry.web.parsing import MAX_JSON_BODY
from registry.web.problems import speak_json_for_malformed_http
from registry.web.route import Route
from registry.web.spool import Spool
from registry.worker import background, running

# The router tries them in this order: first what is asked for most.
ROUTES: tuple[Route, ...] = (
    *packages.ROUTES,
    *downloads.ROUTES,
    *search.ROUTES,
    *statistics.ROUTES,
    *accounts.ROUTES,
    *operations.ROUTES,
)
# Those whose bodies may be huge: whether one is wanted is said only after credentials and length were looked at.
UPLOADS = (packages.publish_body, packages.publish_tarball)
# What else stands below a package has methods of its own.
TOKEN_ID_IN_PATH = "{id:(?!report$)[^{}/]+}"  # noqa: S105 - a pattern
VERSION_IN_PATH = "{version:(?!(?:versions|stats)$)[^{}/]+}"
PATH_PARAMETERS: dict[str, Any] = {
    "name": {
        "name": "name", "in": "path", "required": True, "description": "Package name", "example": "hello-world",
        "schema": {"type": "string", "pattern": names.PATTERN},
    },
    "version": {
        "name": "version", "in": "path", "required": True, "description": "A version, or `latest` where reading",
        "example": "1.0.0",
        "schema": {"type": "string", "maxLength": versions.MAX_VERSION, "pattern": r"^[0-9A-Za-z.+-]+$"},
    },
    "badge": {
        "name": "badge", "in": "path", "required": True, "description": "What the picture shows",
        "schema": {"type": "string", "enum": list(statistics.BADGES)},
    },
    "id": {
        "name": "id", "in": "path", "required": True, "description": "Number of the API token",
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999_999_999_999},
    },
}  # fmt: skip


def create_app(settings: Settings, *, with_background: bool = True) -> web.Application:
    """The service as an aiohttp application; `with_background` runs the consumers and jobs in it, too."""
    speak_json_for_malformed_http()
    private = settings.accounts.access == "private"
    under_way = UnderWay()
    app = web.Application(client_max_size=MAX_JSON_BODY, middlewares=[_gate(settings, under_way, private)])
    app[SETTINGS] = settings
    app[UNDER_WAY] = under_way
    app[downloads.SERVED] = LRUCache(downloads.SERVED_SIZE)
    small: LRUCache[str, bytes] = LRUCache(downloads.ALL_SMALL_BYTES, getsizeof=len)
    app[downloads.SMALL] = small
    app[downloads.WHOLE] = TTLCache(downloads.WHOLE_SIZE, downloads.WHOLE_SECONDS)
    app[operations.DOCUMENT] = openapi.document(
        ROUTES, version=__version__, private=private, parameters=PATH_PARAMETERS
    )
    app.cleanup_ctx.append(_resources(with_background))
    _add_routes(app, settings)
    return app


def _gate(settings: Settings, under_way: UnderWay, private: bool) -> Any:
    async def who(request: web.Request, authorization: str) -> Any:
        return await authenticate.authenticate(request.app[DB], settings.accounts, authorization)

    return Gate(
        {route.handler: route for route in ROUTES},
        RateLimiter(settings.web),
        ClientAddress(settings.web.trusted_proxies, settings.web.country_header),
        under_way,
        authenticate=who,
        private=private,
    ).middleware()


def _resources(with_background: bool) -> Callable[[web.Application], AsyncIterator[None]]:
    """cleanup_ctx: opened in this order, closed in the other; nothing here waits for a server to be up."""

    async def opened(app: web.Application) -> AsyncIterator[None]:
        settings = app[SETTINGS]
        async with AsyncExitStack() as stack:
            app[DB] = db = await stack.enter_async_context(open_database(settings.database))
            app[STORAGE] = storage = await stack.enter_async_context(open_storage(settings.storage))
            app[SPOOL] = Spool(settings.limits.spool_path)
            stack.callback(app[SPOOL].close)
            app[packages.RECEIVER] = Receiver(app[SPOOL], settings.limits.max_tarball)
            app[CACHE] = cache = PackageCache()
            await stack.enter_async_context(running([cache.listen(db)]))
            app[SEARCH] = index = await stack.enter_async_context(open_search(settings.search))
            app[downloads.RECORDER] = await stack.enter_async_context(open_recorder(db, settings.limits.spool_path))
            if with_background:
                await stack.enter_async_context(background(settings, db, storage, index))
            yield

    return opened


def _add_routes(app: web.Application, settings: Settings) -> None:
    cors = _cors(app, settings) if settings.web.cors_origins else None
    for route in ROUTES:
        expect = continue_later if route.handler in UPLOADS else None
        added = app.router.add_route(route.method, _pattern(route), route.handler, expect_handler=expect)
        if cors is not None:
            cors.add(added)
        if route.method == "GET":
            app.router.add_route("HEAD", _pattern(route), route.handler)


def _cors(app: web.Application, settings: Settings) -> aiohttp_cors.CorsConfig:
    options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
        allow_credentials=settings.web.cors_credentials,
        expose_headers="*",
        allow_headers="*",
        allow_methods="*",
        max_age=600,
    )
    return aiohttp_cors.setup(app, defaults=dict.fromkeys(settings.web.cors_origins, options))


def _pattern(route: Route) -> str:
    return route.path.replace("{version}", VERSION_IN_PATH).replace("{id}", TOKEN_ID_IN_PATH)
