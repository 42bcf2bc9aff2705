"""Changes of packages, and the hash chain over them.

The hash of a change is the SHA-256 of the previous change's hash and the canonical JSON (RFC 8785) of the change. So a
hash also covers every change before it: whoever keeps one hash notices if anything earlier is changed or removed.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import rfc8785
from typing_extensions import TypedDict

TYPES = (
    "package.created",
    "version.published",
    "version.yanked",
    "version.unyanked",
    "version.deleted",
    "version.restored",
    "package.deprecated",
    "package.undeprecated",
    "package.quarantined",
    "package.released",
    "package.owners_changed",
    "package.transferred",
)
"""The types of events that are changes. All other events are left out of the log of changes."""

FIRST = bytes(32)
"""Takes the place of the previous hash for the first change."""


class _Content(TypedDict):
    seq: int
    at: str
    type: str
    package: str
    version: str | None
    details: dict[str, Any]


class Change(_Content, total=False):
    """One change. `version` is None if the change is about the whole package. `details` depends on `type`.

    `hash` is 64 hexadecimal digits. It is left out for readers that see only some of the packages.
    """

    hash: str


def timestamp(time: datetime) -> str:
    """RFC 3339 in UTC, always with microseconds, because the text is a part of what is hashed."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def link(previous: bytes, change: Mapping[str, Any]) -> bytes:
    """The hash (32 bytes) of `change` after the hash `previous`. The member `hash` of the change is ignored.

    Raises ValueError for a change that is not valid JSON, such as one with a number beyond 2^53.
    """
    content = {name: value for name, value in change.items() if name != "hash"}
    return hashlib.sha256(previous + rfc8785.dumps(content)).digest()
