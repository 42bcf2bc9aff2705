"""Sessions: how they are set up, how long they may be idle, and what ends them."""

import asyncio

import psycopg2
import pytest

from registry.db import connecting
from registry.db.engine import Database, Statement, open_database
from registry.devstack.postgres import Postgres
from registry.errors import DatabaseUnavailable
from registry.settings import Settings
from tests.faults.toxic import Toxic, toxic, unix

LOCK = Statement("SELECT pg_advisory_xact_lock(1)", {})
ONE = Statement("SELECT 1", {})
SETTING = Statement("SELECT current_setting(%(name)s)", {})
WAIT_SECONDS = 60.0


def options(url: str, **more: str) -> Settings:
    return Settings.read({"REGISTRY_DB_URL": url, **more})


async def test_the_settings_are_sent_after_connecting(database_url: str):
    settings = options(database_url, REGISTRY_DB_STATEMENT_TIMEOUT="7s").database
    assert "options" not in psycopg2.extensions.parse_dsn(connecting.dsn(settings))
    expected = {
        "statement_timeout": "7s",
        "idle_in_transaction_session_timeout": "3500ms",
        "timezone": "UTC",
    }
    async with open_database(settings) as db, db.read() as conn:
        assert {name: await conn.value(SETTING, name=name) for name in expected} == expected


async def test_a_session_has_the_timeouts_of_the_pool(database_url: str):
    settings = options(database_url, REGISTRY_DB_STATEMENT_TIMEOUT="7s").database
    async with open_database(settings) as db, db.session() as (conn, _):
        assert await conn.value(SETTING, name="statement_timeout") == "7s"
        assert await conn.value(SETTING, name="idle_in_transaction_session_timeout") == "3500ms"


async def test_options_in_the_url_are_added_to_the_session_settings(database_url: str):
    settings = options(f"{database_url}&options=-c%20work_mem%3D8MB", REGISTRY_DB_STATEMENT_TIMEOUT="7s").database
    async with open_database(settings) as db, db.read() as conn:
        assert await conn.value(SETTING, name="work_mem") == "8MB"
        assert await conn.value(SETTING, name="statement_timeout") == "7s"


async def test_an_idle_transaction_loses_its_locks(database_url: str, db: Database):
    settings = options(database_url, REGISTRY_DB_STATEMENT_TIMEOUT="1s").database
    async with open_database(settings) as short:
        taken_over = False
        with pytest.raises(DatabaseUnavailable):
            async with short.transaction() as conn:
                await conn.run(LOCK)
                async with db.transaction() as other:
                    await other.run(LOCK)  # waits until PostgreSQL has ended the first transaction
                    taken_over = True
                await conn.run(ONE)
        assert taken_over
        async with short.read() as conn:
            assert await conn.value(ONE) == 1


@pytest.fixture
async def wire(postgres: Postgres):
    async with toxic(unix(f"{postgres._socket_dir}/.s.PGSQL.5432")) as wire:
        yield wire


async def test_a_statement_of_a_session_has_a_timeout_when_the_server_is_silent(database_url: str, wire: Toxic):
    name = database_url.partition("?")[0].rpartition("/")[2]
    url = f"postgresql://postgres@127.0.0.1:{wire.port}/{name}"
    settings = options(url, REGISTRY_DB_STATEMENT_TIMEOUT="1s").database
    async with asyncio.timeout(WAIT_SECONDS / 2), open_database(settings) as db:
        with pytest.raises(DatabaseUnavailable):
            async with db.session() as (conn, _):
                wire.silent = True
                await conn.value(ONE)
