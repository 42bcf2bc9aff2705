"""The log of deliveries of a webhook, pings, and deliveries that a user asks for again."""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from typing_extensions import TypedDict

from registry.accounts.identity import Principal
from registry.changes.chain import TYPES
from registry.changes.log import ChangeLog
from registry.db.engine import Connection, Database, Row
from registry.errors import InvalidInput, NotFound
from registry.events import audit
from registry.webhooks import hooks
from registry.webhooks.deliveries import store
from registry.webhooks.deliveries.deliver import message_id
from registry.webhooks.deliveries.fanout import wake

MAX_RANGE = 10_000
_MESSAGE = re.compile(r"msg_([0-9a-f]{32})")


class Attempt(TypedDict):
    """`status` and `response`, the beginning of the answer, are None without an answer. `error` is None for a success.

    `ms` says how long the attempt took.
    """

    at: str
    status: int | None
    ms: int
    error: str | None
    response: str | None


class Delivery(TypedDict):
    """`id` is the header webhook-id of each attempt. `seq` is None for a ping.

    `state` is pending, delivered or failed. `next_attempt_at` is None unless it is pending.
    """

    id: str
    seq: int | None
    type: str
    state: str
    attempts: list[Attempt]
    created_at: datetime
    next_attempt_at: datetime | None


class Queued(TypedDict):
    """How many deliveries wait to be sent now. `delivery` is the id if it is a single one."""

    queued: int
    delivery: str | None


async def deliveries(db: Database, who: Principal, webhook: int, before: int, count: int) -> list[dict[str, Any]]:
    """Up to `count` deliveries with a `number` below `before`, newest first: (Delivery and `number`).

    Raises NotFound, Forbidden.
    """
    await hooks.find(db, who, webhook)
    async with db.read() as conn:
        rows = await store.of_webhook(conn, webhook, before, count)
    return [{"number": row.id, **_shown(row)} for row in rows]


async def ping(db: Database, who: Principal, webhook: int) -> Queued:
    """Queues a ping. Raises NotFound, Forbidden, Conflict."""
    async with db.transaction() as conn:
        row = await hooks.find_sending(conn, who, webhook)
        made = await store.add_ping(conn, webhook)
        await wake(conn, row.host, is_slow=row.is_slow)
    return {"queued": 1, "delivery": f"msg_{made.hex}"}


async def redeliver(db: Database, who: Principal, webhook: int, delivery: str) -> Queued:
    """Makes one delivery due again, under the same id. Raises NotFound, Forbidden, Conflict."""
    given = _MESSAGE.fullmatch(delivery)
    async with db.transaction() as conn:
        row = await hooks.find_sending(conn, who, webhook)
        if given is None or not await store.deliver_again(conn, webhook, UUID(given[1])):
            raise NotFound("There is no such delivery. The list of the webhook's deliveries has all.")
        await wake(conn, row.host, is_slow=row.is_slow)
        await _audit(conn, who, row, {"delivery": delivery})
    return {"queued": 1, "delivery": delivery}


async def redeliver_range(
    db: Database, changes: ChangeLog, who: Principal, webhook: int, low: int, high: int
) -> Queued:
    """Makes new deliveries of the changes from seq `low` to `high` that the webhook wants.

    Raises InvalidInput, NotFound, Forbidden, Conflict.
    """
    await hooks.find(db, who, webhook)
    # Each delivery contains the hash of its change, so the newest changes must have one. It also limits the range.
    high_known = min(high, (await changes.head()).seq)
    if high < low:
        raise InvalidInput.field("to_seq", "must be at least from_seq")
    if high_known >= low + MAX_RANGE:
        raise InvalidInput.field("to_seq", f"must be less than from_seq + {MAX_RANGE}. Ask for several ranges.")
    async with db.transaction() as conn:
        row = await hooks.find_sending(conn, who, webhook)
        added = await store.add_again(conn, webhook, low, high_known, TYPES)
        await wake(conn, row.host, is_slow=row.is_slow)
        await _audit(conn, who, row, {"from_seq": low, "to_seq": high})
    return {"queued": sum(each.number for each in added), "delivery": None}


async def _audit(conn: Connection, who: Principal, row: Row, details: dict[str, Any]) -> None:
    details = {"webhook": row.id, **details}
    await audit.write(conn, "webhook.redeliver", who.actor, package_id=row.package_id, details=details)


def _shown(row: Row) -> Delivery:
    return {
        "id": message_id(row),
        "seq": row.seq,
        "type": row.type,
        "state": row.state,
        "attempts": row.attempts,
        "created_at": row.created_at,
        "next_attempt_at": row.due_at if row.state == store.PENDING else None,
    }


def without_numbers(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The deliveries as the API shows them."""
    return [{name: value for name, value in each.items() if name != "number"} for each in found]
