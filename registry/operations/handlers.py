"""HTTP handlers for operators: health, metrics, and the description of the API."""

from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from registry.db.engine import Database
from registry.downloads.keys import RECORDER
from registry.keys import DB, STORAGE
from registry.operations import gauges, health
from registry.operations.keys import DOCUMENT, READINESS
from registry.operations.readiness import Ready
from registry.search.keys import SEARCH
from registry.web.responses import json_response, metadata_response
from registry.web.route import OPEN, READ, READS, Handler, Limit, Route, group


async def app_health(app: web.Application) -> health.Health:
    return await health.health(app[DB], app[STORAGE], app[SEARCH], app[RECORDER])


async def get_health(request: web.Request) -> web.StreamResponse:
    """The state of each server that the registry uses. The status is 503 while packages can't be served."""
    found = await app_health(request.app)
    return json_response(found, status=503 if found["status"] == health.UNHEALTHY else 200)


async def get_liveness(_: web.Request) -> web.StreamResponse:
    """Answers while the process runs. It asks no server."""
    return json_response({"status": "alive"})


async def get_readiness(request: web.Request) -> web.StreamResponse:
    """Whether this process takes requests: it has started, fits the database's schema and is not shutting down."""
    found = await request.app[READINESS].check()
    return json_response(found, status=200 if found["status"] == "ready" else 503)


async def get_metrics(request: web.Request) -> web.StreamResponse:
    """The metrics of this process in the text format of Prometheus."""
    return await metrics_response(request.app[DB])


async def metrics_response(db: Database) -> web.Response:
    """All metrics of the process. Reads the ones that come from the database first."""
    await gauges.update(db)
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def get_openapi(request: web.Request) -> web.StreamResponse:
    """The description of this API in OpenAPI 3.1, for people, linters and generators of clients."""
    return metadata_response(request, request.app[DOCUMENT])


def _everywhere(
    path: str,
    handler: Handler,
    summary: str,
    answers: Mapping[int, Any],
    access: str = OPEN,
    limit: Limit | None = READS,
) -> Iterator[Route]:
    """The route below /api/v1, and again at the root, where tools look for it."""
    yield Route("GET", f"/api/v1{path}", handler, summary, access, limit, answers=answers)
    yield Route("GET", path, handler, summary, access, limit, answers=answers, documented=False)


_HEALTH = {200: health.Health, 503: health.Health}
_READY = {200: Ready, 503: Ready}
# Health has no rate limit: a balancer must not lose a healthy process because its own address asks too often.
ROUTES = group(
    "Operations",
    *_everywhere("/health", get_health, "Health of each server", _HEALTH, limit=None),
    *_everywhere("/health/live", get_liveness, "Whether the process runs", {200: health.Alive}, limit=None),
    *_everywhere("/health/ready", get_readiness, "Whether this process takes requests", _READY, limit=None),
    *_everywhere("/metrics", get_metrics, "Metrics for Prometheus", {200: "text/plain"}, access=READ),
    *_everywhere("/openapi.json", get_openapi, "This description", {200: dict[str, Any], 304: None}),
)
