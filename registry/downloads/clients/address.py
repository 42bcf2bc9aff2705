"""Identifies the addresses of clients within a day, without storing them."""

import functools
import hmac
from datetime import date, datetime

from registry.web.addresses import network_key


def address_key(secret: str, at: datetime, address: str) -> int:
    """A number of 64 bits that identifies a client's address on the day of `at` (UTC).

    All addresses of one IPv6 /64 have the same key. The key changes every day, so nobody can be followed across days.
    Without `secret`, nobody can find the address from the key.
    """
    digest = hmac.digest(_key_of_day(secret, at.date()), network_key(address).encode(), "sha256")
    return int.from_bytes(digest[:8], "big", signed=True)


@functools.lru_cache(2)
def _key_of_day(secret: str, day: date) -> bytes:
    return hmac.digest(secret.encode(), f"addresses of {day}".encode(), "sha256")
