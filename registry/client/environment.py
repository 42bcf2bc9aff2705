"""Reads the environment. No other module of the client does."""

import os

URL = "SYNAPSE_REGISTRY_URL"
TOKEN = "SYNAPSE_REGISTRY_TOKEN"  # noqa: S105 - the name of a variable
GITLAB_TOKEN = "SYNAPSE_ID_TOKEN"  # noqa: S105 - the name of a variable
AUDIENCE = "SYNAPSE_AUDIENCE"
# GitHub sets both in a job that has the permission `id-token: write`.
GITHUB_ADDRESS = "ACTIONS_ID_TOKEN_REQUEST_URL"
GITHUB_TOKEN = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"  # noqa: S105 - the name of a variable


def registry_url() -> str:
    return os.environ.get(URL, "").strip()


def token() -> str:
    """An API token that is used instead of the login; "" without one."""
    return os.environ.get(TOKEN, "").strip()


def is_ci() -> bool:
    """Whether a build runs the client. CI services set `CI`."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def gitlab_identity() -> str:
    """The identity token of a GitLab job; "" outside of one."""
    return os.environ.get(GITLAB_TOKEN, "").strip()


def github_identity_source() -> tuple[str, str] | None:
    """(address, bearer token) where a GitHub job gets its identity token. None outside of such a job."""
    address, bearer = os.environ.get(GITHUB_ADDRESS, ""), os.environ.get(GITHUB_TOKEN, "")
    return (address, bearer) if address and bearer else None


def audience() -> str:
    """The audience of GitHub's identity tokens, if it is not the registry's address; "" if it is."""
    return os.environ.get(AUDIENCE, "").strip()


def is_completing() -> bool:
    """Whether a shell asks for completions."""
    return "_ARGCOMPLETE" in os.environ
