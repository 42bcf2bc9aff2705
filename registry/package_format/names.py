"""Rules for package names: the grammar, reserved names, and when two names are too similar."""

import re

from registry.errors import InvalidInput

MAX_NAME = 214
# The OpenAPI document shows this pattern too.
PATTERN = r"^[a-z0-9](?:[a-z0-9_-]{0,212}[a-z0-9])?$"

_NAME = re.compile(PATTERN)
_LEGAL_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")

# Words that the API's paths use or may use later, and names that look official.
_RESERVED_WORDS = (
    "admin advisories api auth badge docs graphql health latest "
    "login metrics mirror openapi packages publish registry root search "
    "stats suggest synapse system tokens users v1 versions webhooks"
)
# Windows opens a device under these names, so no package folder can have them.
WINDOWS_DEVICES = frozenset({"aux", "con", "nul", "prn", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))})
RESERVED = frozenset(_RESERVED_WORDS.split()) | WINDOWS_DEVICES


def validate_name(name: str) -> str:
    """Returns `name` if it is valid. Raises InvalidInput for the field `name`."""
    if problem := name_problem(name):
        raise InvalidInput.field("name", problem)
    return name


def name_problem(name: str) -> str | None:
    """Why `name` is not a valid package name, as a text for the client, or None if it is valid."""
    if _NAME.fullmatch(name):
        return None
    if not name:
        return "must not be empty"
    if len(name) > MAX_NAME:
        return f"must have at most {MAX_NAME} characters"
    if name != name.lower() and fold_name(name) is not None:
        return f"must not have capital letters; {fold_name(name)!r} is valid"
    if not _LEGAL_CHARACTERS.issuperset(name):
        return "may have only the letters a-z, digits, hyphens and underscores"
    return "must begin and end with a letter or a digit"


def fold_name(segment: str) -> str | None:
    """A path segment in lower case if that is a valid package name, otherwise None."""
    # Unicode letters are refused first, because the lower case of some is ASCII: that of the Kelvin sign is "k".
    if not segment.isascii():
        return None
    folded = segment.lower()
    return folded if _NAME.fullmatch(folded) else None


def similarity_key(name: str) -> str:
    """A key that is equal for names that differ only by `-` and `_`. Only one of these names can exist."""
    return name.replace("_", "-")
