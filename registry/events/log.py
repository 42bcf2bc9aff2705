"""The event log: append-only, without gaps, in the order of commits.

`append()` must be the last statement of a transaction. It takes an advisory lock that is held until the commit, so a
reader that sees a `seq` has seen every event before it. Consumers read the log with `read_after()`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, Statement, json, prepared, statement, together
from registry.db.lock_numbers import APPEND_EVENT
from registry.db.tables import consumers, events

CHANNEL = "registry_events"
"""Announces the package id of each event; "" when the subject is not a package."""

PACKAGE = "package"

VERSION_PUBLISHED = "version.published"
VERSION_DELETED = "version.deleted"
VERSION_RESTORED = "version.restored"
VERSION_YANKED = "version.yanked"
VERSION_UNYANKED = "version.unyanked"
PACKAGE_DEPRECATED = "package.deprecated"
PACKAGE_UNDEPRECATED = "package.undeprecated"
PACKAGE_CREATED = "package.created"
PACKAGE_QUARANTINED = "package.quarantined"
PACKAGE_RELEASED = "package.released"
PACKAGE_OWNERS_CHANGED = "package.owners_changed"
PACKAGE_TRANSFERRED = "package.transferred"
LOST = "log.lost"
"""Takes the number of a lost event, so that the log has no gap. Consumers ignore it."""

_LOCK = statement(sa.select(sa.func.pg_advisory_xact_lock(p("append_lock", APPEND_EVENT, type_=sa.BigInteger))))
_NEXT = sa.select(sa.func.coalesce(sa.func.max(events.c.seq), 0) + 1).scalar_subquery()
_append = statement(
    sa.insert(events)
    .values(
        seq=_NEXT,
        type=p("type"),
        package_id=p("package_id"),
        package=p("package"),
        version=p("version"),
        actor_id=p("actor_id"),
        data=p("data"),
        subject_type=p("subject_type"),
        subject_id=p("subject_id"),
    )
    .returning(events.c.seq, events.c.created_at)
)
_APPEND = prepared("append_event", _append)
_APPEND_ONE = together(_LOCK, _APPEND)
_append_created = statement(
    sa.insert(events).values(
        seq=_NEXT,
        type=sa.literal_column(f"'{PACKAGE_CREATED}'"),
        package_id=p("package_id"),
        package=p("package"),
        actor_id=p("actor_id"),
        data=sa.literal_column("'{}'::jsonb"),
    )
)
# Appends PACKAGE_CREATED before the event.
_APPEND_FIRST = together(_LOCK, prepared("append_created", _append_created), _APPEND)
_VERSIONS = (
    sa.func.unnest(p("versions", type_=ARRAY(sa.Text)))
    .table_valued("version", with_ordinality="number")
    .render_derived()
)
_append_all = statement(
    sa.insert(events)
    .from_select(
        ["seq", "type", "package_id", "package", "version", "actor_id", "data"],
        sa.select(
            _NEXT - 1 + _VERSIONS.c.number,
            sa.cast(p("type"), sa.Text),
            sa.cast(p("package_id"), sa.BigInteger),
            sa.cast(p("package"), sa.Text),
            _VERSIONS.c.version,
            sa.cast(p("actor_id"), sa.BigInteger),
            sa.literal_column("'{}'::jsonb"),
        ),
    )
)  # fmt: skip
_APPEND_ALL = together(_LOCK, _append_all)
_READ = statement(
    sa.select(
        events.c.seq,
        events.c.type,
        events.c.package_id,
        events.c.package,
        events.c.version,
        events.c.actor_id,
        sa.cast(events.c.data, sa.Text).label("data"),
        events.c.created_at,
        events.c.subject_type,
        events.c.subject_id,
    )
    .where(events.c.seq > p("after"))
    .order_by(events.c.seq)
    .limit(p("count"))
)
_SEQS = statement(sa.select(events.c.seq).where(events.c.seq > p("after")).order_by(events.c.seq).limit(p("count")))
_LAST = statement(sa.select(sa.func.coalesce(sa.func.max(events.c.seq), 0)))
_LAST_OF_PACKAGE = statement(
    sa.select(sa.func.coalesce(sa.func.max(events.c.seq), 0)).where(events.c.package_id == p("of_package"))
)
_POSITION = statement(sa.select(consumers.c.seq).where(consumers.c.name == p("name")))
_LAG = statement(
    sa.select(
        consumers.c.name,
        sa.func.coalesce(sa.select(sa.func.max(events.c.seq)).scalar_subquery(), 0) - consumers.c.seq,
        sa.select(sa.func.extract("epoch", sa.func.now() - events.c.created_at))
        .where(events.c.seq == consumers.c.seq + 1)
        .scalar_subquery(),
    )
)


class Event(NamedTuple):
    """A change of a subject, which is a package, a user, a token, or something else.

    `package_id`, `package` (the name) and `version` describe a package; for other subjects they are None, "" and None.
    `subject_id` is None for a package, whose id is `package_id`. `data` holds the fields of this `type` of event.
    """

    seq: int
    type: str
    package_id: int | None
    package: str
    version: str | None
    actor_id: int | None
    data: dict[str, Any]
    created_at: datetime
    subject_type: str = PACKAGE
    subject_id: int | None = None

    @property
    def is_about_package(self) -> bool:
        """False for other subjects, and for a lost event: a consumer of packages skips those."""
        return self.subject_type == PACKAGE and self.type != LOST


async def lock(conn: Connection) -> None:
    """Keeps other transactions from appending until this one ends."""
    await conn.run(_LOCK)


async def append(conn: Connection, type_: str, **event: Any) -> int:
    """Appends an event and returns its seq. Must be the last statement of the transaction (see the module).

    `event` has `actor_id`. For a package it has `package_id` and `package`, and it may have `version`; for another
    subject, `subject_type` and `subject_id`. It may have `data`. Releases that don't know subjects treat every event as
    one about a package. Append other events only when no such release runs.
    """
    values = _values(type_, **event)
    seq = int(await conn.value(_APPEND_ONE, **values))
    conn.announce(CHANNEL, str(values["package_id"] or ""))
    return seq


async def finish(
    conn: Connection, stmt: Statement, values: Mapping[str, Any], type_: str, *, is_first: bool, **event: Any
) -> Row:
    """Runs `stmt` with `values` and appends an event, as the last statements of a transaction: see Connection.finish().

    If `is_first`, the event PACKAGE_CREATED comes before it. Returns the event's `seq` and `created_at`.
    """
    appended = _values(type_, **event)
    conn.announce(CHANNEL, str(appended["package_id"] or ""))
    return await conn.finish(stmt, _APPEND_FIRST if is_first else _APPEND_ONE, **{**values, **appended})


def _values(
    type_: str,
    *,
    actor_id: int | None,
    package_id: int | None = None,
    package: str = "",
    version: str | None = None,
    subject_type: str = PACKAGE,
    subject_id: int | None = None,
    data: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "type": type_,
        "package_id": package_id,
        "package": package,
        "version": version,
        "actor_id": actor_id,
        "data": json(data or {}),
        "subject_type": subject_type,
        "subject_id": subject_id,
    }


async def append_all(
    conn: Connection, type_: str, versions: Sequence[str], *, actor_id: int | None, package_id: int, package: str
) -> None:
    """Appends an event about each of `versions`, in their order. Must be the last statement of the transaction."""
    await conn.run(
        _APPEND_ALL, versions=list(versions), type=type_, package_id=package_id, package=package, actor_id=actor_id
    )
    conn.announce(CHANNEL, str(package_id))


async def read_after(conn: Connection, after: int, count: int) -> list[Event]:
    """Returns up to `count` events with a seq above `after`, in order."""
    # Each consumer reads every event. orjson parses `data` in a fraction of the driver's time.
    return [
        Event(seq, type_, package_id, package, version, actor_id, orjson.loads(data), *rest)
        for seq, type_, package_id, package, version, actor_id, data, *rest in await conn.all(
            _READ, after=after, count=count
        )
    ]


async def seqs_after(conn: Connection, after: int, count: int) -> list[Row]:
    """As `read_after()`, but the rows have only the `seq`."""
    return await conn.all(_SEQS, after=after, count=count)


async def last_seq(conn: Connection) -> int:
    """Returns the newest seq; 0 for an empty log."""
    return int(await conn.value(_LAST))


async def last_seq_of_package(conn: Connection, package_id: int) -> int:
    """Returns the seq of the newest event of a package; 0 if there is none."""
    return int(await conn.value(_LAST_OF_PACKAGE, of_package=package_id))


async def position(conn: Connection, consumer: str) -> int:
    """Returns the cursor of `consumer`: the seq up to which it has handled the log, 0 before its first event."""
    return int(await conn.value(_POSITION, name=consumer) or 0)


async def lags(conn: Connection) -> list[tuple[str, int, float]]:
    """Returns (consumer, number of events it has not handled, age of the oldest of them in seconds) per consumer."""
    return [(name, int(behind), float(waited or 0)) for name, behind, waited in await conn.all(_LAG)]
