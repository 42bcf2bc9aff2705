"""HTTP handlers of trusted publishers."""

from datetime import datetime
from typing import Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from registry.accounts.requests import id_of, no_store, origin_of, principal_of
from registry.errors import (
    Conflict,
    InvalidInput,
    IssuerUnavailable,
    NameClosed,
    NameReserved,
    NameTooSimilar,
    OidcRefused,
    Quarantined,
)
from registry.keys import DB, SETTINGS
from registry.packages.requests import PACKAGE, name_of, redirect_look_alikes
from registry.publishers import exchange, manage
from registry.publishers.bodies import MAX_VALUE, PUBLISHERS, NewPendingPublisher, NewPublisher, wanted_of
from registry.publishers.keys import ISSUERS
from registry.publishers.manage import PublisherInfo
from registry.web import paging
from registry.web.parsing import Body, read_body, read_json
from registry.web.route import OPEN, READS, SIGNED_IN, Limit, Route, group


class Publishers(TypedDict):
    publishers: list[PublisherInfo]
    next_cursor: str | None
    limit: int


class ExchangeRequest(Body):
    """The ID token of a CI job, and the package that it publishes."""

    token: str
    package: Annotated[str, Field(min_length=1, max_length=MAX_VALUE)]


class Exchanged(TypedDict):
    """An API token that publishes the package until `expires_at`."""

    token: str
    expires_at: datetime


@redirect_look_alikes
async def add_publisher(request: web.Request) -> web.StreamResponse:
    """Lets a CI workflow publish a package without a stored token. Owners who are signed in may do this; an API token
    can't.
    """
    name, who, app = name_of(request), principal_of(request), request.app
    who.require_login()
    made = await manage.add(app[DB], app[ISSUERS], who, name, wanted_of(await read_json(request)))
    return no_store(made, status=201)


@redirect_look_alikes
async def list_publishers(request: web.Request) -> web.StreamResponse:
    """The trusted publishers of a package, for its owners."""
    limit, after = paging.page_of(request, "publishers")
    found = await manage.list_of_package(request.app[DB], principal_of(request), name_of(request), after, limit + 1)
    return no_store(paging.page("publishers", found, limit))


@redirect_look_alikes
async def remove_publisher(request: web.Request) -> web.StreamResponse:
    """Removes a trusted publisher. The tokens that it got are not valid any more."""
    await manage.remove(request.app[DB], principal_of(request), name_of(request), _id_of(request))
    return web.Response(status=204)


async def add_pending_publisher(request: web.Request) -> web.StreamResponse:
    """Lets a CI workflow publish a package that doesn't exist yet. It reserves no name; the first publish takes the
    name for you.
    """
    who, app = principal_of(request), request.app
    who.require_login()
    body = await read_json(request)
    package = body.pop("package", None)
    if not isinstance(package, str):
        raise InvalidInput.field("package", "is required" if package is None else "must be a string")
    made = await manage.add_pending(app[DB], app[ISSUERS], who, package, wanted_of(body))
    return no_store(made, status=201)


async def list_pending_publishers(request: web.Request) -> web.StreamResponse:
    """Your publishers of packages that don't exist yet."""
    limit, after = paging.page_of(request, "publishers")
    found = await manage.list_pending(request.app[DB], principal_of(request), after, limit + 1)
    return no_store(paging.page("publishers", found, limit))


async def get_pending_publisher(request: web.Request) -> web.StreamResponse:
    """One of your pending publishers."""
    return no_store(await manage.read_pending(request.app[DB], principal_of(request), _id_of(request)))


async def remove_pending_publisher(request: web.Request) -> web.StreamResponse:
    """Removes one of your pending publishers."""
    await manage.remove_pending(request.app[DB], principal_of(request), _id_of(request))
    return web.Response(status=204)


async def exchange_id_token(request: web.Request) -> web.StreamResponse:
    """Exchanges the ID token of a CI job for an API token that publishes one package and is valid for 15 minutes. A
    refusal names its `reason`.
    """
    body = await read_body(request, ExchangeRequest)
    settings = request.app[SETTINGS]
    policy = exchange.Policy(settings.oidc_audience, settings.accounts.access == "private")
    text, expires_at = await exchange.exchange(
        request.app[DB], request.app[ISSUERS], policy, body.token.strip(), body.package, origin_of(request)
    )
    return no_store({"token": text, "expires_at": expires_at})


def _id_of(request: web.Request) -> int:
    return id_of(request, manage.NO_PUBLISHER)


_PUBLISHER = {"kind": "github", "repository": "org/hello-world", "workflow": "release.yml"}
EXCHANGES = Limit("exchange", "50/hour")
_OF_PACKAGE = f"{PACKAGE}/publishers"
_PENDING = "/api/v1/auth/publishers"

ROUTES = group(
    "Trusted publishers",
    Route("POST", _OF_PACKAGE, add_publisher, "Add a trusted publisher (owners)", SIGNED_IN, PUBLISHERS,
          body={"application/json": NewPublisher}, answers={201: PublisherInfo, 308: None},
          errors=(Conflict, Quarantined), publishes=True, example=_PUBLISHER),
    Route("GET", _OF_PACKAGE, list_publishers, "Trusted publishers of a package (owners)", SIGNED_IN, READS,
          paging.PARAMETERS, answers={200: Publishers, 301: None}, errors=(Quarantined,)),
    Route("DELETE", f"{_OF_PACKAGE}/{{id}}", remove_publisher, "Remove a trusted publisher and end its tokens (owners)",
          SIGNED_IN, PUBLISHERS, answers={204: None, 308: None}),
    Route("POST", _PENDING, add_pending_publisher, "Add a trusted publisher for a package that doesn't exist yet",
          SIGNED_IN, PUBLISHERS, body={"application/json": NewPendingPublisher}, answers={201: PublisherInfo},
          errors=(Conflict, NameReserved, NameTooSimilar, NameClosed, Quarantined), publishes=True,
          example={"package": "hello-world", **_PUBLISHER}),
    Route("GET", _PENDING, list_pending_publishers, "Your pending trusted publishers", SIGNED_IN, READS,
          paging.PARAMETERS, answers={200: Publishers}),
    Route("GET", f"{_PENDING}/{{id}}", get_pending_publisher, "A pending trusted publisher", SIGNED_IN, READS,
          answers={200: PublisherInfo}),
    Route("DELETE", f"{_PENDING}/{{id}}", remove_pending_publisher, "Remove a pending trusted publisher", SIGNED_IN,
          PUBLISHERS, answers={204: None}),
    Route("POST", "/api/v1/auth/oidc/token", exchange_id_token, "Exchange the ID token of a CI job for an API token",
          OPEN, EXCHANGES, body={"application/json": ExchangeRequest}, answers={200: Exchanged},
          errors=(OidcRefused, IssuerUnavailable), example={"token": "eyJhbGciOi…", "package": "hello-world"}),
)  # fmt: skip
