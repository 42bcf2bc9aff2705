"""The SQL of deliveries. Every function runs on the caller's connection and commits nothing."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, Statement, statement
from registry.db.tables import webhook_deliveries

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"
KEPT_ATTEMPTS = 20

_c = webhook_deliveries.c
_now = sa.func.now()

# Whether the maker of webhook `h` may know of event `e`. Those who had a role before a transfer may know of it, too.
_MAY_HEAR = """
    u.is_active AND u.deleted_at IS NULL AND CASE h.scope
        WHEN 'all' THEN u.role = 'admin'
        WHEN 'owner' THEN EXISTS (
            SELECT FROM package_owners AS o
            WHERE o.package_id = e.package_id AND o.user_id = h.user_id AND o.role = 'owner'
        )
        ELSE e.package_id = h.package_id AND (
            EXISTS (SELECT FROM package_owners AS o WHERE o.package_id = e.package_id AND o.user_id = h.user_id)
            OR (e.type = 'package.transferred' AND {had_role})
        )
    END
"""
_IS_WANTED = "h.events && ARRAY['*', e.type, split_part(e.type, '.', 1) || '.*']"


def _adding(condition: str, is_repeat: str) -> Statement:
    """Adds a delivery for each event and each webhook that wants it. Returns the hosts of those that were added."""
    return statement(
        sa.text(f"""
        WITH added AS (
            INSERT INTO webhook_deliveries (webhook_id, seq, type, is_repeat)
            SELECT h.id, e.seq, e.type, {is_repeat}
            FROM events AS e
            JOIN webhooks AS h ON {condition}
            JOIN users AS u ON u.id = h.user_id
            WHERE e.seq BETWEEN :low AND :high AND e.type = ANY (CAST(:types AS text[])) AND {_IS_WANTED}
                AND {_MAY_HEAR.format(had_role="h.has_role")}
            ORDER BY e.seq, h.id
            ON CONFLICT (webhook_id, seq) WHERE NOT is_repeat DO NOTHING
            RETURNING webhook_id
        )
        SELECT h.host, h.is_slow, count(*) AS number
        FROM added JOIN webhooks AS h ON h.id = added.webhook_id GROUP BY h.host, h.is_slow
        """)  # noqa: S608 - made of constants
    )


_ADD = _adding("h.disabled_at IS NULL AND h.deleted_at IS NULL AND h.since_seq < e.seq", "false")
_REPEAT = _adding("h.id = :webhook", "true")
_PING = statement(
    sa.insert(webhook_deliveries)
    .values(webhook_id=p("webhook"), type="ping", is_repeat=sa.true())
    .returning(_c.message_id)
)
_AGAIN = statement(
    sa.update(webhook_deliveries)
    .where(_c.webhook_id == p("webhook"), _c.message_id == p("message", type_=sa.Uuid))
    .values(state=PENDING, tries=0, due_at=_now)
)
# The due deliveries of one host. Webhooks take turns: the first delivery of each, then the second of each, and so on.
# So none waits for the backlog of another. `allowed` is false if the maker has lost the right.
_DUE = statement(
    sa.text(f"""
    WITH d AS (
        SELECT one.*, h.url, h.secret, CASE WHEN h.old_secret_until > now() THEN h.old_secret END AS old_secret
        FROM webhooks AS h CROSS JOIN LATERAL (
            SELECT first.*, row_number() OVER (ORDER BY due_at, id) AS turn FROM (
                SELECT id, message_id, webhook_id, seq, type, tries, due_at, created_at FROM webhook_deliveries
                WHERE webhook_id = h.id AND state = 'pending' AND due_at <= now() ORDER BY due_at, id LIMIT :each
            ) AS first
        ) AS one
        WHERE h.host = :host AND h.is_slow = :is_slow AND h.disabled_at IS NULL AND h.deleted_at IS NULL
        ORDER BY turn, due_at, one.id
        LIMIT :count
    )
    SELECT d.id, d.message_id, d.webhook_id, d.tries, d.created_at AS queued_at, d.type AS delivery_type,
        d.url, d.secret, d.old_secret, e.seq, e.created_at, e.type, e.package, e.version, e.data, c.hash,
        CASE WHEN d.seq IS NOT NULL THEN {_MAY_HEAR.format(had_role="true")}
            ELSE u.is_active AND u.deleted_at IS NULL END AS allowed
    FROM d
    JOIN webhooks AS h ON h.id = d.webhook_id
    JOIN users AS u ON u.id = h.user_id
    LEFT JOIN events AS e ON e.seq = d.seq
    LEFT JOIN changes AS c ON c.seq = d.seq
    ORDER BY d.turn, d.due_at, d.id
    """)  # noqa: S608 - made of constants
)
_HOSTS = statement(
    sa.text("""
    SELECT DISTINCT h.host, h.is_slow FROM webhooks AS h
    WHERE h.disabled_at IS NULL AND h.deleted_at IS NULL AND EXISTS (
        SELECT FROM webhook_deliveries AS d WHERE d.webhook_id = h.id AND d.state = 'pending' AND d.due_at <= now()
    )
    """)
)
_SAVE = statement(
    sa.text(f"""
    UPDATE webhook_deliveries AS d
    SET state = r.state, tries = d.tries + 1, due_at = now() + make_interval(secs => r.delay),
        attempts = CASE WHEN jsonb_array_length(d.attempts) >= {KEPT_ATTEMPTS} THEN d.attempts - 0 ELSE d.attempts END
            || jsonb_build_array(r.attempt)
    FROM jsonb_to_recordset(CAST(:results AS jsonb))
        AS r (id bigint, state text, delay double precision, attempt jsonb)
    WHERE d.id = r.id AND d.state = 'pending'
    """)  # noqa: S608 - made of constants
)
_LIST = statement(
    sa.select(_c.id, _c.message_id, _c.seq, _c.type, _c.state, _c.attempts, _c.created_at, _c.due_at)
    .where(_c.webhook_id == p("webhook"), _c.id < p("before"))
    .order_by(_c.id.desc())
    .limit(p("count"))
)
_PURGE = statement(
    sa.delete(webhook_deliveries).where(
        _c.id.in_(sa.select(_c.id).where(_c.created_at < _now - p("age", type_=sa.Interval)).limit(p("count")))
    )
)
_PURGE_OF = statement(
    sa.delete(webhook_deliveries).where(
        _c.id.in_(sa.select(_c.id).where(_c.webhook_id == p("webhook")).limit(p("count")))
    )
)
_LATE = statement(
    sa.text("""
    SELECT h.id, h.host, d.due_at FROM webhooks AS h CROSS JOIN LATERAL (
        SELECT due_at FROM webhook_deliveries
        WHERE webhook_id = h.id AND state = 'pending' AND due_at < now() - CAST(:late AS interval)
        ORDER BY due_at LIMIT 1
    ) AS d
    WHERE h.disabled_at IS NULL AND h.deleted_at IS NULL ORDER BY d.due_at LIMIT :count
    """)
)


async def add(conn: Connection, low: int, high: int, types: Sequence[str]) -> list[Row]:
    """Adds the deliveries of the events from seq `low` to `high` that have one of `types`.

    Does nothing for those that exist. Returns (host, is_slow, number) of those that were added.
    """
    return await conn.all(_ADD, low=low, high=high, types=list(types))


async def add_again(conn: Connection, webhook: int, low: int, high: int, types: Sequence[str]) -> list[Row]:
    """Adds new deliveries of these events to one webhook. Returns (host, is_slow, number)."""
    return await conn.all(_REPEAT, webhook=webhook, low=low, high=high, types=list(types))


async def add_ping(conn: Connection, webhook: int) -> UUID:
    """Adds a ping and returns its message id."""
    return UUID(str(await conn.value(_PING, webhook=webhook)))


async def deliver_again(conn: Connection, webhook: int, message: UUID) -> bool:
    """Makes a delivery due, with all its attempts. Returns False if the webhook has none with this message id."""
    return bool(await conn.run(_AGAIN, webhook=webhook, message=str(message)))


async def due(conn: Connection, host: str, is_slow: bool, each: int, count: int) -> list[Row]:
    """Up to `count` due deliveries to a host, at most `each` of one webhook. The webhooks take turns.

    The row has the columns of a change, which are None for a ping.
    """
    return await conn.all(_DUE, host=host, is_slow=is_slow, each=each, count=count)


async def due_hosts(conn: Connection) -> list[Row]:
    """(host, is_slow) of all webhooks with due deliveries."""
    return await conn.all(_HOSTS)


async def save(conn: Connection, results: Any) -> None:
    """Saves attempts, from `results` as JSON: objects with id, state, delay (seconds) and attempt."""
    await conn.run(_SAVE, results=results)


async def of_webhook(conn: Connection, webhook: int, before: int, count: int) -> list[Row]:
    """Up to `count` deliveries with ids below `before`, newest first."""
    return await conn.all(_LIST, webhook=webhook, before=before, count=count)


async def purge(conn: Connection, age: timedelta, count: int) -> int:
    """Deletes up to `count` deliveries older than `age`. Returns how many."""
    return await conn.run(_PURGE, age=age, count=count)


async def purge_of(conn: Connection, webhook: int, count: int) -> int:
    """Deletes up to `count` deliveries of a webhook. Returns how many."""
    return await conn.run(_PURGE_OF, webhook=webhook, count=count)


async def late(conn: Connection, late: timedelta, count: int) -> list[Row]:
    """(id, host, due_at) of webhooks with a delivery that has been due for longer than `late`."""
    return await conn.all(_LATE, late=late, count=count)
