"""Identifies the client of a download: its network, its program, and keys that distinguish it within one day."""

import functools
import hmac
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from registry.downloads import agents
from registry.web.addresses import network_key, network_of

MAX_USER_AGENT = 512
CACHED_CLIENTS = 4096
# The cache holds no longer texts, so that clients can't fill the memory with them.
MAX_CACHED = 1024


@dataclass(frozen=True, slots=True)
class Client:
    """The fields of registry.downloads.store.Download that depend on the client only."""

    network: str | None
    user_agent: str
    hash: str
    address_key: int
    kind: str
    name: str
    system: str
    rule: str


def identify(secret: str, day: date, address: str, user_agent: str, full: bool) -> Client:
    """The client of a request on `day` in UTC. `full` keeps the whole address instead of its network."""
    find = _identify if len(user_agent) <= MAX_CACHED else _identify.__wrapped__
    return find(secret, day, address, user_agent, full)


@functools.lru_cache(CACHED_CLIENTS)
def _identify(secret: str, day: date, address: str, user_agent: str, full: bool) -> Client:
    user_agent = storable(user_agent)
    agent, at = agents.parse(user_agent[: agents.MAX_PARSED]), datetime.combine(day, time(), UTC)
    return Client(
        network=network_of(address, full=full),
        user_agent=user_agent[:MAX_USER_AGENT],
        hash=client_hash(secret, at, address, user_agent),
        address_key=address_key(secret, at, address),
        kind=agent.kind,
        name=agent.name,
        system=agent.system,
        rule=agent.rule,
    )


def storable(text: str) -> str:
    """`text` without the characters that PostgreSQL can't store: lone surrogates and NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def client_hash(secret: str, at: datetime, address: str, user_agent: str) -> str:
    """16 hex digits that identify a client for one day. Without `secret`, nobody can find the client from them."""
    return _digest("downloads", secret, at, f"{address}\n{user_agent}").hex()[:16]


def address_key(secret: str, at: datetime, address: str) -> int:
    """A number of 64 bits that identifies a client's address on the day of `at` (UTC).

    All addresses of one IPv6 /64 have the same key. The key changes every day, so nobody can be followed across days.
    Without `secret`, nobody can find the address from the key.
    """
    return int.from_bytes(_digest("addresses", secret, at, network_key(address))[:8], "big", signed=True)


def _digest(purpose: str, secret: str, at: datetime, text: str) -> bytes:
    return hmac.digest(_key_of_day(purpose, secret, at.date()), text.encode(), "sha256")


@functools.lru_cache(4)
def _key_of_day(purpose: str, secret: str, day: date) -> bytes:
    return hmac.digest(secret.encode(), f"{purpose} of {day}".encode(), "sha256")
