"""What the text of a variable may be. Each raises ValueError that says what is wanted."""

import ipaddress
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

HASHES_SAMPLED = 64


def text(value: str) -> str:
    return value


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
            raise ValueError(" or ".join(allowed))
        return value.lower()

    return parse


def size(value: str) -> int:
    found = re.fullmatch(r"([0-9]{1,15})\s*(?:([KMG])i?B?|B)?", value, re.IGNORECASE)
    if not found:
        raise ValueError("a size such as 104857600 or 100MiB")
    return int(found[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[(found[2] or "").upper()]


def duration(value: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,9})\s*([smhd]?)", value, re.IGNORECASE)
    if not found:
        raise ValueError("a time such as 30s, 5m, 12h or 7d (a bare number is seconds)")
    unit = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[found[2].lower()]
    return timedelta(**{unit: int(found[1])})


def folder(value: str) -> Path:
    return Path(value).expanduser()


def sorted_hashes(value: str) -> Path | None:
    """A file of SHA-1 hashes in hex, a line each, ascending; some lines of it are looked at, since it may be huge."""
    if not value:
        return None
    path = Path(value).expanduser()
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            sample = [_line_after(file, size * part // HASHES_SAMPLED) for part in range(HASHES_SAMPLED)]
    except OSError as error:
        raise ValueError(f"a file that can be read ({error.strerror})") from None
    seen = [line for line in sample if line]
    if not seen or not all(re.fullmatch(rb"[0-9A-Fa-f]{40}(:[0-9]+)?\r?\n?", line) for line in seen):
        raise ValueError("a file of lines such as HASH:COUNT, where HASH is 40 hex digits of SHA-1")
    hashes = [line[:40].upper() for line in seen]
    if hashes != sorted(hashes):
        raise ValueError("a file whose hashes ascend (the downloader's single file, ordered by hash)")
    return path


def _line_after(file: BinaryIO, offset: int) -> bytes:
    """The first whole line that begins at `offset` or after it."""
    file.seek(max(offset - 1, 0))
    if offset:
        file.readline(100)
    return file.readline(100)


def words(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def networks(value: str) -> tuple[str, ...]:
    for word in words(value):
        try:
            ipaddress.ip_network(word, strict=False)
        except ValueError:
            raise ValueError("addresses or networks such as 10.0.0.0/8, with commas between") from None
    return words(value)


def url(*schemes: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value and (urlsplit(value).scheme not in schemes):
            raise ValueError(f"an address that begins with {' or '.join(s + '://' for s in schemes)}")
        return value

    return parse


def location(value: str) -> str:
    if value and not re.fullmatch(r"/(?:[A-Za-z0-9_-]+/)+", value):
        raise ValueError("a location such as /tarballs/, with a slash at both ends")
    return value


def database_url(value: str) -> str:
    if value.startswith("sqlite"):
        raise ValueError("a postgresql:// address; SQLite is not supported (`make up` brings a PostgreSQL of its own)")
    return url("postgresql", "postgres")(value)
