"""Reads NAME[@VERSION] and USER[:ROLE]."""

from typing import NamedTuple

from registry.client.failures import WrongUsage

ROLES = ("owner", "maintainer")
# The longest name has 214 characters, and the longest version 128.
MAX_SPEC = 400


class Spec(NamedTuple):
    """A package, and one of its versions unless `version` is ""."""

    name: str
    version: str


def parse(text: str) -> Spec:
    """Reads NAME or NAME@VERSION. Raises WrongUsage."""
    name, at, version = text.partition("@")
    if not name or bool(at) != bool(version):
        raise WrongUsage(f"{text[:MAX_SPEC]!r} is not a package. Write NAME or NAME@VERSION.")
    if len(text) > MAX_SPEC:
        raise WrongUsage(f"{text[:20]!r}… is too long for a package and a version.")
    return Spec(name, version)


def parse_version(text: str) -> Spec:
    """Reads NAME@VERSION. Raises WrongUsage when one of them is missing."""
    spec = parse(text)
    if not spec.version:
        raise WrongUsage(f"Name the version, too: {spec.name}@VERSION.")
    return spec


def parse_name(text: str) -> str:
    """Reads NAME. Raises WrongUsage when there is a version."""
    spec = parse(text)
    if spec.version:
        raise WrongUsage(f"This is about the whole package. Write {spec.name} without a version.")
    return spec.name


def parse_owner(text: str) -> dict[str, str]:
    """Reads USER or USER:ROLE; without a role the user is an owner. Raises WrongUsage."""
    username, _, role = text.partition(":")
    if not username or role not in ("", *ROLES):
        raise WrongUsage(f"{text!r} is not an owner. Write USER, USER:owner or USER:maintainer.")
    return {"username": username, "role": role or "owner"}
