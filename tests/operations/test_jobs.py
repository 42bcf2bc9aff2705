"""What admins see of background jobs, and do with dead ones."""

import pytest

from registry.accounts.identity import Principal
from registry.accounts.register import register
from registry.audit.read import registry_audit
from registry.audit.store import Filters
from registry.db.engine import Database, Statement
from registry.errors import Conflict, Forbidden, InvalidInput, NotFound
from registry.jobs import queue
from registry.operations import jobs
from registry.operations.attention import attention
from registry.setting_parts import AccountSettings
from registry.web.paging import NEWEST

USER = Principal(2, "ada", "user", 1)
_DIE = Statement("UPDATE jobs SET state = 'dead', attempts = 10, last_error = 'ValueError: no' WHERE id = %(job)s", {})
_LATE = Statement("UPDATE jobs SET run_at = now() - interval '2 hours'", {})


@pytest.fixture
async def root(db: Database, settings: AccountSettings) -> Principal:
    user = await register(db, settings, "root", "Correct-Horse-42", None, "admin")
    return Principal(user.id, user.username, user.role, user.credentials_version)


async def enqueue(db: Database, key: str | None = None, *, dead: bool = False) -> int:
    async with db.transaction() as conn:
        job = await queue.enqueue(conn, "send", {"to": "ada@example.com"}, key=key)
        assert job is not None
        if dead:
            await conn.run(_DIE, job=job)
    return job


async def test_admins_list_jobs_by_state_without_their_payloads(db: Database, root: Principal):
    first, dead, last = await enqueue(db), await enqueue(db, dead=True), await enqueue(db)
    assert [each.id for each in await jobs.list_jobs(db, root, "queued", NEWEST, 9)] == [last, first]
    assert [each.id for each in await jobs.list_jobs(db, root, "queued", last, 9)] == [first]
    [found] = await jobs.list_jobs(db, root, "dead", NEWEST, 9)
    assert (found.id, found.kind, found.attempts, found.last_error) == (dead, "send", 10, "ValueError: no")
    assert "ada@example.com" not in repr(found)
    assert await jobs.count_jobs(db, root) == {"dead": 1, "queued": 2, "running": 0}
    with pytest.raises(InvalidInput):
        await jobs.list_jobs(db, root, "lost", NEWEST, 9)


async def test_a_dead_job_is_retried_or_discarded_with_an_audit_entry(db: Database, root: Principal):
    again, gone = await enqueue(db, dead=True), await enqueue(db, dead=True)
    await jobs.retry_job(db, root, again)
    await jobs.discard_job(db, root, gone)
    assert await jobs.count_jobs(db, root) == {"dead": 0, "queued": 1, "running": 0}
    with pytest.raises(Conflict):
        await jobs.retry_job(db, root, again)
    for act in (jobs.discard_job(db, root, again), jobs.discard_job(db, root, gone), jobs.retry_job(db, root, gone)):
        with pytest.raises(NotFound):
            await act
    entries = (await registry_audit(db, root, Filters(), NEWEST, 9))["entries"]
    assert [(each["action"], each["details"]) for each in entries[:2]] == [
        ("job.discard", {"job": gone, "kind": "send"}), ("job.retry", {"job": again, "kind": "send"}),
    ]  # fmt: skip


async def test_a_dead_job_is_not_retried_while_another_does_its_work(db: Database, root: Principal):
    dead = await enqueue(db, "same", dead=True)
    await enqueue(db, "same")
    with pytest.raises(Conflict):
        await jobs.retry_job(db, root, dead)


async def test_only_admins_see_and_change_jobs(db: Database):
    for act in (
        jobs.list_jobs(db, USER, "dead", NEWEST, 9), jobs.count_jobs(db, USER), jobs.retry_job(db, USER, 1),
        jobs.discard_job(db, USER, 1), attention(db, USER),
    ):  # fmt: skip
        with pytest.raises(Forbidden):
            await act


async def test_the_figures_say_what_needs_attention(db: Database, root: Principal):
    calm = await attention(db, root)
    assert (calm.open_reports, calm.quarantined, calm.dead_jobs, calm.late_jobs, calm.disabled_webhooks) == (0,) * 5
    await enqueue(db, dead=True)
    await enqueue(db)
    async with db.transaction() as conn:
        await conn.run(_LATE)
    found = await attention(db, root)
    assert (found.dead_jobs, found.late_jobs) == (1, 1)
