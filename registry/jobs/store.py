"""The SQL of the job queue. PostgreSQL's clock decides when a job is due and when a lease ends."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, json, statement, together
from registry.db.lock_numbers import LEASE_JOBS
from registry.db.tables import jobs

QUEUED, RUNNING, DEAD = "queued", "running", "dead"

KEPT_DEAD = timedelta(days=90)

_c = jobs.c
_now = sa.func.now()
_live = sa.and_(_c.key.is_not(None), _c.state != DEAD)


def _span(name: str) -> sa.BindParameter[timedelta]:
    return p(name, type_=sa.Interval)


_new = insert(jobs).values(
    kind=p("kind"),
    key=p("key"),
    payload=p("payload"),
    max_attempts=p("max_attempts"),
    run_at=_now + _span("delay"),
)
_ENQUEUE = statement(_new.on_conflict_do_nothing(index_elements=["kind", "key"], index_where=_live).returning(_c.id))
_SCHEDULE = statement(
    _new.on_conflict_do_update(
        index_elements=["kind", "key"],
        index_where=_live,
        set_={"run_at": _now + _span("every")},
        # Brings the next run forward if the interval became shorter.
        where=sa.and_(_c.state == QUEUED, _c.run_at > _now + _span("every")),
    )
)
_LOCK = statement(sa.select(sa.func.pg_advisory_xact_lock(p("lease_lock", LEASE_JOBS, type_=sa.BigInteger))))
# Leases jobs of a kind only up to its limit of running jobs. A job whose lease has ended is due again.
_LEASE = together(
    _LOCK,
    statement(
        sa.text("""
        WITH chosen AS (
            SELECT due.id
            FROM unnest(CAST(:kinds AS text[]), CAST(:limits AS integer[])) AS wanted (kind, most)
            CROSS JOIN LATERAL (
                SELECT id FROM jobs
                WHERE jobs.kind = wanted.kind AND state <> 'dead' AND run_at <= now()
                ORDER BY run_at, id
                LIMIT greatest(0, wanted.most - (
                    SELECT count(*) FROM jobs leased
                    WHERE leased.kind = wanted.kind AND leased.state = 'running' AND leased.run_at > now()
                ))
                FOR UPDATE SKIP LOCKED
            ) AS due
            LIMIT :count
        )
        UPDATE jobs
        SET state = 'running', attempts = attempts + 1, lease = gen_random_uuid(), leased_by = :worker,
            run_at = now() + CAST(:duration AS interval), updated_at = now()
        FROM chosen WHERE jobs.id = chosen.id
        RETURNING jobs.id, jobs.kind, jobs.payload, jobs.attempts, jobs.lease
        """)
    ),
)
_RENEW = statement(
    sa.update(jobs)
    .where(_c.state == RUNNING, _c.lease == sa.any_(p("leases", type_=sa.ARRAY(UUID_TYPE))))
    .values(run_at=_now + _span("duration"))
    .returning(_c.lease)
)
_held = sa.and_(_c.id == p("job"), _c.state == RUNNING, _c.lease == p("held", type_=UUID_TYPE))
_FINISH = statement(sa.delete(jobs).where(_held))
_free = {"lease": None, "leased_by": "", "updated_at": _now}
_FINISH_UNTIL_NEXT = statement(
    sa.update(jobs)
    .where(_held)
    .values(state=QUEUED, attempts=0, run_at=_now + _span("every"), last_error="", finished_at=_now, **_free)
)
_FAIL = statement(
    sa.update(jobs)
    .where(_held)
    .values(
        state=sa.case((_c.attempts >= _c.max_attempts, DEAD), else_=QUEUED),
        run_at=_now + _span("delay"),
        last_error=p("error"),
        **_free,
    )
    .returning(_c.state)
)
_BEGUN: sa.ColumnElement[Any] = sa.literal_column("'{\"begun\": true}'::jsonb")
_BEGIN = statement(
    sa.update(jobs)
    .where(_c.id == p("job"), _c.state == RUNNING, ~_c.payload.has_key("begun"))
    .values(payload=_c.payload.op("||")(_BEGUN))
)
_UNDO_BEGIN = statement(
    sa.update(jobs).where(_c.id == p("job")).values(payload=_c.payload.op("-")(sa.literal_column("'begun'")))
)
_RELEASE = statement(sa.update(jobs).where(_held).values(state=QUEUED, attempts=_c.attempts - 1, run_at=_now, **_free))
_DEAD = statement(
    sa.select(_c.id, _c.kind, _c.key, _c.payload, _c.attempts, _c.last_error, _c.created_at, _c.updated_at)
    .where(_c.state == DEAD, _c.id > p("after"))
    .order_by(_c.id)
    .limit(p("count"))
)
_other = jobs.alias()
_again = (
    sa.update(jobs)
    .values(state=QUEUED, attempts=0, run_at=_now, updated_at=_now)
    .where(
        _c.state == DEAD,
        ~sa.exists().where(_other.c.kind == _c.kind, _other.c.key == _c.key, _other.c.state != DEAD),
    )
)
_RETRY = statement(_again.where(_c.id == p("job")))
_PURGE = statement(sa.delete(jobs).where(_c.state == DEAD, _c.updated_at < _now - _span("age")))
_PAGE = statement(
    sa.select(
        _c.id, _c.kind, _c.state, _c.attempts, _c.max_attempts, _c.last_error, _c.run_at, _c.finished_at,
        _c.created_at, _c.updated_at,
    )
    .where(_c.state == p("state"), _c.id < p("before"))
    .order_by(_c.id.desc())
    .limit(p("count"))
)  # fmt: skip
_DISCARD = statement(sa.delete(jobs).where(_c.state == DEAD, _c.id == p("job")).returning(_c.kind))
_KIND = statement(sa.select(_c.kind).where(_c.id == p("job")))
_FIGURES = statement(
    sa.select(
        _c.kind,
        _c.state,
        sa.func.count(),
        sa.func.greatest(0, sa.func.extract("epoch", _now - sa.func.min(_c.run_at))),
    ).group_by(_c.kind, _c.state)
)
_LATE = statement(
    sa.select(_c.id, _c.kind, _c.state, _c.attempts, _c.last_error, _c.run_at)
    .where(_c.state != DEAD, sa.or_(_c.run_at < _now - _span("late"), _c.attempts > p("failures")))
    .order_by(_c.run_at)
    .limit(p("count"))
)


async def enqueue(
    conn: Connection, kind: str, payload: Mapping[str, Any], key: str | None, delay: timedelta, max_attempts: int
) -> int | None:
    """Adds a job and returns its id. Returns None if a live job of the kind has the key."""
    found = await conn.value(
        _ENQUEUE, kind=kind, key=key, payload=json(dict(payload)), delay=delay, max_attempts=max_attempts
    )
    return None if found is None else int(found)


async def schedule(conn: Connection, kind: str, every: timedelta, first_after: timedelta) -> None:
    """Adds the periodic job of `kind` if it is missing. Brings its next run forward if `every` became shorter."""
    await conn.run(_SCHEDULE, kind=kind, key=kind, payload=json({}), delay=first_after, max_attempts=None, every=every)


async def lease(conn: Connection, limits: Mapping[str, int], count: int, worker: str, duration: timedelta) -> list[Row]:
    """Leases up to `count` due jobs (id, kind, payload, attempts, lease) of the kinds in `limits`.

    `limits` says how many jobs of each kind may run at the same time in the whole registry.
    """
    return await conn.all(
        _LEASE,
        kinds=list(limits),
        limits=list(limits.values()),
        count=count,
        worker=worker,
        duration=duration,
    )


async def renew(conn: Connection, leases: Sequence[UUID], duration: timedelta) -> set[UUID]:
    """Extends leases. Returns those that are still held."""
    rows = await conn.all(_RENEW, leases=[str(each) for each in leases], duration=duration)
    return {UUID(str(row.lease)) for row in rows}


async def finish(conn: Connection, job: int, held: UUID, every: timedelta | None) -> bool:
    """Removes a job, or sets the next run of a periodic one. Returns False if the lease was lost."""
    if every is None:
        return bool(await conn.run(_FINISH, job=job, held=str(held)))
    return bool(await conn.run(_FINISH_UNTIL_NEXT, job=job, held=str(held), every=every))


async def fail(conn: Connection, job: int, held: UUID, delay: timedelta, error: str) -> str | None:
    """Queues a job again after `delay`, or marks it as dead after its last attempt.

    Returns the new state, or None if the lease was lost.
    """
    state: str | None = await conn.value(_FAIL, job=job, held=str(held), delay=delay, error=error)
    return state


async def begin(conn: Connection, job: int) -> bool:
    """Adds `begun` to the payload of a running job. Returns False if the payload has it already."""
    return bool(await conn.run(_BEGIN, job=job))


async def undo_begin(conn: Connection, job: int) -> None:
    """Removes `begun` from the payload of a job."""
    await conn.run(_UNDO_BEGIN, job=job)


async def release(conn: Connection, job: int, held: UUID) -> None:
    """Releases an interrupted job. It is due at once, and the attempt does not count."""
    await conn.run(_RELEASE, job=job, held=str(held))


async def dead(conn: Connection, after: int, count: int) -> list[Row]:
    """Up to `count` dead jobs with ids above `after`."""
    return await conn.all(_DEAD, after=after, count=count)


async def retry(conn: Connection, job: int) -> bool:
    """Makes a dead job due again as if it had never run. Returns False if it isn't dead or a live job has its key."""
    return bool(await conn.run(_RETRY, job=job))


async def page(conn: Connection, state: str, before: int, count: int) -> list[Row]:
    """Up to `count` jobs in a state with ids below `before`, newest first."""
    return await conn.all(_PAGE, state=state, before=before, count=count)


async def kind_of(conn: Connection, job: int) -> str | None:
    found: str | None = await conn.value(_KIND, job=job)
    return found


async def discard(conn: Connection, job: int) -> str | None:
    """Deletes a dead job. Returns its kind, None if there is no dead job with this id."""
    found: str | None = await conn.value(_DISCARD, job=job)
    return found


async def purge(conn: Connection) -> int:
    """Removes jobs that have been dead for KEPT_DEAD. Returns their number."""
    return await conn.run(_PURGE, age=KEPT_DEAD)


async def figures(conn: Connection) -> list[tuple[str, str, int, float]]:
    """(kind, state, number of jobs, seconds since the first of them was due) for each kind and state."""
    return [(kind, state, int(number), float(age)) for kind, state, number, age in await conn.all(_FIGURES)]


async def late(conn: Connection, late: timedelta, failures: int, count: int) -> list[Row]:
    """Up to `count` live jobs that were due longer than `late` ago, or failed more than `failures` times."""
    return await conn.all(_LATE, late=late, failures=failures, count=count)
