"""Records each request: the metrics and the access log."""

import logging

from aiohttp import web

from registry.web import metrics
from registry.web.context import Context

access_log = logging.getLogger("registry.access")


def record(request: web.Request, context: Context, status: int, seconds: float) -> None:
    """Counts and logs one request that took `seconds`."""
    route = context.route
    path = route.path if route else "unknown"
    method = request.method if route else "other"  # a client could make up any number of methods
    metrics.REQUESTS.record(method, path, status, seconds)
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
