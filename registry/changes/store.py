"""The SQL of the log of changes, of its checkpoints and of its keys."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import bindparam as p

from registry.changes.chain import FIRST, TYPES
from registry.db.engine import Connection, Row, Statement, prepared, statement, together
from registry.db.lock_numbers import EXTEND_CHAIN
from registry.db.tables import change_checkpoints, change_keys, changes, events, packages

_AFTER = p("after", type_=sa.BigInteger)
_IS_CHANGE = events.c.type.in_([sa.literal_column(f"'{each}'") for each in TYPES])
_CONTENT = (events.c.seq, events.c.created_at, events.c.type, events.c.package, events.c.version, events.c.data)

_LOCK = statement(sa.select(sa.func.pg_advisory_xact_lock(p("chain_lock", EXTEND_CHAIN, type_=sa.BigInteger))))
_LAST = sa.select(changes.c.seq, changes.c.hash).order_by(changes.c.seq.desc()).limit(1)
_LOCKED_LAST = together(_LOCK, statement(_LAST))
_UNCHAINED = statement(
    sa.select(*_CONTENT).where(events.c.seq > _AFTER, _IS_CHANGE).order_by(events.c.seq).limit(p("count"))
)
_ADD = statement(
    sa.text("INSERT INTO changes (seq, hash) SELECT * FROM unnest(CAST(:seqs AS bigint[]), CAST(:hashes AS bytea[]))")
)

_LAST_CHAINED = sa.select(sa.func.coalesce(sa.func.max(changes.c.seq), 0)).scalar_subquery()
# The order makes PostgreSQL use the index. It does not know that few events are beyond the end of the chain.
_FIRST_UNCHAINED = (
    sa.select(events.c.seq).where(events.c.seq > _LAST_CHAINED, _IS_CHANGE).order_by(events.c.seq).limit(1)
)
_IS_BEHIND = _FIRST_UNCHAINED.scalar_subquery().is_not(None)
_JOINED = sa.select(*_CONTENT, changes.c.hash).join(changes, changes.c.seq == events.c.seq)
# The changes of some packages. It is used twice in a statement, so PostgreSQL reads it once, by package. It does not
# search the whole log for them.
_OF_READER = (
    sa.select(events.c.seq)
    .where(
        events.c.package_id
        == sa.any_(
            sa.func.array(
                sa.select(packages.c.id)
                .where(packages.c.name == sa.any_(p("names", type_=sa.ARRAY(sa.Text))))
                .scalar_subquery()
            )
        ),
        events.c.seq <= _LAST_CHAINED,
        _IS_CHANGE,
    )
    .cte("of_reader")
)
_LAST_OF_READER = sa.select(sa.func.coalesce(sa.func.max(_OF_READER.c.seq), 0)).scalar_subquery()


def _reading(chained: sa.Select[Any], last: sa.ScalarSelect[Any]) -> Statement:
    """Reads a page of `chained` and the state of the log in one statement, so that both are of one moment.

    The state is repeated in each row. An empty page has one row, whose columns of the page are NULL.
    """
    page = chained.order_by(events.c.seq).limit(p("count")).subquery("page")
    state = sa.select(_LAST_CHAINED.label("head"), last.label("last_seq"), _IS_BEHIND.label("behind")).subquery("state")
    return statement(sa.select(state, page).select_from(state.outerjoin(page, sa.true())).order_by(page.c.seq))


# PostgreSQL does not derive one of the two comparisons from the other.
_READ = prepared("read_changes", _reading(_JOINED.where(events.c.seq > _AFTER, changes.c.seq > _AFTER), _LAST_CHAINED))
_READ_OF = _reading(
    _JOINED.join(_OF_READER, _OF_READER.c.seq == events.c.seq).where(_OF_READER.c.seq > _AFTER), _LAST_OF_READER
)
_newest = _LAST.subquery("newest")
_state = sa.select(_IS_BEHIND.label("behind"), sa.func.now().label("now")).subquery("state")
_HEAD = statement(
    sa.select(
        sa.func.coalesce(_newest.c.seq, 0).label("seq"), _newest.c.hash, _state.c.behind, _state.c.now
    ).select_from(_state.outerjoin(_newest, sa.true()))
)
_STORED = statement(
    sa.select(changes.c.seq.label("chained"), changes.c.hash, *_CONTENT)
    .select_from(changes.outerjoin(events, changes.c.seq == events.c.seq))
    .where(changes.c.seq > _AFTER)
    .order_by(changes.c.seq)
    .limit(p("count"))
)

_CHECKPOINT_NAMES = ("seq", "hash", "at", "key_id", "signature")
_ADD_CHECKPOINT = statement(
    insert(change_checkpoints).values({name: p(name) for name in _CHECKPOINT_NAMES}).on_conflict_do_nothing()
)
_LAST_CHECKPOINT = statement(sa.select(change_checkpoints).order_by(change_checkpoints.c.seq.desc()).limit(1))
# The age of the oldest change after the last checkpoint. Without a key nothing is signed, and nothing is overdue.
_UNSIGNED_SECONDS = statement(
    sa.text("""
    SELECT coalesce((
        SELECT extract(epoch FROM now() - e.created_at) FROM changes AS c JOIN events AS e ON e.seq = c.seq
        WHERE c.seq > (SELECT coalesce(max(seq), 0) FROM change_checkpoints) AND EXISTS (SELECT FROM change_keys)
        ORDER BY c.seq LIMIT 1
    ), 0)
    """)
)
_CHECKPOINTS = statement(
    sa.select(change_checkpoints)
    .where(change_checkpoints.c.seq > _AFTER)
    .order_by(change_checkpoints.c.seq)
    .limit(p("count"))
)
_new_key = insert(change_keys).values(
    key_id=p("key_id"), public_key=p("public_key"), vouched_by=p("vouched_by"), voucher=p("voucher")
)
# A key that was used before its predecessor was known gets the voucher later.
_ADD_KEY = statement(
    _new_key.on_conflict_do_update(
        index_elements=["key_id"],
        set_={"vouched_by": _new_key.excluded.vouched_by, "voucher": _new_key.excluded.voucher},
        where=sa.and_(change_keys.c.voucher.is_(None), _new_key.excluded.voucher.is_not(None)),
    )
)
_KEYS = statement(sa.select(change_keys).order_by(change_keys.c.id))


async def lock_last(conn: Connection) -> tuple[int, bytes]:
    """Keeps other transactions from extending the chain. Returns seq and hash of its last change; 0 if it is empty."""
    row = await conn.one(_LOCKED_LAST)
    return (0, FIRST) if row is None else (row.seq, bytes(row.hash))


async def unchained(conn: Connection, after: int, count: int) -> list[Row]:
    """Up to `count` events above the seq `after` that are changes, in order."""
    return await conn.all(_UNCHAINED, after=after, count=count)


async def add(conn: Connection, links: Iterable[tuple[int, bytes]]) -> None:
    """Adds (seq, hash) of changes to the chain."""
    seqs, hashes = zip(*links, strict=True)
    await conn.run(_ADD, seqs=list(seqs), hashes=list(hashes))


async def read(conn: Connection, after: int, count: int, names: frozenset[str] | None) -> list[Row]:
    """Up to `count` chained changes above the seq `after`, in order, of all packages or of those in `names`.

    Each row also has `head` (the last chained seq), `last_seq` (the last one of these packages), and `behind`: whether
    some events are not chained yet. If there are no changes, there is one row, whose `seq` is None.
    """
    if names is None:
        return await conn.all(_READ, after=after, count=count)
    return await conn.all(_READ_OF, after=after, count=count, names=sorted(names))


async def head(conn: Connection) -> Row:
    """seq (0 if the chain is empty) and hash of the last change, `behind` as in read(), and `now`, the present time."""
    return await conn.one(_HEAD)


async def stored(conn: Connection, after: int, count: int) -> list[Row]:
    """Up to `count` links of the chain above the seq `after`, in order, with the events that belong to them.

    `chained` is the link's seq. The columns of the event, such as `seq`, are None if the event is missing.
    """
    return await conn.all(_STORED, after=after, count=count)


async def add_checkpoint(conn: Connection, **values: Any) -> None:
    """Stores a checkpoint unless there is one of the same seq."""
    await conn.run(_ADD_CHECKPOINT, **values)


async def last_checkpoint(conn: Connection) -> Row | None:
    """The stored checkpoint with the highest seq."""
    return await conn.one(_LAST_CHECKPOINT)


async def unsigned_seconds(conn: Connection) -> float:
    """The age in seconds of the oldest change that no stored checkpoint covers; 0 if there is none, or no key."""
    return float(await conn.value(_UNSIGNED_SECONDS))


async def checkpoints(conn: Connection, after: int, count: int) -> list[Row]:
    """Up to `count` stored checkpoints above the seq `after`, in order."""
    return await conn.all(_CHECKPOINTS, after=after, count=count)


async def add_key(
    conn: Connection, key_id: str, public_key: bytes, vouched_by: str | None, voucher: bytes | None
) -> None:
    """Stores a public key, unless it is known. A known one without a voucher gets this voucher."""
    await conn.run(_ADD_KEY, key_id=key_id, public_key=public_key, vouched_by=vouched_by, voucher=voucher)


async def keys(conn: Connection) -> list[Row]:
    """All public keys, oldest first."""
    return await conn.all(_KEYS)
