"""A route as data: what serves it, who may call it, how often, and what the API page says of it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN = "open"  # answers anyone, credentials are not looked at
READ = "read"  # answers anyone in a public registry; needs credentials in a private one
SIGNED_IN = "signed in"  # always needs credentials


@dataclass(frozen=True)
class Route:
    """One method of one path. `body` and `answers` hold JSON Schemas or types that pydantic can describe."""

    method: str
    path: str
    handler: Handler
    summary: str
    access: str = READ
    limit: str = "read"
    parameters: Sequence[Mapping[str, Any]] = ()
    body: Mapping[str, Any] | None = None
    answers: Mapping[int, Any] = field(default_factory=dict)
    errors: Sequence[int] = ()
    documented: bool = True

    @property
    def id(self) -> str:
        return f"{self.method} {self.path}"


def query(name: str, schema: Mapping[str, Any], description: str, *, required: bool = False) -> dict[str, Any]:
    """An OpenAPI query parameter."""
    return {"name": name, "in": "query", "required": required, "description": description, "schema": dict(schema)}


def header(name: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    """An OpenAPI header parameter."""
    return {"name": name, "in": "header", "required": False, "description": description, "schema": dict(schema)}
