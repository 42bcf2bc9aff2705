"""The forms of trusted publishers, one for each kind, and the API's body that a form stands for."""

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from registry.errors import InvalidInput
from registry.pages.forms import Form
from registry.publishers.keys import ISSUERS
from registry.publishers.matching import GITHUB, GITLAB, OIDC

_FIELDS = {
    GITHUB: ("repository", "workflow", "environment", "issuer"),
    GITLAB: ("project", "ref", "environment", "issuer"),
    OIDC: ("issuer",),
}
_LABELS = {GITHUB: "GitHub Actions", GITLAB: "GitLab CI", OIDC: "Another issuer"}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of publisher. `issuers` are those that it may name; the first is the default."""

    name: str
    label: str
    issuers: list[str]

    @property
    def options(self) -> list[tuple[str, str]]:
        """The issuers as (value, label) of a select."""
        return [(each, each) for each in self.issuers]


def kinds(request: web.Request) -> list[Kind]:
    """The kinds that this registry allows."""
    issuers = request.app[ISSUERS]
    found = [Kind(name, label, issuers.of_kind(name)) for name, label in _LABELS.items()]
    return [kind for kind in found if kind.issuers]


def body_of(form: Form) -> dict[str, Any]:
    """The body of the API's request. Fields that were left empty are missing. Raises InvalidInput."""
    kind = form["kind"]
    body: dict[str, Any] = {"kind": kind}
    body |= {name: value for name in _FIELDS.get(kind, ()) if (value := form[name].strip())}
    if kind == OIDC:
        body["claims"] = _claims(form["claims"])
    return body


def _claims(text: str) -> dict[str, str]:
    claims: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, separator, value = line.partition("=")
        if not separator:
            raise InvalidInput.field("claims", "must have a line such as repository=org/repo for each claim")
        if name.strip() in claims:
            raise InvalidInput.field("claims", f"names {name.strip()} twice")
        claims[name.strip()] = value.strip()
    return claims
