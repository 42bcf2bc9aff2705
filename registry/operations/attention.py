"""The figures that tell admins what needs their attention."""

from dataclasses import dataclass

from registry.accounts.identity import Principal
from registry.changes import store as changes
from registry.db.engine import Database
from registry.jobs import store as jobs
from registry.packages.status import store as status
from registry.reports import store as reports
from registry.webhooks import store as webhooks

LATE_SECONDS = 3600.0
"""A job that has been due for this long waits for a worker that isn't there, or for other jobs."""


@dataclass(frozen=True, slots=True)
class Attention:
    """`late_jobs` is the number of kinds whose first job has been due for LATE_SECONDS.

    `unsigned_seconds` is the age of the oldest change that no stored checkpoint covers.
    """

    open_reports: int
    quarantined: int
    dead_jobs: int
    late_jobs: int
    disabled_webhooks: int
    unsigned_seconds: float


async def attention(db: Database, who: Principal) -> Attention:
    """Raises Forbidden unless `who` is an admin."""
    who.require("admin")
    async with db.read() as conn:
        figures = await jobs.figures(conn)
        return Attention(
            open_reports=await reports.count_open(conn),
            quarantined=await status.count_quarantined(conn),
            dead_jobs=sum(number for _, state, number, _ in figures if state == jobs.DEAD),
            late_jobs=sum(1 for _, state, _, late in figures if state == jobs.QUEUED and late > LATE_SECONDS),
            disabled_webhooks=(await webhooks.states(conn)).get("disabled", 0),
            unsigned_seconds=await changes.unsigned_seconds(conn),
        )
