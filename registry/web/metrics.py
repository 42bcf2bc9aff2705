"""Prometheus metrics of the HTTP server."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import REGISTRY, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

BOUNDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LIMITS = [*map(str, BOUNDS), "+Inf"]


class Requests(Collector):
    """Counts answered requests and the time they took.

    Only the event loop uses it, so it needs no locks. prometheus_client's own counter and histogram take three locks
    for each request, and twice the time.
    """

    def __init__(self) -> None:
        self._answered: Counter[tuple[str, str, int]] = Counter()
        self._seconds: dict[tuple[str, str], float] = defaultdict(float)
        self._buckets: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * len(_LIMITS))

    def count(self, method: str, route: str, status: int) -> None:
        self._answered[method, route, status] += 1

    def time(self, method: str, route: str, seconds: float) -> None:
        key = method, route
        self._seconds[key] += seconds
        self._buckets[key][bisect_left(BOUNDS, seconds)] += 1

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "registry_http_requests", "Requests answered", labels=["method", "route", "status"]
        )
        for (method, route, status), number in self._answered.items():
            requests.add_metric([method, route, str(status)], number)
        yield requests
        latency = HistogramMetricFamily("registry_http_request_seconds", "Time to answer", labels=["method", "route"])
        for key, buckets in self._buckets.items():
            latency.add_metric([*key], [*zip(_LIMITS, accumulate(buckets), strict=True)], self._seconds[key])
        yield latency


REQUESTS = Requests()
REGISTRY.register(REQUESTS)
IN_FLIGHT = Gauge("registry_http_requests_in_flight", "Requests being answered")
CONNECTIONS = Gauge("registry_http_connections", "Open connections")
