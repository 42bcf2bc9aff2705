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


class _Measured:
    """What was answered with one method on one route."""

    __slots__ = ("answered", "buckets", "seconds")

    def __init__(self) -> None:
        self.answered: Counter[int] = Counter()  # by status
        self.buckets = [0] * len(_LIMITS)
        self.seconds = 0.0


class Requests(Collector):
    """Counts answered requests and the time they took.

    Only the event loop uses it, so it needs no locks. prometheus_client's own counter and histogram take three locks
    for each request, and twice the time.
    """

    def __init__(self) -> None:
        self._measured: dict[tuple[str, str], _Measured] = defaultdict(_Measured)

    def record(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one request that took `seconds`."""
        measured = self._measured[method, route]
        measured.answered[status] += 1
        measured.seconds += seconds
        measured.buckets[bisect_left(BOUNDS, seconds)] += 1

    def count(self, method: str, route: str, status: int) -> None:
        """Counts a request whose time is unknown."""
        self._measured[method, route].answered[status] += 1

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "registry_http_requests", "Requests answered", labels=["method", "route", "status"]
        )
        latency = HistogramMetricFamily("registry_http_request_seconds", "Time to answer", labels=["method", "route"])
        for labels, measured in self._measured.items():
            for status, number in measured.answered.items():
                requests.add_metric([*labels, str(status)], number)
            if any(measured.buckets):
                buckets = [*zip(_LIMITS, accumulate(measured.buckets), strict=True)]
                latency.add_metric([*labels], buckets, measured.seconds)
        yield requests
        yield latency


REQUESTS = Requests()
REGISTRY.register(REQUESTS)
IN_FLIGHT = Gauge("registry_http_requests_in_flight", "Requests being answered")
CONNECTIONS = Gauge("registry_http_connections", "Open connections")
