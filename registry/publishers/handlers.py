"""HTTP handlers of trusted publishers."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import AfterValidator, ConfigDict, Field
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
from registry.publishers.issuers import Issuers
from registry.publishers.manage import PublisherInfo, Wanted
from registry.publishers.matching import GITHUB, GITLAB, KINDS, OIDC
from registry.web import paging
from registry.web.parsing import Body, check, read_body, read_json
from registry.web.route import OPEN, READS, SIGNED_IN, Limit, Route, group

ISSUERS = web.AppKey("issuers", Issuers)

MAX_VALUE = 500
MAX_CLAIMS = 20
# Every token of an issuer has the first two; the others differ from token to token.
MEANINGLESS = ("iss", "aud", "exp", "iat", "nbf", "jti")


def _check_trimmed(value: str) -> str:
    if value != value.strip() or not value.isprintable():
        raise ValueError("must have no blanks around it, and no control characters")
    return value


def _check_claims(claims: dict[str, str]) -> dict[str, str]:
    if any(name in MEANINGLESS for name in claims):
        raise ValueError(f"must not name {', '.join(MEANINGLESS)}, which don't tell workflows apart")
    return claims


def _matching(pattern: str, wanted: str) -> AfterValidator:
    def check_pattern(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {wanted}")
        return value

    return AfterValidator(check_pattern)


Value = Annotated[str, Field(min_length=1, max_length=MAX_VALUE), AfterValidator(_check_trimmed)]
ClaimName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_check_trimmed)]
Repository = Annotated[
    str,
    Field(max_length=MAX_VALUE),
    _matching(r"[A-Za-z0-9_-]{1,100}/[A-Za-z0-9._-]{1,100}", "a repository such as org/repo"),
]
Workflow = Annotated[
    str,
    Field(max_length=MAX_VALUE),
    _matching(r"[^/@\s][^/@]*\.ya?ml", "the name of a file in .github/workflows, such as release.yml"),
]
Project = Annotated[
    str,
    Field(max_length=MAX_VALUE),
    _matching(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)+", "a project such as group/project"),
]


class _New(Body):
    """A new publisher. Unknown members are refused: a misspelled one would be ignored, and more jobs could publish."""

    model_config = ConfigDict(strict=True, extra="forbid")


class GitHubPublisher(_New):
    """A workflow of GitHub Actions. Without `environment`, jobs with and without one may publish."""

    kind: Literal["github"]
    repository: Repository
    workflow: Workflow
    environment: Value | None = None
    issuer: Value | None = None


class GitLabPublisher(_New):
    """A project of GitLab. Without `ref`, pipelines of every branch and tag may publish."""

    kind: Literal["gitlab"]
    project: Project
    ref: Value | None = None
    environment: Value | None = None
    issuer: Value | None = None


class OidcPublisher(_New):
    """Any other issuer that the operator allows. `claims` are the values that claims of its tokens must have."""

    kind: Literal["oidc"]
    issuer: Value
    claims: Annotated[dict[ClaimName, Value], Field(min_length=1, max_length=MAX_CLAIMS), AfterValidator(_check_claims)]


_MODELS: dict[str, type[_New]] = {GITHUB: GitHubPublisher, GITLAB: GitLabPublisher, OIDC: OidcPublisher}


class _Pending(_New):
    package: Annotated[str, Field(max_length=MAX_VALUE)]


class PendingGitHubPublisher(_Pending, GitHubPublisher):
    """A workflow of GitHub Actions that may publish a package that doesn't exist yet."""


class PendingGitLabPublisher(_Pending, GitLabPublisher):
    """A project of GitLab that may publish a package that doesn't exist yet."""


class PendingOidcPublisher(_Pending, OidcPublisher):
    """Any other issuer that the operator allows, for a package that doesn't exist yet."""


NewPublisher = Annotated[
    GitHubPublisher | GitLabPublisher | OidcPublisher, Field(discriminator="kind", title="NewPublisher")
]
NewPendingPublisher = Annotated[
    PendingGitHubPublisher | PendingGitLabPublisher | PendingOidcPublisher,
    Field(discriminator="kind", title="NewPendingPublisher"),
]


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
    made = await manage.add(app[DB], app[ISSUERS], who, name, _wanted(await read_json(request)))
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
    made = await manage.add_pending(app[DB], app[ISSUERS], who, package, _wanted(body))
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


def _wanted(body: dict[str, Any]) -> Wanted:
    """The publisher that a body describes. Raises InvalidInput."""
    model = _MODELS.get(body["kind"]) if isinstance(body.get("kind"), str) else None
    if model is None:
        raise InvalidInput.field("kind", f"must be one of {', '.join(KINDS)}")
    members = check(model, body).model_dump(exclude={"kind", "issuer"})
    return Wanted(body["kind"], body.get("issuer"), members.get("claims", members))


def _id_of(request: web.Request) -> int:
    return id_of(request, manage.NO_PUBLISHER)


_PUBLISHER = {"kind": "github", "repository": "org/hello-world", "workflow": "release.yml"}
PUBLISHERS = Limit("publishers", "50/hour")
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
