"""Prometheus figures of the HTTP side."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("registry_http_requests_total", "Requests answered", ["method", "route", "status"])
LATENCY = Histogram(
    "registry_http_request_seconds",
    "Time to answer",
    ["method", "route"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
IN_FLIGHT = Gauge("registry_http_requests_in_flight", "Requests being answered")
CONNECTIONS = Gauge("registry_http_connections", "Open connections")


@cache
def of_request(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """What counts such a request and what times it; looked up once, for that takes as long as counting."""
    return REQUESTS.labels(method, route, str(status)), LATENCY.labels(method, route)
