"""The files that pages load: the style sheet, the script and the icon. Their addresses change with their contents."""

import hashlib
import importlib.resources
from dataclasses import dataclass
from functools import cache

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
NAMES = ("style.css", "script.js", "icon.svg")


@dataclass(frozen=True, slots=True)
class Asset:
    """`tag` is a digest of the bytes. `media_type` has no charset."""

    body: bytes
    tag: str
    media_type: str


@cache
def load(name: str) -> Asset:
    """One of NAMES."""
    body = importlib.resources.files(__package__).joinpath(name).read_bytes()
    return Asset(body, hashlib.blake2b(body, digest_size=8).hexdigest(), _TYPES[name.rpartition(".")[2]])


def url(name: str) -> str:
    """The address of one of NAMES, which browsers may keep for ever."""
    return f"/static/{load(name).tag}/{name}"
