"""Attempts at a password, each of which waits longer once too many have failed (NIST SP 800-63B, 5.2.2).

What was submitted is counted, whether or not such an account exists, so that a delay tells nothing. A key is a keyed
hash: people type passwords into the field of the name.
"""

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from registry.accounts.delays import store
from registry.accounts.identity import User
from registry.db.engine import Connection, Database
from registry.errors import TooManyFailures
from registry.settings import AccountSettings

log = logging.getLogger(__name__)

FREE_OF_ACCOUNT = 30
FREE_OF_ADDRESS = 100
LONGEST_WAIT = timedelta(minutes=15)
# After this long without another failure all of them are forgotten.
REMEMBERED = timedelta(days=1)
# IPv6 gives a whole network of this prefix to each customer.
IPV6_PREFIX = 64


@dataclass(frozen=True)
class Counter:
    """What failures are counted under, and how many of them cost nothing."""

    key: str
    free: int


@dataclass(frozen=True)
class Attempt:
    """An attempt that may be made now. `claimed` are the delayed keys whose one attempt it is."""

    db: Database
    counters: Sequence[Counter]
    claimed: frozenset[str]

    async def failed(self) -> None:
        """Counts the failure. Raises TooManyFailures when others have used up the attempts meanwhile."""
        too_many = False
        async with self.db.transaction() as conn:
            for counter in self.counters:
                longest = LONGEST_WAIT.total_seconds()
                count = await store.add_failure(conn, counter.key, free=counter.free, longest=longest)
                too_many |= count > counter.free and counter.key not in self.claimed
        if too_many:
            raise _too_many(1)

    async def succeeded(self, *keys: str) -> None:
        """Forgets the failures under `keys`.

        Raises TooManyFailures when others have used up the attempts meanwhile: of guesses sent all at once no more
        are answered than of guesses sent one by one.
        """
        async with self.db.transaction() as conn:
            rows = await store.delayed(conn, [counter.key for counter in self.counters])
            late = [row for row in rows if row.key not in self.claimed]
            if not late:
                await store.forget(conn, keys)
        if late:
            raise _too_many(1)  # as a wrong one is told


async def begin(db: Database, counters: Sequence[Counter]) -> Attempt:
    """Leave for one attempt, asked for before any hashing. Raises TooManyFailures while it has to wait."""
    free = {counter.key: counter.free for counter in counters}
    async with db.read() as conn:
        rows = await store.delayed(conn, list(free))
    # A wait longer than the longest is one of before the clock was set back.
    waits = [row.wait for row in rows if 0 < row.wait <= LONGEST_WAIT.total_seconds()]
    if waits:
        raise _too_many(max(waits))
    if rows:
        async with db.transaction() as conn:
            for row in rows:
                wait = min(2.0 ** min(row.failures - free[row.key] + 1, 30), LONGEST_WAIT.total_seconds())
                if not await store.claim(conn, row.key, seen=row.next_try_at, wait=wait):
                    raise _too_many(1)
    return Attempt(db, counters, frozenset(row.key for row in rows))


def of_account(settings: AccountSettings, name_or_email: str) -> Counter:
    """What failed logins of this name are counted under, whatever the case of its letters."""
    return Counter(_key(settings, "account", name_or_email.lower()), FREE_OF_ACCOUNT)


def of_session(settings: AccountSettings, user_id: int) -> Counter:
    """What wrong current passwords are counted under: apart, so that no stranger's logins delay the signed-in."""
    return Counter(_key(settings, "session", str(user_id)), FREE_OF_ACCOUNT)


def of_user(settings: AccountSettings, user: User) -> list[Counter]:
    """Everything that failures at this user's password are counted under."""
    names = [user.username, user.email] if user.email else [user.username]
    return [of_session(settings, user.id), *(of_account(settings, name) for name in names)]


def of_address(settings: AccountSettings, address: str) -> list[Counter]:
    """What failures from this address are counted under.

    Nothing for the machine's own: those are its commands, or everybody behind a proxy that nobody declared.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return []
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    if parsed.is_loopback:
        return []
    client = parsed if parsed.version == 4 else ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False)
    return [Counter(_key(settings, "address", str(client)), FREE_OF_ADDRESS)]


async def forget(conn: Connection, counters: Sequence[Counter]) -> None:
    await store.forget(conn, [counter.key for counter in counters])


async def purge(db: Database) -> int:
    """Forgets those whose last failure is REMEMBERED ago; how many."""
    async with db.transaction() as conn:
        return await store.purge(conn, datetime.now(UTC) - REMEMBERED)


def _key(settings: AccountSettings, kind: str, text: str) -> str:
    message = f"{kind}\0{text}".encode("utf-8", "surrogatepass")
    return hmac.new(settings.secret_keys[0].encode(), message, hashlib.sha256).hexdigest()


def _too_many(seconds: float) -> TooManyFailures:
    wait = max(1, int(seconds))
    log.warning("password attempt delayed", extra={"wait": wait})
    return TooManyFailures(
        f"Too many wrong passwords. Wait {wait} seconds before you try again.", headers={"Retry-After": str(wait)}
    )
