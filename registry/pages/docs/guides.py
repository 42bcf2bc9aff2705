"""The guides for users: some of the files in docs/, which the package contains."""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

EXAMPLE = "https://registry.example"
"""The address of the registry in the guides. Pages show the real address instead, if it is set."""

_LISTED = {
    "publishing": "What a package is, how to publish one, and what happens afterwards.",
    "search": "What a query can contain, and which result comes first.",
    "client": "Publishing, finding and downloading packages on the command line.",
    "tokens": "API tokens for scripts and CI jobs: scopes, packages, expiry.",
    "trusted-publishing": "Publishing from CI without a stored token.",
    "webhooks": "Requests that the registry sends to you when packages change.",
    "changes": "The log of all changes: how to follow it, and how to verify it.",
    "clients": "Making a client in your language from the description of the API.",
}
_TEMPLATES = ("github.yml", "gitlab.yml", "publish.sh")
LINKS = {
    **{f"{slug}.md": f"/docs/{slug}" for slug in _LISTED},
    **{f"../deploy/ci/{name}": f"/docs/ci/{name}" for name in _TEMPLATES},
}
"""The addresses of the pages for the links of the guides."""


@dataclass(frozen=True, slots=True)
class Guide:
    """A guide in Markdown. `words` is its text in lower case."""

    slug: str
    title: str
    summary: str
    text: str
    words: str


@cache
def all_guides() -> dict[str, Guide]:
    """The guides by slug, in the order in which readers see them. The first call reads files."""
    return {slug: _read(slug, summary) for slug, summary in _LISTED.items()}


def _read(slug: str, summary: str) -> Guide:
    text = _folder().joinpath(f"{slug}.md").read_text("utf-8")
    heading, _, rest = text.partition("\n")
    return Guide(slug, heading.removeprefix("# "), summary, rest.strip(), text.lower())


def template(name: str) -> str | None:
    """A file for CI systems that the guides name, None if there is none with this name. Reads a file."""
    if name not in _TEMPLATES:
        return None
    return _folder().joinpath("ci", name).read_text("utf-8")


def _folder() -> Traversable:
    return resources.files("registry.pages").joinpath("guides")
