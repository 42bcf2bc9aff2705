"""What the middleware knows about one request, and about all requests in flight."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from registry.web import metrics
from registry.web.route import Route


@dataclass(slots=True)
class Context:
    """One request. `client` is the client's address in its shortest form, or `unknown`.

    `route` is None when no route matches. `country` is two capital letters, or "". `headers` holds the rate-limit
    headers of the answer. `started` is true once a handler has sent the head of its answer. `failed_with` is the status
    of the error that interrupted the answer after that, or 0.
    """

    request_id: str
    route: Route | None
    client: str
    country: str = ""
    principal: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    started: bool = False
    failed_with: int = 0


CONTEXT = web.RequestKey("context", Context)


class InFlight:
    """The number of requests in flight. Once `closing` is true, each answer closes its connection."""

    def __init__(self) -> None:
        self.count = 0
        self.closing = False
        self._on_close: list[Callable[[], None]] = []
        metrics.IN_FLIGHT.set_function(lambda: self.count)

    def on_close(self, call: Callable[[], None]) -> None:
        """Calls `call` when the process begins to stop. It must end requests that would not end by themselves."""
        self._on_close.append(call)

    def close(self) -> None:
        """Sets `closing`, and ends requests that wait."""
        self.closing = True
        for call in self._on_close:
            call()


IN_FLIGHT = web.AppKey("in_flight", InFlight)
