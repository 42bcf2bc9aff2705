"""The engine: statements, transactions, lost connections, and errors with names."""

import asyncio
import os
from contextlib import ExitStack, closing

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.connecting import dsn
from registry.db.driver import is_readable
from registry.db.engine import (
    ConstraintViolated,
    Database,
    Statement,
    open_database,
    prepared,
    statement,
    together,
)
from registry.db.tables import users
from registry.errors import DatabaseUnavailable
from registry.settings import Settings
from registry.web.connections import raise_open_files_limit
from tests.background import in_background
from tests.until import until

ADD = statement(
    sa.insert(users).values(username=p("username"), email=None, password_hash="x", role="user").returning(users.c.id)
)
ADD_OTHER = statement(sa.insert(users).values(username=p("other"), email=None, password_hash="x", role="user"))
COUNT = statement(sa.select(sa.func.count()).select_from(users))
LOCKS = Statement(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    {},
)
PIDS = Statement("SELECT pg_backend_pid()", {})
SLEEPING = Statement(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'", {}
)
# select() knows no file from this number on.
MANY_FILES = 1024


async def test_a_transaction_commits_when_its_block_ends(db: Database):
    async with db.transaction() as conn:
        await conn.value(ADD, username="ada")
    async with db.read() as conn:
        assert await conn.value(COUNT) == 1


async def test_a_transaction_rolls_back_when_its_block_raises(db: Database):
    with pytest.raises(KeyError):
        async with db.transaction() as conn:
            await conn.value(ADD, username="ada")
            raise KeyError
    async with db.read() as conn:
        assert await conn.value(COUNT) == 0


async def test_deferred_statements_run_with_the_commit_in_order(db: Database):
    rename = statement(sa.update(users).where(users.c.username == p("before")).values(username=p("after")))
    async with db.transaction() as conn:
        conn.defer(ADD, username="ada")
        conn.defer(prepared("rename", rename), before="ada", after="grace")
        assert await conn.value(COUNT) == 0
    async with db.read() as conn:
        assert await conn.value(statement(sa.select(users.c.username))) == "grace"


async def test_two_deferred_statements_with_a_value_of_the_same_name_are_refused(db: Database):
    with pytest.raises(ValueError, match="same name"):
        async with db.transaction() as conn:
            conn.defer(ADD, username="ada")
            conn.defer(ADD, username="grace")
    async with db.read() as conn:
        assert await conn.value(COUNT) == 0


async def test_a_failing_deferred_statement_rolls_the_transaction_back(db: Database):
    for _ in range(3):
        with pytest.raises(ConstraintViolated) as failure:
            async with db.transaction() as conn:
                await conn.value(ADD, username="ada")
                conn.defer(ADD, username="ada")
        assert failure.value.constraint == "users_username_key"
        async with db.read() as conn:
            assert await conn.value(COUNT) == 0
            assert await conn.value(LOCKS) == 0


async def test_the_last_statements_commit_together_with_all_that_was_deferred(db: Database):
    heard: list[tuple[str, str]] = []
    db.on_announced(lambda channel, payload: heard.append((channel, payload)))
    async with db.transaction() as conn:
        conn.defer(ADD_OTHER, other="grace")
        conn.announce("registry_events", "1")
        row = await conn.finish(ADD, COUNT, username="ada")
        assert row[0] == 2
        async with db.read() as elsewhere:
            assert await elsewhere.value(COUNT) == 2
    assert heard == [("registry_events", "1")]
    async with db.read() as conn:
        assert await conn.value(COUNT) == 2


async def test_a_failure_of_the_last_statements_keeps_nothing(db: Database):
    async with db.transaction() as conn:
        await conn.value(ADD, username="ada")
    with pytest.raises(ConstraintViolated):
        async with db.transaction() as conn:
            conn.defer(ADD_OTHER, other="Ada")
            await conn.finish(prepared("add_user", ADD), COUNT, username="grace")
    async with db.transaction() as conn:
        assert (await conn.finish(prepared("add_user", ADD), COUNT, username="grace"))[0] == 2


async def test_the_last_statements_of_a_longer_transaction_commit_at_its_end(db: Database):
    with pytest.raises(KeyError):
        async with db.transaction() as conn:
            await conn.value(ADD, username="ada")
            assert (await conn.finish(ADD_OTHER, COUNT, other="grace"))[0] == 2
            raise KeyError
    async with db.transaction() as conn:
        await conn.value(ADD, username="ada")
        assert (await conn.finish(ADD_OTHER, COUNT, other="grace"))[0] == 2
    async with db.read() as conn:
        assert await conn.value(COUNT) == 2


async def test_a_transaction_that_need_not_be_durable_does_not_wait_for_the_disk(db: Database):
    # The tests' server itself has it off, so the test looks at where the value comes from.
    source = Statement("SELECT setting, source FROM pg_settings WHERE name = 'synchronous_commit'", {})
    async with db.transaction(durable=False) as conn:
        assert await conn.one(source) == ("off", "session")
        await conn.value(ADD, username="ada")
    async with db.transaction() as conn:
        assert (await conn.one(source)).source != "session"
        assert await conn.value(COUNT) == 1


async def test_a_cancelled_transaction_rolls_back_and_keeps_the_pool_intact(db: Database):
    async def slow() -> None:
        async with db.transaction() as conn:
            await conn.value(ADD, username="ada")
            await conn.value(Statement("SELECT pg_sleep(30)", {}))

    async def is_asleep() -> bool:
        async with db.read() as conn:
            return bool(await conn.value(SLEEPING))

    async with in_background(slow()) as task:
        await until(is_asleep)
    assert task.cancelled()
    async with db.read() as conn:
        assert await conn.value(COUNT) == 0
    assert db.use()[0] == 0


async def test_a_prepared_statement_is_planned_once_by_each_connection(db: Database):
    times = prepared("times", Statement("SELECT %(a)s::int * %(b)s::int + %(a)s::int AS result, '%%' AS sign", {}))
    both = together(COUNT, times)
    known = Statement("SELECT count(*) FROM pg_prepared_statements WHERE name = 'times'", {})
    with pytest.raises(KeyError):
        async with db.transaction() as conn:
            assert await conn.value(both, a=3, b=4) == 15
            raise KeyError
    async with db.transaction() as first, db.transaction() as second:
        assert await first.value(known) == 1  # it stays after the rollback
        assert await second.value(known) == 0
        for conn in (first, second, first, second):
            assert tuple(await conn.one(both, a=5, b=6)) == (35, "%")
            assert await conn.value(known) == 1


async def test_joined_prepared_statements_keep_their_defaults(db: Database):
    first = prepared("first", Statement("SELECT %(a)s::int + %(more)s", {"more": 10}))
    second = prepared("second", Statement("SELECT %(a)s::int * %(more)s", {"more": 100}))
    async with db.transaction() as conn:
        assert await conn.value(together(first, second), a=3) == 300
        assert await conn.value(first, a=3) == 13


async def test_a_violated_constraint_has_its_name(db: Database):
    async with db.transaction() as conn:
        await conn.value(ADD, username="ada")
    with pytest.raises(ConstraintViolated, match="users_username_key"):
        async with db.transaction() as conn:
            await conn.value(ADD, username="ADA")


async def test_a_snapshot_does_not_see_later_commits(db: Database):
    async with db.read(snapshot=True) as conn:
        assert await conn.value(COUNT) == 0
        async with db.transaction() as other:
            await other.value(ADD, username="ada")
        assert await conn.value(COUNT) == 0
    async with db.read() as conn:
        assert await conn.value(COUNT) == 1


async def test_connections_that_the_server_closed_are_replaced(db: Database, database_url: str):
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(_pid(db))
    with closing(psycopg2.connect(database_url)) as other:
        other.autocommit = True
        other.cursor().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await until(lambda: all(conn.closed or is_readable(conn.raw) for conn in db._pool._free))
    for _ in range(10):
        assert await _pid(db) > 0


async def test_a_statement_that_takes_too_long_is_unavailable(database_url: str):
    settings = Settings.read({"REGISTRY_DB_URL": database_url, "REGISTRY_DB_STATEMENT_TIMEOUT": "1s"})
    async with open_database(settings.database) as db:
        with pytest.raises(DatabaseUnavailable):
            await _sleep(db)
        assert await _pid(db) > 0


async def test_planning_that_takes_too_long_is_unavailable_and_can_be_repeated(db: Database, database_url: str):
    settings = Settings.read({"REGISTRY_DB_URL": database_url, "REGISTRY_DB_STATEMENT_TIMEOUT": "1s"})
    counting = prepared("counting", COUNT)  # needs no value
    async with open_database(settings.database) as hurried:
        async with db.transaction() as conn:
            await conn.command("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(DatabaseUnavailable):
                async with hurried.transaction() as waiting:
                    await waiting.value(counting)
        async with hurried.transaction() as conn:
            assert await conn.value(counting) == 0


async def test_a_waiting_reader_gets_a_new_connection_when_one_breaks(database_url: str):
    values = {"REGISTRY_DB_URL": database_url, "REGISTRY_DB_STATEMENT_TIMEOUT": "1s", "REGISTRY_DB_POOL_SIZE": "2"}
    async with open_database(Settings.read(values).database) as db, asyncio.timeout(2):
        slow = asyncio.gather(_sleep(db), _sleep(db), return_exceptions=True)
        await until(lambda: db.use()[0] == 2)
        assert await _pid(db) > 0
        assert {type(failure) for failure in await slow} == {DatabaseUnavailable}


async def test_a_read_only_server_is_unavailable(db: Database):
    with pytest.raises(DatabaseUnavailable):
        async with db.transaction() as conn:
            await conn.command("SET TRANSACTION READ ONLY")
            await conn.value(ADD, username="ada")
    assert await _pid(db) > 0


async def test_connections_work_beyond_a_thousand_open_files(database_url: str):
    settings = Settings.read({"REGISTRY_DB_URL": database_url})
    assert raise_open_files_limit() > 2 * MANY_FILES
    with ExitStack() as opened:
        for _ in range(MANY_FILES):
            opened.enter_context(open(os.devnull, "rb"))  # noqa: ASYNC230, PTH123 - it is there at once
        async with open_database(settings.database) as db:
            for _ in range(2):
                async with db.transaction() as conn:
                    with pytest.raises(ConstraintViolated):
                        await conn.run(Statement("INSERT INTO consumers VALUES ('a', 1), ('a', 2)", {}))
            async with db.session() as (conn, _):
                assert await conn.value(PIDS) > 0


async def test_an_unreachable_server_is_unavailable():
    settings = Settings.read({"REGISTRY_DB_URL": "postgresql://nobody@127.0.0.1:1/none"})
    async with open_database(settings.database) as db:
        with pytest.raises(DatabaseUnavailable):
            await _pid(db)


async def test_readers_wait_when_all_connections_are_in_use(database_url: str):
    settings = Settings.read({"REGISTRY_DB_URL": database_url, "REGISTRY_DB_POOL_SIZE": "2"})
    async with open_database(settings.database) as db:
        pids = await asyncio.gather(*(_pid(db) for _ in range(50)))
    assert len(set(pids)) <= 2


def test_password_and_tls_settings_reach_the_driver():
    settings = Settings.read(
        {
            "REGISTRY_DB_URL": "postgresql://ada@db.example/registry?target_session_attrs=read-write",
            "REGISTRY_DB_PASSWORD": "s3cret word",
            "REGISTRY_DB_SSLMODE": "verify-full",
            "REGISTRY_DB_SSLROOTCERT": "/etc/ca.pem",
        }
    )
    parts = psycopg2.extensions.parse_dsn(dsn(settings.database))
    assert parts["host"] == "db.example"
    assert parts["password"] == "s3cret word"
    assert parts["sslmode"] == "verify-full"
    assert parts["sslrootcert"] == "/etc/ca.pem"
    assert parts["target_session_attrs"] == "read-write"


async def _sleep(db: Database) -> None:
    async with db.read() as conn:
        await conn.value(Statement("SELECT pg_sleep(30)", {}))


async def _pid(db: Database) -> int:
    async with db.read() as conn:
        return int(await conn.value(PIDS))
