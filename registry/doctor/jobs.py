"""Finds dead jobs, and jobs that are overdue or fail again and again."""

from datetime import timedelta

from registry.db.engine import Connection
from registry.doctor.check import Check, Found, Registry, reading
from registry.jobs import queue, store

LATE = timedelta(hours=1)
FAILURES = 5
PAGE = 500


async def _find_dead(conn: Connection) -> Found:
    found, after = Found(), 0
    while rows := await store.dead(conn, after, PAGE):
        for row in rows:
            found.add(f"{row.kind} {row.id} failed {row.attempts} times: {row.last_error}")
        after = rows[-1].id
    return found


async def _retry(registry: Registry) -> None:
    after = 0
    while True:
        async with registry.db.transaction() as conn:
            rows = await store.dead(conn, after, PAGE)
            for row in rows:
                await queue.retry(conn, row.id)
        if not rows:
            return
        after = rows[-1].id


async def _find_late(conn: Connection) -> Found:
    found = Found()
    for row in await store.late(conn, LATE, FAILURES, PAGE):
        reason = f" and failed {row.attempts} times: {row.last_error}" if row.last_error else ""
        found.add(f"{row.kind} {row.id} is {row.state}, due since {row.run_at:%Y-%m-%d %H:%M}Z{reason}")
    return found


CHECKS = (
    Check(
        "dead jobs",
        "no job has failed so often that it is not retried",
        "find the cause in the log; --repair makes these jobs due again",
        reading(_find_dead),
        _retry,
    ),
    Check(
        "late jobs",
        "every job that is due runs within an hour, and none fails again and again",
        "start `synapse-registry serve` or `synapse-registry worker`; find in the log why a job fails",
        reading(_find_late),
    ),
)
