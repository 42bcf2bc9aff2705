"""The SQL of idempotency keys. Every function runs on the caller's connection and commits nothing."""

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, json, statement
from registry.db.tables import idempotency_keys

_A_DAY_AGO = sa.func.now() - timedelta(days=1)
_ANSWER = statement(
    sa.select(idempotency_keys.c.fingerprint, idempotency_keys.c.answer).where(
        idempotency_keys.c.user_id == p("user_id"),
        idempotency_keys.c.key == p("key"),
        idempotency_keys.c.created_at > _A_DAY_AGO,
    )
)
_new_key = insert(idempotency_keys).values(
    user_id=p("user_id"), key=p("key"), fingerprint=p("fingerprint"), answer=sa.text("'{}'")
)
_REMEMBER_KEY = statement(
    _new_key.on_conflict_do_update(
        index_elements=["user_id", "key"],
        set_={"fingerprint": _new_key.excluded.fingerprint, "created_at": sa.func.now()},
        where=idempotency_keys.c.created_at <= _A_DAY_AGO,
    )
)
_SAVE_ANSWER = statement(
    sa.update(idempotency_keys)
    .where(idempotency_keys.c.user_id == p("of_user"), idempotency_keys.c.key == p("of_key"))
    .values(answer=p("answer"))
)
_FORGET = statement(sa.delete(idempotency_keys).where(idempotency_keys.c.created_at <= _A_DAY_AGO))


async def answer_of(conn: Connection, user_id: int, key: str) -> Row | None:
    """fingerprint and answer of an idempotency key used within a day."""
    return await conn.one(_ANSWER, user_id=user_id, key=key)


async def remember_key(conn: Connection, user_id: int, key: str, fingerprint: str) -> bool:
    """Stores an idempotency key. Returns False when the key got an answer after `answer_of()` was called."""
    return await conn.run(_REMEMBER_KEY, user_id=user_id, key=key, fingerprint=fingerprint) > 0


def save_answer(conn: Connection, user_id: int, key: str, answer: Any) -> None:
    """Stores the answer of a key, together with COMMIT.

    The event is appended by now, so the log is locked. A separate round trip would delay all other publishes.
    """
    conn.defer(_SAVE_ANSWER, of_user=user_id, of_key=key, answer=json(answer))


async def forget_answers(conn: Connection) -> int:
    """Removes idempotency keys older than a day."""
    return await conn.run(_FORGET)
