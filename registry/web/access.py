"""Who may call a route."""

from typing import Any

from registry.errors import Unauthorized
from registry.web.route import READ, SIGNED_IN, Route


def authorise(route: Route, principal: Any, *, private: bool, hint: str) -> None:
    """Raises Unauthorized or Forbidden unless `principal` may call `route`. `principal` is None without credentials.

    `hint` is the error text for a missing principal. It says how to send credentials.
    """
    if principal is None and needs_credentials(route, private=private):
        raise Unauthorized(hint)
    if principal is not None and route.access == READ and private:
        principal.require("read")


def needs_credentials(route: Route, *, private: bool) -> bool:
    """Whether `route` is for signed-in users only. `private` is true if reads need credentials."""
    return route.access == SIGNED_IN or (route.access == READ and private)
