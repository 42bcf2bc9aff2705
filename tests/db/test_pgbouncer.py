"""The registry works behind PgBouncer in session mode, and refuses to start behind transaction mode."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from registry.db import migrate
from registry.db.engine import Database, Statement, open_database, prepared
from registry.devstack.postgres import Postgres
from registry.errors import DatabaseUnavailable, StackError
from registry.events import locks
from registry.setting_parts import DatabaseSettings
from registry.settings import Settings
from tests.conftest import MakeRegistry
from tests.db.pooler import PgBouncer
from tests.db.test_migrations import REVISIONS, empty

__all__ = ["empty"]

ONE = prepared("one_of_the_tests", Statement("SELECT %(n)s::int", {}))
PREPARED = Statement("SELECT count(*) FROM pg_prepared_statements", {})
TIMEOUT = Statement("SELECT current_setting('statement_timeout')", {})
SLEEP = Statement("SELECT pg_sleep(30)", {})

Pooled = Callable[[str, str], str]


@pytest.fixture
def pooled(postgres: Postgres, tmp_path: Path) -> Iterator[Pooled]:
    """Starts a pooler in the given mode. Returns the address of a database behind it."""
    with ExitStack() as stack:

        def start(mode: str, url: str) -> str:
            pooler = PgBouncer(tmp_path / "pgbouncer", postgres._socket_dir, mode, environ=os.environ)
            stack.enter_context(pooler)
            return pooler.url_of(urlsplit(url).path.lstrip("/"))

        yield start


def database(url: str, **more: str) -> DatabaseSettings:
    return Settings.read({"REGISTRY_DB_URL": url, **more}).database


async def test_a_statement_ends_after_its_timeout_behind_pgbouncer(pooled: Pooled, database_url: str):
    url = pooled("session", database_url)
    async with open_database(database(url, REGISTRY_DB_STATEMENT_TIMEOUT="1s")) as db:
        async with db.read() as conn:
            assert await conn.value(ONE, n=1) == 1
        with pytest.raises(DatabaseUnavailable):
            async with db.read() as conn:
                await conn.value(SLEEP)
        with pytest.raises(DatabaseUnavailable):
            async with db.session() as (conn, _):
                await conn.value(SLEEP)


async def test_a_reused_server_connection_gets_the_settings_of_its_new_client(pooled: Pooled, database_url: str):
    url = pooled("session", database_url)
    for timeout in ("7s", "8s"):
        async with open_database(database(url, REGISTRY_DB_STATEMENT_TIMEOUT=timeout)) as db, db.read() as conn:
            assert await conn.value(PREPARED) == 0
            assert await conn.value(ONE, n=1) == 1
            assert await conn.value(PREPARED) == 1
            assert await conn.value(TIMEOUT) == timeout


async def test_locks_and_announcements_work_in_session_mode(pooled: Pooled, database_url: str, db: Database):
    async with open_database(database(pooled("session", database_url))) as behind:
        async with locks.held(behind, 4299, 2), behind.session() as (conn, notifies):
            await conn.command("LISTEN tests")
            async with db.transaction() as other:
                other.announce("tests", "hello")
            async with asyncio.timeout(60):
                assert (await notifies.get()).payload == "hello"
        async with asyncio.timeout(60), locks.held(db, 4299, 2):
            pass  # PgBouncer resets the connection of a session that ended


def test_migrations_run_behind_pgbouncer(pooled: Pooled, empty: DatabaseSettings):
    settings = database(pooled("session", empty.url))
    assert migrate.upgrade(settings) == REVISIONS[-1]
    assert not migrate.pending(settings)


async def test_packages_are_published_and_found_behind_pgbouncer(
    pooled: Pooled, database_url: str, make_registry: MakeRegistry
):
    registry = await make_registry(REGISTRY_DB_URL=pooled("session", database_url))
    user = await registry.user("ada")
    await user.publish("demo")
    assert await registry.search("demo") == ["demo"]


def test_transaction_mode_is_refused_with_advice(pooled: Pooled, database_url: str):
    settings = database(pooled("transaction", database_url))
    for command in (migrate.pending, migrate.upgrade):
        with pytest.raises(StackError, match="pool_mode = session"):
            command(settings)
