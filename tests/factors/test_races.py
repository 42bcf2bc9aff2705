"""Requests that run at the same time as the end of an account, or as a new factor."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from registry.accounts import store as accounts
from registry.db.engine import Connection, Statement
from registry.keys import DB
from tests.client import Answer, Registry, User
from tests.factors.conftest import log_in
from tests.web.shape import check_error

WAITERS = Statement(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'", {}
)
SESSIONS = Statement("SELECT count(*) FROM sessions WHERE user_id = %(id)s", {})
CONFIRMED_APP = Statement(
    "INSERT INTO totp_secrets (user_id, sealed, confirmed_at) VALUES (%(id)s, 'sealed', now())", {}
)


@asynccontextmanager
async def meanwhile(registry: Registry, request: Awaitable[Answer], answers: list[Answer]) -> AsyncIterator[Connection]:
    """A transaction for the block. Before it commits, `request` is sent, and waits for a lock of the transaction."""
    db = registry.app[DB]
    async with db.transaction() as conn:
        yield conn
        task = asyncio.ensure_future(request)
        async with asyncio.timeout(30):
            while not task.done():
                async with db.read() as other:
                    if await other.value(WAITERS):
                        break
                await asyncio.sleep(0.02)
    answers.append(await task)


async def end_account(conn: Connection, user: User) -> None:
    await accounts.lock_user(conn, user.id)
    await accounts.end_account(conn, user.id)


async def test_a_login_does_not_outlive_its_account(registry: Registry):
    ada = await registry.user()
    answers: list[Answer] = []
    async with meanwhile(registry, log_in(registry), answers) as conn:
        await end_account(conn, ada)
    check_error(answers[0], 401)
    async with registry.app[DB].read() as conn:
        assert await conn.value(SESSIONS, id=ada.id) == 1  # that of registry.user()


async def test_a_login_does_not_skip_a_factor_that_is_being_added(registry: Registry):
    ada = await registry.user()
    answers: list[Answer] = []
    async with meanwhile(registry, log_in(registry), answers) as conn:
        await accounts.lock_user(conn, ada.id)
        await conn.run(CONFIRMED_APP, id=ada.id)
    assert (answers[0].status, answers[0].json["code"]) == (401, "second_factor_required")


async def test_whoever_ends_the_account_makes_no_webhook(registry: Registry):
    ada = await registry.user()
    answers: list[Answer] = []
    body = {"url": "https://example.com/", "scope": {"owner": "me"}, "events": ["*"]}
    async with meanwhile(registry, ada.call("POST", "/webhooks", json=body), answers) as conn:
        await end_account(conn, ada)
    check_error(answers[0], 401)
