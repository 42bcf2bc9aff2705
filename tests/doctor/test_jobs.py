"""The doctor finds dead and late jobs, and makes dead ones due again."""

import pytest

from registry.db.engine import Statement
from registry.doctor import jobs
from registry.doctor.check import Registry
from registry.doctor.examine import examine
from registry.doctor.report import as_text

_JOBS = (
    "INSERT INTO jobs (kind, state, attempts, max_attempts, run_at, last_error) VALUES "
    "('test', 'dead', 3, 3, now(), 'ValueError: a bug'), ('test', 'dead', 1, 1, now(), 'KeyError: another'), "
    "('test', 'queued', 0, 3, now() - interval '59 minutes', ''), "
    "('test', 'queued', 0, 3, now() + interval '1 day', '')"
)
_LATE = "INSERT INTO jobs (kind, attempts, run_at) VALUES ('idle', 0, now() - interval '2 hours')"
_FAILING = "INSERT INTO jobs (kind, attempts, run_at, last_error) VALUES ('broken', 6, now(), 'ValueError: a bug')"
_RETRIED = "SELECT count(*) FROM jobs WHERE state = 'queued' AND attempts = 0 AND run_at <= now()"


async def insert(registry: Registry, *statements: str) -> None:
    async with registry.db.transaction() as conn:
        await conn.run(Statement("DELETE FROM jobs", {}))
        for each in statements:
            await conn.run(Statement(each, {}))


async def test_dead_jobs_are_found_and_made_due_again(resting: Registry):
    await insert(resting, _JOBS)
    report = await examine(resting, jobs.CHECKS, repair=True)
    assert [(result.name, result.found, result.left) for result in report.results] == [
        ("dead jobs", 2, 0),
        ("late jobs", 0, 0),
    ]
    assert "ValueError: a bug" in as_text(report)
    async with resting.db.read() as conn:
        assert await conn.value(Statement(_RETRIED, {})) == 3


@pytest.mark.parametrize(("row", "text"), [(_LATE, "idle"), (_FAILING, "failed 6 times: ValueError: a bug")])
async def test_late_and_repeatedly_failing_jobs_are_found(resting: Registry, row: str, text: str):
    await insert(resting, row)
    dead, late = (await examine(resting, jobs.CHECKS, repair=False)).results
    assert (dead.found, late.found) == (0, 1)
    assert text in late.examples[0]
