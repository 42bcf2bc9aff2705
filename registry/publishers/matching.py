"""Compares the claims of an ID token with trusted publishers, and derives a version's provenance from them.

Claims are compared exactly, as strings. `sub` and `job_workflow_ref` are not compared, because organisations and
reusable workflows change them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

GITHUB, GITLAB, OIDC = "github", "gitlab", "oidc"
KINDS = (GITHUB, GITLAB, OIDC)
MEMBERS = {GITHUB: ("repository", "workflow", "environment"), GITLAB: ("project", "ref", "environment")}
"""What publishers of a kind demand. Those of the kind oidc demand claims."""

_WORKFLOW_REF = re.compile(r"([^@]+)/\.github/workflows/([^/@]+)@.+")
_CONFIG_REF = re.compile(r"[^@]+?//([^@]+)@.+")
_NUMBER = re.compile(r"[0-9]{1,20}")
_PATH = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)+")
# The claims with the numbers of the repository and of its owner. A name may get another owner; a number never does.
_ID_CLAIMS = {GITHUB: ("repository_id", "repository_owner_id"), GITLAB: ("project_id", "namespace_id")}
# Code of a pull request is not reviewed yet, and may come from a fork.
_REQUEST_CLAIMS = ("event_name", "pipeline_source")
_REQUEST_EVENTS = (
    "pull_request", "pull_request_target", "merge_request_event", "external_pull_request_event",
)  # fmt: skip
_REQUEST_REFS = ("refs/pull/", "refs/merge-requests/")


@dataclass(frozen=True, slots=True)
class Publisher:
    """What a trusted publisher demands. `wanted` maps its members, such as `repository`, to their values.

    `ids` are the numbers of the repository and its owner, bound at first use. A pending publisher, which waits for the
    first version of its package, has no `package_id`.
    """

    id: int
    package_id: int | None
    user_id: int
    kind: str
    issuer: str
    wanted: Mapping[str, str]
    ids: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Differences:
    """Why no publisher fits: the members in which the nearest one differs, and whether only their case does."""

    members: list[str] = field(default_factory=list)
    is_only_case: bool = False


def find(publishers: Sequence[Publisher], claims: Mapping[str, Any]) -> list[Publisher]:
    """The publishers that fit the claims, which are those of a verified token."""
    return [each for each in publishers if not _differing(each, publishers, claims)]


def ids_of(kind: str, claims: Mapping[str, Any]) -> tuple[str, str] | None:
    """The numbers of the repository and of its owner, None unless the token has both."""
    first, second = (text_of(claims.get(name)) or "" for name in _ID_CLAIMS.get(kind, ("", "")))
    return (first, second) if _NUMBER.fullmatch(first) and _NUMBER.fullmatch(second) else None


def nearest(publishers: Sequence[Publisher], claims: Mapping[str, Any], *, owned_only: bool) -> Differences | None:
    """How the claims differ from the nearest publisher; None without publishers.

    A publisher of the same issuer is nearer. Of those with equally many differences, one of the same repository is.

    With `owned_only`, publishers of another repository owner than the token's don't count.
    """
    near = [each for each in publishers if not owned_only or _has_same_owner(each, claims)]
    if not near:
        return None
    candidates = [(each, _differing(each, publishers, claims)) for each in near]
    publisher, members = min(candidates, key=_distance)
    seen = values(publisher.kind, claims, publisher.wanted)
    is_only_case = all(
        member in publisher.wanted and (seen.get(member) or "").casefold() == publisher.wanted[member].casefold()
        for member in members
    )
    return Differences(members, is_only_case)


def _distance(candidate: tuple[Publisher, list[str]]) -> tuple[bool, int, bool, int]:
    publisher, members = candidate
    is_elsewhere = any(name in members for name in ("repository", "project"))
    return "issuer" in members, len(members), is_elsewhere, publisher.id


def shown(kind: str, claims: Mapping[str, Any], publishers: Sequence[Publisher]) -> dict[str, str | None]:
    """The claims that publishers compare. The owner of a refused workflow sees them."""
    names = {name for each in publishers if each.issuer == claims["iss"] for name in each.wanted}
    found = values(kind, claims, sorted(names) or ("sub", "repository", "ref", "workflow"))
    others = {GITHUB: ("workflow_ref", "ref", "event_name"), GITLAB: ("project_path", "pipeline_source")}
    extra = (*_ID_CLAIMS.get(kind, ()), *others.get(kind, ()))
    return {"iss": claims["iss"], **found, **{name: text_of(claims.get(name)) for name in extra}}


def provenance(kind: str, claims: Mapping[str, Any]) -> dict[str, str | None]:
    """Where a version comes from: kind, issuer, repository, commit, ref, workflow and run_url, None where unknown."""
    repository = text_of(claims.get("project_path" if kind == GITLAB else "repository"))
    workflow = text_of(claims.get("workflow"))
    if kind == GITHUB:
        workflow = _workflow(claims)
    elif kind == GITLAB:
        config = _CONFIG_REF.fullmatch(text_of(claims.get("ci_config_ref_uri")) or "")
        workflow = config[1] if config else None
    return {
        "kind": kind,
        "issuer": claims["iss"],
        "repository": repository,
        "commit": text_of(claims.get("sha")),
        "ref": text_of(claims.get("ref")),
        "workflow": workflow,
        "run_url": _run_url(kind, repository, claims),
    }


def values(kind: str, claims: Mapping[str, Any], names: Any) -> dict[str, str | None]:
    """The token's values of a publisher's members. For the kind oidc, members are claims, and `names` lists them."""
    if kind == GITHUB:
        return {
            "repository": text_of(claims.get("repository")),
            "workflow": _workflow(claims),
            "environment": text_of(claims.get("environment")),
        }
    if kind == GITLAB:
        return {
            "project": text_of(claims.get("project_path")),
            "ref": text_of(claims.get("ref")),
            "environment": text_of(claims.get("environment")),
        }
    return {name: text_of(claims.get(name)) for name in names}


def text_of(value: Any) -> str | None:
    """A claim as text. None unless it is a string, a whole number, or a boolean, which is written as in JSON."""
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode() if isinstance(value, int) else None


def _differing(publisher: Publisher, publishers: Sequence[Publisher], claims: Mapping[str, Any]) -> list[str]:
    """The members or claims in which the token differs from what the publisher demands. Empty if the token fits."""
    seen = values(publisher.kind, claims, sorted(publisher.wanted))
    differing = [name for name in seen if name in publisher.wanted and seen[name] != publisher.wanted[name]]
    if publisher.issuer != claims["iss"]:
        return ["issuer", *differing]
    if not differing and publisher.kind != OIDC:
        differing += _differing_ids(publisher, publishers, claims)
    requests = [name for name in _REQUEST_CLAIMS if text_of(claims.get(name)) in _REQUEST_EVENTS]
    if not requests and (text_of(claims.get("ref")) or "").startswith(_REQUEST_REFS):
        requests = ["ref"]
    return differing + [name for name in requests if name not in differing]


def _differing_ids(publisher: Publisher, publishers: Sequence[Publisher], claims: Mapping[str, Any]) -> list[str]:
    """The claims with a number that isn't the bound one.

    A publisher that was never used is bound to the numbers of a used one of the same package and repository.
    """
    names = _ID_CLAIMS[publisher.kind]
    found = ids_of(publisher.kind, claims)
    if found is None:
        return [name for name in names if not _NUMBER.fullmatch(text_of(claims.get(name)) or "")]
    bound = publisher.ids or next((each.ids for each in publishers if each.ids and _is_twin(each, publisher)), None)
    pairs = zip(names, found, bound or found, strict=True)
    return [name for name, number, bound_number in pairs if number != bound_number]


def _is_twin(one: Publisher, other: Publisher) -> bool:
    """Whether two publishers are of the same package, and name the same repository at the same issuer."""
    same = all(one.wanted.get(name) == other.wanted.get(name) for name in ("repository", "project"))
    return same and one.package_id is not None and (one.package_id, one.issuer) == (other.package_id, other.issuer)


def _has_same_owner(publisher: Publisher, claims: Mapping[str, Any]) -> bool:
    """Whether the token comes from the publisher's organisation or top group. For the kind oidc, the issuer decides."""
    if publisher.issuer != claims["iss"]:
        return False
    member = {GITHUB: "repository", GITLAB: "project"}.get(publisher.kind)
    if member is None:
        return True
    seen = values(publisher.kind, claims, ()).get(member) or ""
    return seen.split("/")[0].casefold() == publisher.wanted[member].split("/")[0].casefold()


def _workflow(claims: Mapping[str, Any]) -> str | None:
    """The file of GitHub's workflow, None unless it is a file of the token's own repository."""
    found = _WORKFLOW_REF.fullmatch(text_of(claims.get("workflow_ref")) or "")
    return found[2] if found and found[1] == text_of(claims.get("repository")) else None


def _run_url(kind: str, repository: str | None, claims: Mapping[str, Any]) -> str | None:
    run = text_of(claims.get("run_id" if kind == GITHUB else "pipeline_id")) or ""
    if kind == OIDC or not _NUMBER.fullmatch(run) or not _PATH.fullmatch(repository or ""):
        return None
    if kind == GITLAB:
        return f"{claims['iss'].rstrip('/')}/{repository}/-/pipelines/{run}"
    origin = "/".join(claims["iss"].split("/")[:3])
    server = "https://github.com" if origin == "https://token.actions.githubusercontent.com" else origin
    return f"{server}/{repository}/actions/runs/{run}"
