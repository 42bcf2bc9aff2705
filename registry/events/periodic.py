"""Jobs that come round: each runs in one process of the fleet at a time."""

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable
from datetime import timedelta

from prometheus_client import Counter

from registry.db.engine import Database
from registry.errors import Unavailable
from registry.events.locks import try_lock

log = logging.getLogger(__name__)

RUNS = Counter("registry_jobs_total", "Runs of periodic jobs", ["job", "outcome"])
# Of two spaces of session locks this is the jobs'.
LOCK_CLASS = 4203


async def every(
    db: Database,
    name: str,
    interval: timedelta,
    job: Callable[[], Awaitable[object]],
    *,
    first_after: timedelta = timedelta(0),
) -> None:
    """Runs `job` after `first_after` and after each `interval`, for ever. A job must be harmless to repeat.

    A failure is logged and counted, and the job comes round again.
    """
    RUNS.labels(name, "failed")  # known from the start, so that the first failure is an increase
    await asyncio.sleep(first_after.total_seconds())
    while True:
        try:
            async with db.session() as (conn, _):
                if await try_lock(conn, LOCK_CLASS, zlib.crc32(name.encode()) - (1 << 31)):
                    await job()
            RUNS.labels(name, "done").inc()
        except Unavailable as error:
            log.warning("job waits", extra={"job": name, "reason": error.detail})
            RUNS.labels(name, "unavailable").inc()
        except Exception:  # one job's bug must not end the others: the log has the trace, the counter the alarm
            log.exception("job failed", extra={"job": name})
            RUNS.labels(name, "failed").inc()
        await asyncio.sleep(interval.total_seconds())
