"""HTTP handlers of trusted publishers."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from registry.accounts.requests import origin_of, principal_of
from registry.errors import InvalidInput, NotFound
from registry.keys import DB, SETTINGS
from registry.packages.requests import PACKAGE, name_of, redirect_look_alikes
from registry.publishers import exchange, manage
from registry.publishers.issuers import Issuers
from registry.publishers.manage import PublisherInfo, Wanted
from registry.publishers.matching import GITHUB, GITLAB, KINDS, OIDC
from registry.web import paging
from registry.web.parsing import Body, check, read_body, read_json
from registry.web.responses import json_response
from registry.web.route import OPEN, READS, SIGNED_IN, Limit, Route

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
    """A new publisher. Unknown members are refused, since a misspelled one would demand nothing."""

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
async def post_publisher(request: web.Request) -> web.StreamResponse:
    name, who, app = name_of(request), principal_of(request), request.app
    who.require_login()
    made = await manage.add(app[DB], app[ISSUERS], who, name, _wanted(await read_json(request)))
    return _no_store(made, status=201)


@redirect_look_alikes
async def get_publishers(request: web.Request) -> web.StreamResponse:
    limit, after = paging.page_of(request, "publishers")
    found = await manage.list_of_package(request.app[DB], principal_of(request), name_of(request), after, limit + 1)
    return _no_store(paging.page("publishers", "publishers", found, limit))


@redirect_look_alikes
async def delete_publisher(request: web.Request) -> web.StreamResponse:
    await manage.remove(request.app[DB], principal_of(request), name_of(request), _id_of(request))
    return web.Response(status=204)


async def post_pending(request: web.Request) -> web.StreamResponse:
    who, app = principal_of(request), request.app
    who.require_login()
    body = await read_json(request)
    package = body.pop("package", None)
    if not isinstance(package, str):
        raise InvalidInput.field("package", "is required" if package is None else "must be a string")
    made = await manage.add_pending(app[DB], app[ISSUERS], who, package, _wanted(body))
    return _no_store(made, status=201)


async def get_pending(request: web.Request) -> web.StreamResponse:
    limit, after = paging.page_of(request, "publishers")
    found = await manage.list_pending(request.app[DB], principal_of(request), after, limit + 1)
    return _no_store(paging.page("publishers", "publishers", found, limit))


async def delete_pending(request: web.Request) -> web.StreamResponse:
    await manage.remove_pending(request.app[DB], principal_of(request), _id_of(request))
    return web.Response(status=204)


async def post_exchange(request: web.Request) -> web.StreamResponse:
    body = await read_body(request, ExchangeRequest)
    settings = request.app[SETTINGS]
    policy = exchange.Policy(settings.oidc_audience, settings.accounts.access == "private")
    text, expires_at = await exchange.exchange(
        request.app[DB], request.app[ISSUERS], policy, body.token.strip(), body.package, origin_of(request)
    )
    return _no_store({"token": text, "expires_at": expires_at})


def _wanted(body: dict[str, Any]) -> Wanted:
    """The publisher that a body describes. Raises InvalidInput."""
    model = _MODELS.get(body["kind"]) if isinstance(body.get("kind"), str) else None
    if model is None:
        raise InvalidInput.field("kind", f"must be one of {', '.join(KINDS)}")
    members = check(model, body).model_dump(exclude={"kind", "issuer"})
    return Wanted(body["kind"], body.get("issuer"), members.get("claims", members))


def _id_of(request: web.Request) -> int:
    given = request.match_info["id"]
    if not (given.isascii() and given.isdigit() and len(given) <= 18):
        raise NotFound(manage.NO_PUBLISHER)
    return int(given)


def _no_store(data: object, status: int = 200) -> web.Response:
    return json_response(data, status=status, headers={"Cache-Control": "no-store"})


def _schema(*, pending: bool) -> dict[str, Any]:
    schemas = [model.model_json_schema() for model in _MODELS.values()]
    if pending:
        for schema in schemas:
            schema["properties"] = {"package": {"type": "string"}, **schema["properties"]}
            schema["required"] = ["package", *schema["required"]]
    return {"oneOf": schemas}


PUBLISHERS = Limit("publishers", "50/hour")
EXCHANGES = Limit("exchange", "300/hour")
_OF_PACKAGE = f"{PACKAGE}/publishers"
_PENDING = "/api/v1/auth/publishers"

ROUTES = (
    Route("POST", _OF_PACKAGE, post_publisher, "Add a trusted publisher (owners)", SIGNED_IN, PUBLISHERS,
          body={"application/json": _schema(pending=False)}, answers={201: PublisherInfo, 308: None}, errors=(409,),
          publishes=True),
    Route("GET", _OF_PACKAGE, get_publishers, "Trusted publishers of a package (owners)", SIGNED_IN, READS,
          paging.PARAMETERS, answers={200: Publishers, 301: None}),
    Route("DELETE", f"{_OF_PACKAGE}/{{id}}", delete_publisher, "Remove a trusted publisher and end its tokens (owners)",
          SIGNED_IN, PUBLISHERS, answers={204: None, 308: None}),
    Route("POST", _PENDING, post_pending, "Add a trusted publisher for a package that doesn't exist yet", SIGNED_IN,
          PUBLISHERS, body={"application/json": _schema(pending=True)}, answers={201: PublisherInfo}, errors=(409,),
          publishes=True),
    Route("GET", _PENDING, get_pending, "Your pending trusted publishers", SIGNED_IN, READS, paging.PARAMETERS,
          answers={200: Publishers}),
    Route("DELETE", f"{_PENDING}/{{id}}", delete_pending, "Remove a pending trusted publisher", SIGNED_IN, PUBLISHERS,
          answers={204: None}),
    Route("POST", "/api/v1/auth/oidc/token", post_exchange, "Exchange the ID token of a CI job for an API token", OPEN,
          EXCHANGES, body={"application/json": ExchangeRequest}, answers={200: Exchanged}, errors=(401,)),
)  # fmt: skip
