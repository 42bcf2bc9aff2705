"""A route as data: its handler, its access rule, its rate limit, and its part of the API description."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from aiohttp import web

from registry.errors import RegistryError
from registry.web import problems

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ExpectHandler = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
ErrorRenderer = Callable[[web.Request, RegistryError, str], web.StreamResponse]
"""Turns (request, error, request id) into an answer."""

OPEN = "open"  # anyone may call it; the middleware ignores credentials
OPTIONAL = "optional"  # anyone may call it; credentials, if given, must be valid
READ = "read"  # anyone in a public registry, signed-in users in a private one
SIGNED_IN = "signed in"  # signed-in users only

_LINE_END = re.compile(r"(?<!\n)\n(?!\n)")  # within a paragraph

BEARER = "bearer"  # credentials come in the header `Authorization: Bearer <token>`
COOKIE = "cookie"  # credentials come in the session cookie of a browser; routes of pages


@dataclass(frozen=True)
class Limit:
    """A class of routes that share one rate limit.

    `name` is the name in REGISTRY_RATE_LIMITS. `default` is a rate such as `50/hour`. `advice` ends the text of a 429.
    """

    name: str
    default: str
    advice: str = ""


DEFAULT = Limit("default", "50/hour")
READS = Limit("read", "1000/minute")


@dataclass(frozen=True)
class Route:
    """One method of one path.

    In the API description, the handler's name is the name of the operation, and the handler's docstring describes it.
    `tag` is the operation's group. `example` is a JSON body that the route accepts.

    `limit` is None for a route without a rate limit. `credentials` names the source of the caller's credentials.
    `body` and `answers` hold JSON Schemas, or types that pydantic can describe.
    `errors` lists the errors that only some routes have: their statuses, or their classes, which also have a code.
    `expect` decides when a client that sent `Expect: 100-continue` may send its body.
    `needs_factor` is false if a user who lacks a required second factor may call the route. `publishes` is true if a
    user without packages can become a publisher by it. `works_read_only` is true for a POST that REGISTRY_READ_ONLY
    allows, such as a login. `counts_address` is true if its limit counts by address for signed-in users too.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    access: str = READ
    limit: Limit | None = DEFAULT
    parameters: Sequence[Mapping[str, Any]] = ()
    body: Mapping[str, Any] | None = None
    answers: Mapping[int, Any] = field(default_factory=dict)
    errors: Sequence[int | type[RegistryError]] = ()
    documented: bool = True
    credentials: str = BEARER
    needs_factor: bool = True
    publishes: bool = False
    works_read_only: bool = False
    counts_address: bool = False
    render_error: ErrorRenderer = problems.render
    expect: ExpectHandler | None = None
    tag: str = ""
    example: Any = None

    @property
    def name(self) -> str:
        return self.handler.__name__

    @property
    def description(self) -> str:
        return _LINE_END.sub(" ", inspect.getdoc(self.handler) or "")

    @cached_property
    def id(self) -> str:
        return f"{self.method} {self.path}"

    @cached_property
    def single_parameters(self) -> tuple[str, ...]:
        """The query parameters that take one value."""
        queries = (each for each in self.parameters if each["in"] == "query")
        return tuple(each["name"] for each in queries if each["schema"]["type"] != "array")

    @cached_property
    def is_negotiated(self) -> bool:
        """Whether the request's Accept header chooses one of several media types."""
        return any(isinstance(kind, tuple) for kind in self.answers.values())


def group(tag: str, *routes: Route) -> tuple[Route, ...]:
    """The routes with `tag`, the name of their group in the API description."""
    return tuple(replace(route, tag=tag) for route in routes)


def query(name: str, schema: Mapping[str, Any], description: str, **more: Any) -> dict[str, Any]:
    """An OpenAPI query parameter; `more` holds other members of it, such as `required=True`."""
    return _parameter("query", name, schema, description, more)


def header(name: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    """An OpenAPI header parameter."""
    return _parameter("header", name, schema, description, {})


def _parameter(
    place: str, name: str, schema: Mapping[str, Any], description: str, more: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "name": name, "in": place, "required": False, "description": description, "schema": dict(schema), **more,
    }  # fmt: skip
