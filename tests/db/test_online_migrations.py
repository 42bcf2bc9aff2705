"""Migrations run while the registry serves: requests never queue behind them for long."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg2.errors
import pytest
import sqlalchemy as sa

from registry.db import lock_numbers, migrate
from registry.errors import StackError
from registry.setting_parts import DatabaseSettings
from tests.db.test_migrations import REVISIONS, connect, empty

__all__ = ["empty"]

BEFORE = dict(zip(REVISIONS, [None, *REVISIONS], strict=False))
TABLES = sa.text("""
    SELECT relname, (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = 1) FROM pg_class c
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relname <> 'alembic_version'
""")
VALID = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('package_versions_choice_idx')")
# How long a request may queue behind a migration. It is far more than one try of a lock, for a slow machine.
REQUEST_TIMEOUT = "10s"
WAIT_SECONDS = 60.0
POLL_SECONDS = 0.02


def use_all(conn: sa.Connection) -> int:
    """Reads and writes every table without changing a row. Returns the number of tables."""
    tables = conn.execute(TABLES).all()
    for table, column in tables:
        conn.execute(sa.text(f"SELECT * FROM {table} LIMIT 1"))
        conn.execute(sa.text(f"UPDATE {table} SET {column} = {column} WHERE false"))
    return len(tables)


@contextmanager
def idle_transaction(settings: DatabaseSettings) -> Iterator[sa.Connection]:
    """A transaction that PostgreSQL doesn't end, however long it does nothing."""
    with connect(settings) as conn:
        conn.execute(sa.text("SET idle_in_transaction_session_timeout = 0"))
        yield conn


@contextmanager
def long_transaction(settings: DatabaseSettings) -> Iterator[sa.Connection]:
    """A transaction that has read and written every table, and stays open."""
    with idle_transaction(settings) as conn:
        use_all(conn)
        yield conn


class Migrator:
    """Runs `migrate.upgrade()` in a thread and keeps its progress."""

    def __init__(self, settings: DatabaseSettings, revision: str) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(1)
        self.done: Future[str] = self._pool.submit(migrate.upgrade, settings, revision, self._say)
        self.done.add_done_callback(lambda _: self._tell())

    def _say(self, line: str) -> None:
        self.lines.append(line)
        self._tell()

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, WAIT_SECONDS), self.lines

    @property
    def tries(self) -> int:
        return sum("trying again" in line for line in self.lines)


def is_waiting_to_build(conn: sa.Connection) -> bool:
    conn.rollback()
    return bool(conn.scalar(sa.text("SELECT count(*) FROM pg_stat_progress_create_index WHERE phase ~ 'waiting'")))


@pytest.mark.parametrize("revision", REVISIONS)
def test_requests_are_served_while_a_revision_waits_for_a_long_transaction(empty: DatabaseSettings, revision: str):
    if before := BEFORE[revision]:
        migrate.upgrade(empty, before)
    with long_transaction(empty), connect(empty) as conn:
        conn.execute(sa.text(f"SET statement_timeout = '{REQUEST_TIMEOUT}'"))
        conn.commit()
        migrator = Migrator(empty, revision)
        # Until it has let requests through twice, or waits without a lock that blocks them, or needs no lock at all.
        while migrator.tries < 2 and not migrator.done.done() and not is_waiting_to_build(conn):
            assert use_all(conn) > 0 or before is None
            conn.rollback()
            time.sleep(POLL_SECONDS)
        assert use_all(conn) > 0 or before is None
    assert migrator.done.result(WAIT_SECONDS) == revision


def test_no_revision_builds_an_index_on_a_used_table_under_a_lock(empty: DatabaseSettings):
    builds: list[str] = []
    existing: set[str] = set()

    def watch(_: object, __: object, sql: str, *___: object) -> None:
        words = sql.split()
        if words[0] == "CREATE" and "INDEX" in words[:3]:
            table = words[words.index("ON") + 1]
            if table in existing and "CONCURRENTLY" not in words:
                builds.append(sql)

    sa.event.listen(sa.Engine, "before_cursor_execute", watch)
    try:
        for revision in REVISIONS:
            with connect(empty) as conn:
                existing = {row[0] for row in conn.execute(TABLES)}
            migrate.upgrade(empty, revision)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", watch)
    assert builds == []


def test_an_index_whose_build_was_interrupted_is_built_again(empty: DatabaseSettings):
    migrate.upgrade(empty, "0003")
    with long_transaction(empty), connect(empty) as conn:
        migrator = Migrator(empty, "0004")
        while not is_waiting_to_build(conn):
            assert not migrator.done.done()
        conn.execute(sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index"))
        conn.commit()
        with pytest.raises(StackError):
            migrator.done.result(WAIT_SECONDS)
        assert conn.scalar(VALID) is False
    assert migrate.upgrade(empty, "0004") == "0004"
    with connect(empty) as conn:
        assert conn.scalar(VALID) is True


def test_a_revision_that_never_gets_its_lock_ends_with_an_error(
    empty: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(migrate, "TRIES", 1)
    migrate.upgrade(empty, "0001")
    with long_transaction(empty), pytest.raises(StackError, match="pg_stat_activity") as raised:
        migrate.upgrade(empty, "0002")
    assert isinstance(raised.value.__cause__, sa.exc.OperationalError)
    assert isinstance(raised.value.__cause__.orig, psycopg2.errors.LockNotAvailable)
    assert migrate.upgrade(empty, "0002") == "0002"


def test_each_revision_commits_by_itself(empty: DatabaseSettings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(migrate, "TRIES", 1)
    migrate.upgrade(empty, "0001")
    with idle_transaction(empty) as blocker:
        blocker.execute(sa.text("SELECT * FROM packages"))
        blocker.execute(sa.text("LOCK TABLE packages"))
        with pytest.raises(StackError):
            migrate.upgrade(empty)
        with connect(empty) as conn:
            assert conn.scalar(sa.text("SELECT version_num FROM alembic_version")) == "0002"
    assert migrate.upgrade(empty) == REVISIONS[-1]


def test_two_migrators_take_turns(empty: DatabaseSettings):
    with idle_transaction(empty) as other:
        other.execute(sa.select(sa.func.pg_advisory_lock(lock_numbers.MIGRATE)))
        migrator = Migrator(empty, REVISIONS[-1])
        migrator.wait_for(lambda: any("Another process" in line for line in migrator.lines))
        assert not migrator.done.done()
        other.execute(sa.select(sa.func.pg_advisory_unlock(lock_numbers.MIGRATE)))
        assert migrator.done.result(WAIT_SECONDS) == REVISIONS[-1]
