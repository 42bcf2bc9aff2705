"""Makes the application: its resources, its middleware and its list of routes."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import cache
from typing import Any

from aiohttp import web
from aiohttp_cors import CorsConfig

from registry import __version__
from registry.accounts import handlers as accounts
from registry.accounts.authenticate import Authenticator
from registry.accounts.credential_cache import CredentialCache
from registry.accounts.identity import Principal
from registry.accounts.requests import AUTHENTICATOR, BearerHeader
from registry.api_description import PATH_PARAMETERS, SECURITY_SCHEMES, TAGS
from registry.audit import handlers as audit
from registry.changes import handlers as changes
from registry.changes.access import Access
from registry.changes.checkpoints import Checkpoints
from registry.changes.feed import Feed
from registry.changes.log import ChangeLog
from registry.contents.compare import Comparer
from registry.contents.keys import COMPARER, CONTENTS, WORKERS
from registry.contents.reader import Contents
from registry.db.engine import open_database
from registry.downloads import handlers as downloads
from registry.downloads.figures.figures import Figures
from registry.downloads.keys import FIGURES, RECORDER
from registry.downloads.record import open_recorder
from registry.downloads.statistics import handlers as statistics
from registry.downloads.tarballs import Tarballs
from registry.events.announcements import Announcements
from registry.factors import handlers as factors
from registry.factors import required
from registry.keys import ANNOUNCEMENTS, DB, SETTINGS, SPOOL, STORAGE
from registry.mail import handlers as mail
from registry.operations import handlers as operations
from registry.operations.keys import DOCUMENT, READINESS
from registry.operations.readiness import Readiness
from registry.owners import handlers as owners
from registry.packages import handlers as packages
from registry.packages.cached import PackageCache
from registry.packages.inspection import InspectionPool
from registry.packages.requests import CACHE
from registry.packages.upload import Receiver
from registry.pages import frame
from registry.pages.account import handlers as account_pages
from registry.pages.admin import handlers as admin_pages
from registry.pages.admin.jobs import handlers as admin_jobs
from registry.pages.admin.moderation import handlers as admin_moderation
from registry.pages.admin.users import handlers as admin_users
from registry.pages.assets import handlers as page_assets
from registry.pages.audit import handlers as audit_pages
from registry.pages.cookies import SessionCookie
from registry.pages.diff import handlers as diff_pages
from registry.pages.docs import handlers as docs_pages
from registry.pages.docs.guides import EXAMPLE
from registry.pages.docs.keys import REFERENCE
from registry.pages.docs.reference import Reference
from registry.pages.factors import handlers as factor_pages
from registry.pages.feeds import handlers as feed_pages
from registry.pages.feeds.card import Cards
from registry.pages.files import handlers as files_pages
from registry.pages.files.handlers import SOURCES
from registry.pages.files.source import Sources
from registry.pages.home import handlers as home_pages
from registry.pages.invitations import handlers as invitation_pages
from registry.pages.links import handlers as link_pages
from registry.pages.package import handlers as package_pages
from registry.pages.publishers import handlers as publisher_pages
from registry.pages.readme import READMES, Readmes
from registry.pages.search import handlers as search_pages
from registry.pages.settings import handlers as settings_pages
from registry.pages.sign_in import handlers as sign_in_pages
from registry.pages.statistics import handlers as statistics_pages
from registry.pages.theme import handlers as theme_pages
from registry.pages.tokens import handlers as token_pages
from registry.pages.users import handlers as user_pages
from registry.pages.webhooks import handlers as webhook_pages
from registry.publishers import handlers as publishers
from registry.publishers.issuers import open_issuers
from registry.publishers.keys import ISSUERS
from registry.rendering.process import Workers
from registry.reports import handlers as reports
from registry.sealing import Sealer
from registry.search import handlers as search
from registry.search.answers import AnswerCache
from registry.search.index import open_search
from registry.search.keys import SEARCH, SEARCHER
from registry.search.search import Searcher
from registry.setting_parts import WebSettings
from registry.settings import Settings
from registry.storage.opened import open_storage
from registry.tasks import running
from registry.web import openapi
from registry.web.addresses import ClientAddress
from registry.web.answers import CACHE_POLICY, CachePolicy
from registry.web.connections import SLOW_CLIENTS, SlowClientLimits
from registry.web.context import IN_FLIGHT, InFlight
from registry.web.cors import allow_origins
from registry.web.credentials import CREDENTIAL_CHECK, CredentialCheck
from registry.web.limits import RateLimiter, Rates, parse_limits
from registry.web.middleware import Gate
from registry.web.parsing import MAX_JSON_BODY
from registry.web.problems import install_error_handlers
from registry.web.route import BEARER, COOKIE, Limit, Route
from registry.web.spool import Spool
from registry.webhooks import handlers as webhooks
from registry.webhooks import hooks
from registry.webhooks.guard import open_guard
from registry.webhooks.keys import CHANGES, GUARD, SEALER
from registry.worker import CHANNELS, background

# The router tries the routes in this order, so the most frequent ones come first.
API: tuple[Route, ...] = (
    *downloads.ROUTES,
    *packages.ROUTES,
    *search.ROUTES,
    *statistics.ROUTES,
    *changes.ROUTES,
    *accounts.ROUTES,
    *factors.ROUTES,
    *mail.ROUTES,
    *owners.ROUTES,
    *publishers.ROUTES,
    *reports.ROUTES,
    *audit.ROUTES,
    *webhooks.ROUTES,
    *operations.ROUTES,
    *docs_pages.API_ROUTES,
)
PAGES: tuple[Route, ...] = (
    *settings_pages.ROUTES,
    *invitation_pages.ROUTES,
    *webhook_pages.ROUTES,
    *publisher_pages.ROUTES,
    *audit_pages.ROUTES,
    *home_pages.ROUTES,
    *statistics_pages.ROUTES,
    *feed_pages.ROUTES,
    *files_pages.ROUTES,
    *diff_pages.ROUTES,
    *search_pages.ROUTES,
    *sign_in_pages.ROUTES,
    *account_pages.ROUTES,
    *factor_pages.ROUTES,
    *token_pages.ROUTES,
    *link_pages.ROUTES,
    *docs_pages.ROUTES,
    *admin_pages.ROUTES,
    *admin_users.ROUTES,
    *admin_moderation.ROUTES,
    *admin_jobs.ROUTES,
    *package_pages.ROUTES,
    *user_pages.ROUTES,
    *page_assets.ROUTES,
    *theme_pages.ROUTES,
)
ROUTES = (*API, *PAGES)
# The classes of REGISTRY_RATE_LIMITS, by name.
LIMITS: dict[str, Limit] = {route.limit.name: route.limit for route in ROUTES if route.limit is not None}
# These words have routes of their own, so they must not match as parameters.
ID_IN_PATH = "{id:(?!(?:login|options|report)$)[^{}/]+}"
_WORDS_OF_PACKAGE = (
    "audit|card.png|dependencies|dependents|feed.atom|files|invitations|owners|publishers|report|settings|stats|transfer"
    "|versions"
)
VERSION_IN_PATH = f"{{version:(?!(?:{_WORDS_OF_PACKAGE})$)[^{{}}/]+}}"


def create_app(
    settings: Settings, *, with_background: bool = True, slow_clients: SlowClientLimits = SLOW_CLIENTS
) -> web.Application:
    """The service as an aiohttp application. `with_background` also runs the consumers and jobs in this process."""
    install_error_handlers()
    private = settings.accounts.access == "private"
    origins = settings.web.cors_origins
    limiter = rate_limiter(settings.web)
    routes: dict[web.AbstractRoute, Route] = {}
    gate = Gate(
        routes,
        {BEARER: BearerHeader(settings.accounts), COOKIE: SessionCookie(settings.accounts)},
        limiter,
        ClientAddress(settings.web.trusted_proxies, settings.web.country_header),
        private,
        slow_clients,
        None if settings.accounts.require_2fa == required.OFF else _require_factor,
        frame.render_unrouted,
        settings.web.read_only,
    )
    app = web.Application(client_max_size=MAX_JSON_BODY, middlewares=[gate.middleware()])
    app[SETTINGS] = settings
    app[IN_FLIGHT] = in_flight = InFlight()
    app[READINESS] = Readiness(settings.database, in_flight)
    app[CREDENTIAL_CHECK] = CredentialCheck(limiter)
    app[CACHE_POLICY] = CachePolicy(private=private, cors=bool(origins))
    app[DOCUMENT] = description(private=private)
    app[REFERENCE] = Reference(app[DOCUMENT], settings.public_url or EXAMPLE)
    frame.set_up(app)
    app.cleanup_ctx.append(_resources(with_background))
    cors = allow_origins(app, origins, credentials=settings.web.cors_credentials) if origins else None
    routes.update(_add_routes(app, cors))
    return app


@cache
def description(*, private: bool) -> Mapping[str, Any]:
    """The OpenAPI description of a registry whose reads need credentials if it is `private`. Don't change it."""
    return openapi.document(
        ROUTES,
        version=__version__,
        private=private,
        tags=TAGS,
        parameters=PATH_PARAMETERS,
        security=SECURITY_SCHEMES,
    )


def rate_limits(settings: WebSettings) -> Rates:
    """The rates of REGISTRY_RATE_LIMITS. Raises SettingsError."""
    return parse_limits(settings.rate_limits, LIMITS.values())


def rate_limiter(settings: WebSettings) -> RateLimiter:
    """Does not connect to Redis. Raises SettingsError."""
    return RateLimiter(rate_limits(settings), settings.redis_url)


async def _require_factor(request: web.Request, route: Route, principal: Principal) -> None:
    await required.check(request.app[DB], request.app[SETTINGS].accounts, principal, route)


def _resources(with_background: bool) -> Callable[[web.Application], AsyncIterator[None]]:
    """For cleanup_ctx: opens the resources in order and closes them in reverse. Does not wait for any server."""

    async def opened(app: web.Application) -> AsyncIterator[None]:
        settings = app[SETTINGS]
        async with AsyncExitStack() as stack:
            app[DB] = db = await stack.enter_async_context(open_database(settings.database))
            app[STORAGE] = storage = await stack.enter_async_context(open_storage(settings.storage))
            app[SPOOL] = Spool(settings.limits.spool_path)
            stack.callback(app[SPOOL].close)
            app[packages.INSPECTIONS] = inspections = InspectionPool()
            stack.callback(inspections.close)
            app[packages.RECEIVER] = Receiver(app[SPOOL], inspections, settings.limits.max_tarball)
            app[ANNOUNCEMENTS] = announcements = Announcements(db, CHANNELS)
            app[CACHE] = cache = PackageCache(announcements)
            app[AUTHENTICATOR] = Authenticator(db, settings.accounts, CredentialCache(announcements))
            app[downloads.TARBALLS] = Tarballs(db, storage, cache)
            app[CONTENTS] = contents = Contents(app[downloads.TARBALLS])
            stack.callback(contents.close)
            app[WORKERS] = workers = Workers()
            stack.push_async_callback(workers.aclose)
            app[COMPARER] = Comparer(contents, workers)
            app[SOURCES] = Sources(workers)
            app[READMES] = Readmes(contents, workers, settings.web.image_hosts)
            app[FIGURES] = Figures(db)
            app[feed_pages.CARDS] = Cards()
            app[ISSUERS] = await stack.enter_async_context(open_issuers(settings.oidc))
            log = ChangeLog(db)
            app[changes.FEED] = feed = Feed(log, announcements)
            app[IN_FLIGHT].on_close(feed.close)
            app[changes.ACCESS] = Access(app[AUTHENTICATOR].authenticate, private=settings.accounts.access == "private")
            app[changes.CHECKPOINTS] = Checkpoints(db, log, settings.log.keys)
            await stack.enter_async_context(running({"announcements": announcements.listen, "changes": feed.run}))
            app[CHANGES] = log
            app[GUARD] = await stack.enter_async_context(open_guard(settings.webhooks))
            app[SEALER] = Sealer(settings.accounts.secret_keys, hooks.PURPOSE)
            app[SEARCH] = index = await stack.enter_async_context(open_search(settings.search))
            answers = AnswerCache(announcements)
            stack.push_async_callback(answers.aclose)
            app[SEARCHER] = Searcher(db, index, announcements, answers)
            app[RECORDER] = await stack.enter_async_context(open_recorder(db, settings.limits.spool_path))
            if with_background:
                await stack.enter_async_context(background(settings, db, announcements, storage, index))
            yield

    return opened


def _add_routes(app: web.Application, cors: CorsConfig | None) -> Iterator[tuple[web.AbstractRoute, Route]]:
    """Adds every route to the router, and HEAD for every GET. Yields each of the router's routes with ours."""
    resources: dict[str, web.Resource] = {}  # aiohttp-cors looks for the methods of a path in one resource
    for route in ROUTES:
        pattern = _pattern(route)
        if pattern not in resources:
            resources[pattern] = app.router.add_resource(pattern)
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            added = resources[pattern].add_route(method, route.handler, expect_handler=route.expect)
            if cors is not None and route.credentials != COOKIE:
                cors.add(added)
            yield added, route


def _pattern(route: Route) -> str:
    return route.path.replace("{version}", VERSION_IN_PATH).replace("{id}", ID_IN_PATH)
