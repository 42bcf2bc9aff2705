"""Parses versions strictly by Semantic Versioning 2.0.0, and makes sort keys whose byte order is the precedence."""

import re
from dataclasses import dataclass

from registry.errors import InvalidInput

MAX_VERSION = 128

_NUMBER = r"(?:0|[1-9][0-9]*)"
_IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"(?P<major>{_NUMBER})\.(?P<minor>{_NUMBER})\.(?P<patch>{_NUMBER})"
    rf"(?:-(?P<prerelease>{_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
    r"(?:\+(?P<build>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)


@dataclass(frozen=True)
class Version:
    """A version. `a < b` compares precedence (SemVer, section 11). `==` compares the texts with build metadata.

    The numbers are stored as text, because they may have more than a hundred digits.
    """

    text: str
    major: str
    minor: str
    patch: str
    prerelease: str
    build: str

    def __str__(self) -> str:
        return self.text

    def __lt__(self, other: "Version") -> bool:
        return self.sort_key < other.sort_key

    @property
    def canonical(self) -> str:
        """The text without build metadata. No two versions of a package have the same canonical text."""
        return self.text.partition("+")[0]

    @property
    def is_prerelease(self) -> bool:
        return bool(self.prerelease)

    @property
    def sort_key(self) -> str:
        """Printable ASCII of at most 400 characters. Its byte order is the precedence.

        Each number begins with its length, so that longer numbers sort higher. A numeric identifier begins with "0", an
        alphanumeric one with "1". An alphanumeric identifier ends with "!", which sorts before all characters that it
        may contain. A release ends with "~", which sorts after "0" and "1".
        """
        core = "".join(_number_key(number) for number in (self.major, self.minor, self.patch))
        if not self.prerelease:
            return core + "~"
        return core + "".join(
            "0" + _number_key(identifier) if identifier.isdigit() else f"1{identifier}!"
            for identifier in self.prerelease.split(".")
        )


def _number_key(digits: str) -> str:
    return f"{len(digits):03}{digits}"


def parse(text: str) -> Version:
    """Parses a version of at most MAX_VERSION characters. Raises InvalidInput for the field `version`."""
    if len(text) > MAX_VERSION:
        raise InvalidInput.field("version", f"must have at most {MAX_VERSION} characters")
    match = _VERSION.fullmatch(text)
    if match is None:
        raise InvalidInput.field(
            "version", "must be MAJOR.MINOR.PATCH by Semantic Versioning 2.0.0, such as 1.4.0-rc.1"
        )
    return Version(text, **match.groupdict(default=""))


def canonical_of(version: str) -> str:
    """The key to look up a version from an address. It is "", which matches nothing, for an invalid version.

    Versions that differ only in build metadata have the same key, so check the result with `is_address_of`.
    """
    try:
        return parse(version).canonical
    except InvalidInput:
        return ""


def is_address_of(version: str, published: str) -> bool:
    """Whether `version` is an address of the version `published`: the same spelling, or the one without build metadata.

    Both must have the same `canonical_of`.
    """
    return version == published or "+" not in version
