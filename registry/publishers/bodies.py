"""The request bodies of trusted publishers, and their rate limit, which the API and the pages share."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from registry.errors import InvalidInput
from registry.publishers.manage import Wanted
from registry.publishers.matching import GITHUB, GITLAB, KINDS, OIDC
from registry.web.parsing import Body, check
from registry.web.route import Limit

PUBLISHERS = Limit("publishers", "50/hour")
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


def wanted_of(body: dict[str, Any]) -> Wanted:
    """The publisher that a body describes. Raises InvalidInput."""
    model = _MODELS.get(body["kind"]) if isinstance(body.get("kind"), str) else None
    if model is None:
        raise InvalidInput.field("kind", f"must be one of {', '.join(KINDS)}")
    members = check(model, body).model_dump(exclude={"kind", "issuer"})
    return Wanted(body["kind"], body.get("issuer"), members.get("claims", members))
