"""HTTP handlers for operators: health, metrics, and the description of the API."""

from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

from registry.analytics import consumer as analytics
from registry.db.engine import Database
from registry.errors import DatabaseUnavailable
from registry.jobs import store as job_store
from registry.keys import DB, STORAGE
from registry.operations import health
from registry.operations.readiness import Readiness, Ready
from registry.search.keys import SEARCH
from registry.web import openapi
from registry.web.responses import json_response, metadata_response
from registry.web.route import OPEN, READ, READS, Handler, Limit, Route

READINESS = web.AppKey("readiness", Readiness)
DOCUMENT: web.AppKey[Mapping[str, Any]] = web.AppKey("openapi", Mapping)

LAG_EVENTS = Gauge("registry_consumer_lag_events", "Events that a consumer has not handled yet", ["consumer"])
LAG_SECONDS = Gauge(
    "registry_consumer_lag_seconds", "Age of the oldest event that a consumer has not handled yet", ["consumer"]
)
JOBS = Gauge("registry_job_queue", "Jobs in the queue", ["job", "state"])
JOBS_LATE = Gauge("registry_job_late_seconds", "How long the first due job has waited", ["job"])
POOL = Gauge("registry_db_connections", "Database connections of the pool", ["state"])
DATABASE_UP = Gauge("registry_db_up", "Whether the database answered the last scrape")


async def app_health(app: web.Application) -> health.Health:
    return await health.health(app[DB], app[STORAGE], app[SEARCH])


async def get_health(request: web.Request) -> web.StreamResponse:
    found = await app_health(request.app)
    return json_response(found, status=503 if found["status"] == health.UNHEALTHY else 200)


async def get_live(_: web.Request) -> web.StreamResponse:
    return json_response({"status": "alive"})


async def get_ready(request: web.Request) -> web.StreamResponse:
    found = await request.app[READINESS].check()
    return json_response(found, status=200 if found["status"] == "ready" else 503)


async def get_metrics(request: web.Request) -> web.StreamResponse:
    return await metrics_response(request.app[DB])


async def metrics_response(db: Database) -> web.Response:
    """All metrics of the process. Reads the ones that come from the database first."""
    await _update_gauges(db)
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _update_gauges(db: Database) -> None:
    used, size, most = db.use()
    for state, value in (("used", used), ("open", size), ("most", most)):
        POOL.labels(state).set(value)
    try:
        async with db.read() as conn:
            lags = await analytics.lags(conn)
            jobs = await job_store.figures(conn)
    except DatabaseUnavailable:
        DATABASE_UP.set(0)
        return
    DATABASE_UP.set(1)
    for consumer, events, seconds in lags:
        LAG_EVENTS.labels(consumer).set(events)
        LAG_SECONDS.labels(consumer).set(seconds)
    for gauge in (JOBS, JOBS_LATE):
        gauge.clear()
    for kind, state, number, late in jobs:
        JOBS.labels(kind, state).set(number)
        if state == job_store.QUEUED:
            JOBS_LATE.labels(kind).set(late)


async def get_openapi(request: web.Request) -> web.StreamResponse:
    return metadata_response(request, request.app[DOCUMENT])


async def get_docs(request: web.Request) -> web.StreamResponse:
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    page = openapi.page(request.app[DOCUMENT])
    return web.Response(text=page, content_type="text/html", headers={"Content-Security-Policy": policy})


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
ROUTES = (
    *_everywhere("/health", get_health, "Health of each server", _HEALTH, limit=None),
    *_everywhere("/health/live", get_live, "Whether the process runs", {200: health.Alive}, limit=None),
    *_everywhere("/health/ready", get_ready, "Whether this process takes requests", _READY, limit=None),
    *_everywhere("/metrics", get_metrics, "Metrics for Prometheus", {200: "text/plain"}, access=READ),
    *_everywhere("/openapi.json", get_openapi, "This description", {200: dict[str, Any], 304: None}),
    *_everywhere("/docs", get_docs, "This description as a page", {200: "text/html"}),
)
