"""Parsers for the text of a setting. Each raises ValueError with what the setting wants, never with the text itself."""

import base64
import ipaddress
import re
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

Parsed = TypeVar("Parsed")

MAX_TEXT = 4096
MAX_MAILBOX = 254
LOG_KEY_BYTES = 32
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def has_controls(value: str) -> bool:
    return re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", value) is not None


def text(value: str) -> str:
    if has_controls(value) or len(value) > MAX_TEXT:
        raise ValueError(f"at most {MAX_TEXT} characters, without control characters")
    return value


def matching(pattern: str, wanted: str) -> Callable[[str], str]:
    """Text that is empty or matches `pattern` as a whole."""

    def parse(value: str) -> str:
        if value and not re.fullmatch(pattern, value):
            raise ValueError(wanted)
        return value

    return parse


def integer(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", value) or not low <= int(value) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(value)

    return parse


def flag(value: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if value.lower() not in known:
        raise ValueError("true or false")
    return known[value.lower()]


def choice(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.lower() not in allowed:
            raise ValueError(" or ".join(filter(None, allowed)))
        return value.lower()

    return parse


def size(low: str, high: str) -> Callable[[str], int]:
    """A number of bytes; `low` and `high` are written like the setting."""

    def parse(value: str) -> int:
        found = _size(value)
        if found is None or not (_size(low) or 0) <= found <= (_size(high) or 0):
            raise ValueError(f"a size from {low} to {high}, such as 104857600 or 100MiB")
        return found

    return parse


def duration(low: str, high: str, *, needs_unit: bool = False) -> Callable[[str], timedelta]:
    """A time; `low` and `high` are written like the setting. With `needs_unit`, a bare number is wrong."""
    bare = "a unit is needed" if needs_unit else "a bare number is seconds"

    def parse(value: str) -> timedelta:
        found = None if needs_unit and value.strip().isdecimal() else _duration(value)
        if found is None or not (_duration(low) or timedelta()) <= found <= (_duration(high) or timedelta()):
            raise ValueError(f"a time from {low} to {high}, such as 30s, 5m, 12h or 7d ({bare})")
        return found

    return parse


def words(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text(value).split(",") if word.strip())


def log_keys(value: str) -> tuple[bytes, ...]:
    """Ed25519 keys: 32 bytes each, in base64 or hexadecimal."""
    try:
        keys = tuple(_key(word) for word in words(value))
    except ValueError:
        keys = (b"",)
    if any(len(key) != LOG_KEY_BYTES for key in keys):
        raise ValueError("keys that `synapse-registry log key` made, with commas between")
    return keys


def _key(word: str) -> bytes:
    return bytes.fromhex(word) if len(word) == 2 * LOG_KEY_BYTES else base64.b64decode(word, validate=True)


def networks(value: str) -> tuple[str, ...]:
    if not all(map(_is_network, words(value))):
        raise ValueError(
            "addresses or networks such as 10.0.0.0/8 or fd00::/8, with commas between, without zones, "
            "and IPv4 not written as ::ffff:10.0.0.0"
        )
    return words(value)


def _is_network(word: str) -> bool:
    """Whether a client's address can ever match the network.

    Addresses are compared without a zone, and mapped ones (::ffff:1.2.3.4) as IPv4.
    """
    try:
        network = ipaddress.ip_network(word, strict=False)
    except ValueError:
        return False
    mapped = isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED)
    return "%" not in word and not mapped


def host(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", value):
            raise ValueError("an IP address or a host name, without a port") from None
    return value


def is_loopback(name: str) -> bool:
    """Whether only this machine can reach a server that listens on `name`, an IP address or a host name."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"


def mailbox(value: str) -> str:
    """An address, alone or as `Name <address>`."""
    atom, name = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+", r'[^<>@"\\]{1,100}'
    address = rf"{atom}(?:\.{atom})*@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
    if value and (len(value) > MAX_MAILBOX or not re.fullmatch(rf"(?:{name} )?<{address}>|{address}", text(value))):
        raise ValueError("an address such as registry@mail.example or Registry <registry@mail.example>")
    return value


def optional(parse: Callable[[str], Parsed]) -> Callable[[str], Parsed | None]:
    """`parse`, or None for empty text."""
    return lambda value: parse(value) if value else None


def location(value: str) -> str:
    if value and not re.fullmatch(r"/(?:[A-Za-z0-9_-]+/)+", value):
        raise ValueError("a location such as /tarballs/, with a slash at both ends")
    return value


def _size(value: str) -> int | None:
    found = re.fullmatch(r"([0-9]{1,15})\s*(?:([KMGT])i?B?|B)?", value, re.IGNORECASE)
    return int(found[1]) * _SIZES[(found[2] or "").upper()] if found else None


def _duration(value: str) -> timedelta | None:
    found = re.fullmatch(r"([0-9]{1,9})\s*([smhd]?)", value, re.IGNORECASE)
    return timedelta(**{_UNITS[found[2].lower()]: int(found[1])}) if found else None
