"""The SQL of failed password attempts and of the networks from which accounts signed in."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, statement
from registry.db.tables import password_failures as failures
from registry.db.tables import sign_in_networks as networks

# A sign-in within this time of the last one is not written again.
NETWORK_PRECISION = timedelta(hours=1)

# The time now, not the start of the transaction: a statement may have waited for the row's lock.
_NOW = sa.func.clock_timestamp()
_KEYS = failures.c.key == sa.func.any(p("keys"))


def _after(seconds: sa.ColumnElement[float]) -> sa.ColumnElement[datetime]:
    return _NOW + seconds * sa.text("interval '1 second'")


_COUNT = failures.c.failures + 1
_NEXT = sa.case(
    (
        p("free", type_=sa.Integer) <= _COUNT,
        # The exponent is limited as well, because PostgreSQL can't compute 2 to the power of thousands.
        _after(sa.func.least(p("longest", type_=sa.Float), sa.func.power(2.0, sa.func.least(_COUNT - p("free"), 30)))),
    ),
)
_ADD = statement(
    insert(failures)
    .values(key=p("key"), failures=1, failed_at=_NOW)
    .on_conflict_do_update(
        index_elements=[failures.c.key], set_={"failures": _COUNT, "failed_at": _NOW, "next_try_at": _NEXT}
    )
    .returning(failures.c.failures)
)
_FOUND = statement(
    sa.select(
        failures.c.key,
        failures.c.failures,
        failures.c.next_try_at,
        sa.func.ceil(sa.extract("epoch", failures.c.next_try_at - _NOW)).label("wait"),
    ).where(_KEYS, failures.c.next_try_at.is_not(None))
)
_CLAIM = statement(
    sa.update(failures)
    .where(failures.c.key == p("wanted"), failures.c.next_try_at == p("seen"))
    .values(next_try_at=_after(p("wait", type_=sa.Float)))
)
_FORGET = statement(sa.delete(failures).where(_KEYS))
_PURGE = statement(sa.delete(failures).where(failures.c.failed_at < p("before")))

_OF_ACCOUNT = networks.c.account == p("wanted")
_IS_KNOWN = statement(
    sa.select(
        sa.exists().where(
            networks.c.key == sa.func.any(p("keys")),
            networks.c.signed_in_at > p("since", type_=networks.c.signed_in_at.type),
        )
    )
)
_REMEMBER_NETWORK = statement(
    insert(networks)
    .values(key=p("key"), account=p("account"), signed_in_at=_NOW)
    .on_conflict_do_update(
        index_elements=[networks.c.key],
        set_={"signed_in_at": _NOW},
        where=networks.c.signed_in_at < _NOW - p("precision", type_=sa.Interval),
    )
)
_FORGET_OLDEST_NETWORKS = statement(
    sa.delete(networks).where(
        networks.c.key.in_(
            sa.select(networks.c.key)
            .where(_OF_ACCOUNT)
            .order_by(networks.c.signed_in_at.desc())
            .offset(p("most", type_=sa.Integer))
        )
    )
)
_FORGET_NETWORKS = statement(sa.delete(networks).where(networks.c.account == sa.func.any(p("accounts"))))
_PURGE_NETWORKS = statement(sa.delete(networks).where(networks.c.signed_in_at < p("before")))


class SignIn(NamedTuple):
    """A sign-in under a name of the account, which is the username or the email.

    `key` is a keyed hash of the name and the network. `account` is a keyed hash of the name alone.
    """

    key: str
    account: str


async def add_failure(conn: Connection, key: str, *, free: int, longest: float) -> int:
    """Counts one failure and returns their number. From `free` failures on, attempts wait 1, 2, 4 … `longest` s."""
    return int(await conn.value(_ADD, key=key, free=free, longest=longest))


async def delayed(conn: Connection, keys: Sequence[str]) -> list[Row]:
    """(key, failures, next_try_at, wait) of the counters with too many failures; `wait` is in whole seconds."""
    return await conn.all(_FOUND, keys=list(keys))


async def claim(conn: Connection, key: str, *, seen: datetime, wait: float) -> bool:
    """Claims the one attempt that is allowed after `seen`, and delays the next by `wait` seconds.

    Returns False if another attempt has claimed it.
    """
    return await conn.run(_CLAIM, wanted=key, seen=seen, wait=wait) > 0


async def forget(conn: Connection, keys: Sequence[str]) -> None:
    """Deletes counters."""
    await conn.run(_FORGET, keys=list(keys))


async def purge(conn: Connection, before: datetime) -> int:
    """Deletes the counters whose last failure was before `before`. Returns how many."""
    return await conn.run(_PURGE, before=before)


async def is_known(conn: Connection, keys: Sequence[str], since: datetime) -> bool:
    """Whether there was a sign-in under one of the keys after `since`."""
    return bool(await conn.value(_IS_KNOWN, keys=list(keys), since=since))


async def remember_networks(conn: Connection, sign_ins: Sequence[SignIn], *, most: int) -> None:
    """Records sign-ins that happen now, and keeps the `most` newest networks of each account."""
    for sign_in in sorted(sign_ins):  # the same order in every transaction prevents deadlocks
        if await conn.run(_REMEMBER_NETWORK, **sign_in._asdict(), precision=NETWORK_PRECISION):
            await conn.run(_FORGET_OLDEST_NETWORKS, wanted=sign_in.account, most=most)


async def forget_networks(conn: Connection, accounts: Sequence[str]) -> None:
    """Deletes the networks of accounts."""
    await conn.run(_FORGET_NETWORKS, accounts=list(accounts))


async def purge_networks(conn: Connection, before: datetime) -> int:
    """Deletes the networks whose last sign-in was before `before`. Returns how many."""
    return await conn.run(_PURGE_NETWORKS, before=before)
