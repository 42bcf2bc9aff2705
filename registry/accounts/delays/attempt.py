"""Delays guesses at passwords: after too many failures each attempt waits longer (NIST SP 800-63B, 5.2.2).

Failures are counted by the submitted name, whether or not the account exists, so a delay doesn't reveal which accounts
there are. Every key in the database is a keyed hash, because people sometimes type their password into the name field.

Strangers can't delay the owner of an account: a login from a network from which the account signed in during the last
30 days has a counter of its own. (The idea is OWASP's device cookie, with a network in place of the cookie.)
"""

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from registry.accounts.delays import store
from registry.accounts.identity import User
from registry.db.engine import Connection, Database
from registry.errors import TooManyFailures
from registry.setting_parts import AccountSettings
from registry.web.addresses import IPV6_PREFIX, Address, parse

log = logging.getLogger(__name__)

FREE_OF_ACCOUNT = 30
FREE_OF_ADDRESS = 100
LONGEST_WAIT = timedelta(minutes=15)
# A counter is deleted this long after its last failure.
REMEMBERED = timedelta(days=1)
# A network of an account is remembered this long after its last sign-in, and at most this many networks.
NETWORK_REMEMBERED = timedelta(days=30)
MOST_NETWORKS = 50
# IPv4 addresses change within a network of this size when a customer reconnects.
IPV4_PREFIX = 24

USE_TOKENS = "Programs should use API tokens, which this does not affect."

Note = Callable[[Connection], Awaitable[object]]
"""Writes the audit entry of a failure in the transaction that counts it."""

Complete = Callable[[Connection], Awaitable[bool]]
"""Does what a right attempt is for, such as starting a session. Returns False if more has to be proved first."""


async def _note_nothing(_: Connection) -> None:
    """The default Note."""


async def _is_complete(_: Connection) -> bool:
    """The default Complete."""
    return True


@dataclass(frozen=True)
class Counter:
    """A counter of failures. The first `free` failures cause no delay."""

    key: str
    free: int


@dataclass(frozen=True)
class Attempt:
    """An attempt that may be made now.

    `claimed` has the keys of the counters that have used up their free failures and whose wait is over. Each of them
    allows one attempt, which is this one.
    """

    db: Database
    counters: Sequence[Counter]
    claimed: frozenset[str]

    async def failed(self, note: Note = _note_nothing) -> None:
        """Counts the failure, and calls `note` in the same transaction.

        Raises TooManyFailures if concurrent attempts have used up the free failures.
        """
        too_many = False
        async with self.db.transaction() as conn:
            for counter in self.counters:
                longest = LONGEST_WAIT.total_seconds()
                count = await store.add_failure(conn, counter.key, free=counter.free, longest=longest)
                too_many |= count > counter.free and counter.key not in self.claimed
            await note(conn)
        if too_many:
            raise _too_many(1)

    async def succeeded(
        self, reset: Sequence[Counter], sign_ins: Sequence[store.SignIn] = (), complete: Complete = _is_complete
    ) -> None:
        """Calls `complete`. If it returns True, deletes the counters `reset` and remembers the networks of `sign_ins`.

        All of that is one transaction. Raises what `complete` raises.
        Raises TooManyFailures if concurrent attempts have used up the free failures. So guesses that are sent at once
        get no more answers than guesses that are sent one by one.
        """
        async with self.db.transaction() as conn:
            rows = await store.delayed(conn, [counter.key for counter in self.counters])
            late = [row for row in rows if row.key not in self.claimed]
            if not late and await complete(conn):
                await store.forget(conn, [counter.key for counter in reset])
                await store.remember_networks(conn, sign_ins, most=MOST_NETWORKS)
        if late:
            raise _too_many(1)  # the same answer as for a wrong password


async def begin(db: Database, counters: Sequence[Counter]) -> Attempt:
    """Starts one attempt; call it before hashing. Raises TooManyFailures while the attempt has to wait."""
    free = {counter.key: counter.free for counter in counters}
    async with db.read() as conn:
        rows = await store.delayed(conn, list(free))
    # A wait of more than LONGEST_WAIT means that the clock was set back. It is ignored.
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


async def is_known(db: Database, settings: AccountSettings, name_or_email: str, address: str) -> bool:
    """Whether this account signed in from the network of `address` during the last 30 days."""
    since = datetime.now(UTC) - NETWORK_REMEMBERED
    keys = [counter.key for counter in of_network(settings, name_or_email, address)]
    async with db.read() as conn:
        return await store.is_known(conn, keys, since)


def of_login(settings: AccountSettings, name_or_email: str, address: str, *, known: bool) -> list[Counter]:
    """The counters of a login; `known` is the result of `is_known`."""
    account = of_network(settings, name_or_email, address) if known else [of_account(settings, name_or_email)]
    return [*account, *of_address(settings, address)]


def of_account(settings: AccountSettings, name_or_email: str) -> Counter:
    """The counter of failed logins with this name from networks that are not known. Ignores upper and lower case."""
    return Counter(_key(settings, "account", name_or_email.lower()), FREE_OF_ACCOUNT)


def of_network(settings: AccountSettings, name_or_email: str, address: str) -> list[Counter]:
    """The counter of failed logins with this name from the network of `address`.

    Empty for a loopback address: all clients have it behind a proxy that is not in REGISTRY_TRUSTED_PROXIES.
    """
    client = _client(address)
    if client is None:
        return []
    prefix = IPV4_PREFIX if client.version == 4 else IPV6_PREFIX
    network = ipaddress.ip_network((client, prefix), strict=False)
    return [Counter(_key(settings, "network", f"{network}\0{name_or_email.lower()}"), FREE_OF_ACCOUNT)]


def of_session(settings: AccountSettings, user_id: int) -> Counter:
    """The counter of wrong current passwords. Failed logins don't count here, so they can't delay a signed-in user."""
    return Counter(_key(settings, "session", str(user_id)), FREE_OF_ACCOUNT)


def of_user(settings: AccountSettings, user: User, address: str, *, known: bool) -> list[Counter]:
    """The counters that a right password of `user` resets.

    A login from a known network leaves the counter of the other networks as it is. Otherwise every login of the owner
    would give strangers their free guesses again.
    """
    counters = [of_session(settings, user.id)]
    for name in _names(user):
        counters += of_network(settings, name, address)
        if not known:
            counters.append(of_account(settings, name))
    return counters


def of_address(settings: AccountSettings, address: str) -> list[Counter]:
    """The counter of failures from this address, over all names.

    Empty for a loopback address: all clients have it behind a proxy that is not in REGISTRY_TRUSTED_PROXIES.
    """
    client = _client(address)
    if client is None:
        return []
    counted = client if client.version == 4 else ipaddress.ip_network((client, IPV6_PREFIX), strict=False)
    return [Counter(_key(settings, "address", str(counted)), FREE_OF_ADDRESS)]


def sign_ins(settings: AccountSettings, user: User, address: str) -> list[store.SignIn]:
    """The entries to store for a sign-in of `user` from `address`: one for the username and one for the email."""
    return [
        store.SignIn(key=counter.key, account=of_account(settings, name).key)
        for name in _names(user)
        for counter in of_network(settings, name, address)
    ]


async def remember_network(conn: Connection, settings: AccountSettings, user: User, address: str) -> None:
    """Stores the network of `address` as one that the user signs in from."""
    await store.remember_networks(conn, sign_ins(settings, user, address), most=MOST_NETWORKS)


async def forget(conn: Connection, settings: AccountSettings, user: User) -> None:
    """Ends every delay of the user's logins and forgets the user's networks."""
    await store.forget(conn, [counter.key for counter in of_user(settings, user, "", known=False)])
    await forget_networks(conn, settings, user)


async def forget_networks(conn: Connection, settings: AccountSettings, user: User) -> None:
    """Forgets the user's networks, because a thief of the old password may have signed in from some of them."""
    await store.forget_networks(conn, [of_account(settings, name).key for name in _names(user)])


async def purge(db: Database) -> int:
    """Deletes counters and networks that are too old to matter. Returns the number of deleted counters."""
    now = datetime.now(UTC)
    async with db.transaction() as conn:
        await store.purge_networks(conn, now - NETWORK_REMEMBERED)
        return await store.purge(conn, now - REMEMBERED)


def _names(user: User) -> list[str]:
    return [user.username, user.email] if user.email else [user.username]


def _client(address: str) -> Address | None:
    parsed = parse(address)
    return None if parsed is None or parsed.is_loopback else parsed


def _key(settings: AccountSettings, kind: str, text: str) -> str:
    message = f"{kind}\0{text}".encode("utf-8", "surrogatepass")
    return hmac.new(settings.secret_keys[0].encode(), message, hashlib.sha256).hexdigest()


def _too_many(seconds: float) -> TooManyFailures:
    wait = max(1, int(seconds))
    log.warning("password attempt delayed", extra={"wait": wait})
    return TooManyFailures(
        f"Too many wrong passwords. Wait {wait} seconds before you try again. {USE_TOKENS}",
        headers={"Retry-After": str(wait)},
    )
