"""Metrics that describe the whole registry. They are read from the database at each scrape."""

from prometheus_client import Gauge

from registry.analytics import consumer as analytics
from registry.changes import store as changes
from registry.db.engine import Database
from registry.errors import DatabaseUnavailable
from registry.jobs import store as job_store
from registry.reports import store as reports
from registry.webhooks import store as webhooks

LAG_EVENTS = Gauge("registry_consumer_lag_events", "Events that a consumer has not handled yet", ["consumer"])
LAG_SECONDS = Gauge(
    "registry_consumer_lag_seconds", "Age of the oldest event that a consumer has not handled yet", ["consumer"]
)
JOBS = Gauge("registry_job_queue", "Jobs in the queue", ["job", "state"])
JOBS_LATE = Gauge("registry_job_late_seconds", "How long the first due job has waited", ["job"])
UNSIGNED = Gauge("registry_changes_unsigned_seconds", "Age of the oldest change that no stored checkpoint covers")
WEBHOOKS = Gauge("registry_webhooks", "Webhooks that work, fail, or were disabled", ["state"])
REPORTS = Gauge("registry_reports_open", "Reports of packages that no admin has closed")
POOL = Gauge("registry_db_connections", "Database connections of the pool", ["state"])
DATABASE_UP = Gauge("registry_db_up", "Whether the database answered the last scrape")


async def update(db: Database) -> None:
    """Sets all gauges. While the database is away, those that come from it keep their values."""
    used, size, most = db.use()
    for state, value in (("used", used), ("open", size), ("most", most)):
        POOL.labels(state).set(value)
    try:
        async with db.read() as conn:
            lags = await analytics.lags(conn)
            jobs = await job_store.figures(conn)
            unsigned = await changes.unsigned_seconds(conn)
            hooks = await webhooks.states(conn)
            open_reports = await reports.count_open(conn)
    except DatabaseUnavailable:
        DATABASE_UP.set(0)
        return
    DATABASE_UP.set(1)
    UNSIGNED.set(unsigned)
    REPORTS.set(open_reports)
    for state, number in hooks.items():
        WEBHOOKS.labels(state).set(number)
    for consumer, events, seconds in lags:
        LAG_EVENTS.labels(consumer).set(events)
        LAG_SECONDS.labels(consumer).set(seconds)
    for gauge in (JOBS, JOBS_LATE):
        gauge.clear()
    for kind, state, number, late in jobs:
        JOBS.labels(kind, state).set(number)
        if state == job_store.QUEUED:
            JOBS_LATE.labels(kind).set(late)
