"""PostgreSQL from asyncio: a connection pool, reads and transactions.

SQLAlchemy Core writes the SQL, aiopg runs it. Stores keep their statements as module constants made by `statement()`
and run them on a `Connection` with named values. Only `Database.transaction()` commits.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import aiopg
import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2.extras import NamedTupleCursor

from registry.db.connecting import (
    TIMEOUT_MARGIN,
    dsn,
    open_session,
    session_setup,
    setting_up,
)
from registry.db.driver import errors_named, is_away, is_readable
from registry.db.statements import Statement, json, prepared, statement, together
from registry.setting_parts import DatabaseSettings
from registry.tasks import cancellations, raise_lost_cancellation

__all__ = [
    "Connection",
    "ConstraintViolated",
    "Database",
    "Row",
    "Statement",
    "ValueRefused",
    "json",
    "open_database",
    "prepared",
    "statement",
    "together",
]


# The SQL of the statements that each connection has prepared. They last as long as the connection: a rollback does not
# remove them.
_PREPARED: WeakKeyDictionary[aiopg.Connection, set[str]] = WeakKeyDictionary()

Row = Any
"""A row: a named tuple with one attribute for each column."""


class ConstraintViolated(Exception):
    """A unique or foreign key constraint refused the write; `constraint` is its name."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint


class ValueRefused(Exception):
    """PostgreSQL can't store one of the values, such as the text "abc" in a column of IP addresses."""


class Connection:
    """A connection for the block of a `read()`, `transaction()` or `session()`. It runs one statement at a time."""

    def __init__(self, raw: aiopg.Connection) -> None:
        self._raw = raw
        # BEGIN is sent with the first statement, and announcements with COMMIT. Each saves a round trip.
        self._opening = ""
        self._deferred: list[Statement] = []
        self._deferred_values: dict[str, Any] = {}
        self.announced: list[tuple[str, str]] = []
        self.is_commit_sent = False

    async def all(self, stmt: Statement, **values: Any) -> list[Row]:
        """All rows."""
        async with self._raw.cursor(cursor_factory=NamedTupleCursor) as cursor:
            await self._execute(cursor, stmt, values)
            return list(await cursor.fetchall())

    async def one(self, stmt: Statement, **values: Any) -> Row | None:
        """The first row, or None."""
        async with self._raw.cursor(cursor_factory=NamedTupleCursor) as cursor:
            await self._execute(cursor, stmt, values)
            return await cursor.fetchone()

    async def value(self, stmt: Statement, **values: Any) -> Any:
        """The first column of the first row, or None."""
        async with self._raw.cursor() as cursor:
            await self._execute(cursor, stmt, values)
            row = await cursor.fetchone()
            return None if row is None else row[0]

    async def run(self, stmt: Statement, **values: Any) -> int:
        """Runs a statement and returns the number of rows that it changed."""
        async with self._raw.cursor() as cursor:
            await self._execute(cursor, stmt, values)
            return int(cursor.rowcount)

    def defer(self, stmt: Statement, **values: Any) -> None:
        """Sends a statement together with COMMIT. `commit()` then raises its errors and ignores its rows."""
        given = {**stmt.defaults, **values}
        if not self._deferred_values.keys().isdisjoint(given):
            raise ValueError("two deferred statements have a value of the same name")
        self._deferred.append(stmt)
        self._deferred_values |= given

    def announce(self, channel: str, payload: str) -> None:
        """Sends a notification on `channel` with the commit, and calls the listeners of `Database.on_announced()`."""
        self.announced.append((channel, payload))

    async def command(self, sql: str, **values: Any) -> None:
        """Runs a command that has no rows, such as LISTEN. Write a percent sign twice, as in any statement."""
        async with self._raw.cursor() as cursor:
            await self._send(cursor, sql, values)

    def begin(self, sql: str = "BEGIN") -> None:
        """Sends `sql` in front of the next statement."""
        self._opening = f"{sql}; "

    async def commit(self) -> None:
        """Sends the deferred statements, the announcements and COMMIT together.

        Does nothing in a transaction without statements and announcements, or after `finish()` has committed it.
        """
        if self.is_commit_sent:
            return
        sql, values = await self._deferred_sql()
        if sql or not self._opening:
            self.is_commit_sent = True
            await self.command(f"{sql}COMMIT", **values)

    async def finish(self, stmt: Statement, last: Statement, **values: Any) -> Row:
        """Runs the last two statements of a transaction, and returns the first row of `last`.

        If nothing was run before, this is the only round trip: it sends everything that `commit()` would send between
        the two statements. PostgreSQL runs the statements of one message as one transaction.
        """
        if not self._opening:
            return await self.one(together(stmt, last), **values)
        await self._prepare(stmt)
        await self._prepare(last)
        sql, given = await self._deferred_sql()
        opening, self._opening, self.is_commit_sent = self._opening, "", True
        try:
            async with self._raw.cursor(cursor_factory=NamedTupleCursor) as cursor:
                every = {**stmt.defaults, **last.defaults, **given, **values}
                await self._send(cursor, f"{stmt.sql}; {sql}{last.sql}", every)
                return await cursor.fetchone()
        finally:
            self._opening = opening  # no transaction is open, so there is nothing to roll back

    async def _deferred_sql(self) -> tuple[str, dict[str, Any]]:
        """The deferred statements and the announcements, each with a semicolon, and their values."""
        sql, values = "", self._deferred_values
        for stmt in self._deferred:
            await self._prepare(stmt)
            sql += f"{stmt.sql}; "
        for number, (channel, payload) in enumerate(self.announced):
            sql += f"SELECT pg_notify(%(channel{number})s, %(payload{number})s); "
            values |= {f"channel{number}": channel, f"payload{number}": payload}
        return sql, values

    async def rollback(self) -> None:
        """Rolls back if a statement was run. PostgreSQL itself rolls back when a connection is closed."""
        if not self._opening and not self._raw.closed:
            await self.command("ROLLBACK")

    async def _prepare(self, stmt: Statement) -> None:
        if not stmt.prepares:
            return
        done = _PREPARED.setdefault(self._raw, set())
        for each in stmt.prepares:
            if each.sql not in done:
                # PREPARE locks tables until the transaction ends, so run it before BEGIN if possible.
                opening, self._opening = self._opening, ""
                await self.command(each.sql, **each.defaults)
                self._opening = opening
                done.add(each.sql)

    async def _execute(self, cursor: Any, stmt: Statement, values: dict[str, Any]) -> None:
        await self._prepare(stmt)
        await self._send(cursor, stmt.sql, {**stmt.defaults, **values})

    async def _send(self, cursor: Any, sql: str, values: Mapping[str, Any]) -> None:
        opening, self._opening = self._opening, ""
        before = cancellations()
        try:
            await cursor.execute(opening + sql, values)
        except asyncio.CancelledError as error:
            # aiopg raises CancelledError for a statement that PostgreSQL ended by its timeout.
            if isinstance(error.__context__, psycopg2.extensions.QueryCanceledError):
                raise error.__context__ from None
            raise
        except (psycopg2.errors.UniqueViolation, psycopg2.errors.ForeignKeyViolation) as error:
            raise ConstraintViolated(error.diag.constraint_name or "") from error
        except (psycopg2.DataError, psycopg2.errors.NotNullViolation, psycopg2.errors.CheckViolation) as error:
            raise ValueRefused(str(error)) from error
        finally:
            raise_lost_cancellation(before)


class Database:
    """The pool. `read()` for single statements and snapshots, `transaction()` for writes.

    Both raise DatabaseUnavailable when PostgreSQL is unreachable, too slow, or ends the statement by its timeout.
    """

    def __init__(self, pool: aiopg.Pool, settings: DatabaseSettings) -> None:
        self._pool = pool
        self._settings = settings
        self._listeners: list[Callable[[str, str], None]] = []

    def on_announced(self, listener: Callable[[str, str], None]) -> None:
        """Calls `listener` with (channel, payload) of each announcement of this process, right after the commit."""
        self._listeners.append(listener)

    @asynccontextmanager
    async def read(self, *, snapshot: bool = False) -> AsyncIterator[Connection]:
        """A connection for reading. With `snapshot` all statements see the same state of the database."""
        async with self._connection() as conn:
            if not snapshot:
                yield conn
                return
            conn.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield conn
            finally:
                await conn.rollback()

    @asynccontextmanager
    async def transaction(self, *, durable: bool = True) -> AsyncIterator[Connection]:
        """BEGIN … COMMIT, or ROLLBACK when the block raises.

        Without `durable`, COMMIT doesn't wait for the disk. If the machine then fails within a second, the transaction
        may be lost, but none that committed before it.
        """
        async with self._connection() as conn:
            conn.begin("BEGIN" if durable else "BEGIN; SET LOCAL synchronous_commit = off")
            try:
                yield conn
                await conn.commit()
            except BaseException:
                await conn.rollback()
                raise
            finally:
                # Even if the answer to COMMIT was lost, because the commit may have happened.
                for channel, payload in conn.announced if conn.is_commit_sent else ():
                    for listener in self._listeners:
                        listener(channel, payload)

    @asynccontextmanager
    async def session(
        self, on_notify: Callable[[str, str], None] | None = None
    ) -> AsyncIterator[tuple[Connection, Any]]:
        """Yields a connection that is not in the pool, and the queue of its notifications, for LISTEN and locks.

        With `on_notify`, the queue stays empty: `on_notify` is called with (channel, payload) of each notification.
        PostgreSQL sends notifications and answers in one order. When a statement returns, it has been called for all
        notifications sent before the answer.
        """
        before = cancellations()
        with errors_named():
            raw = await open_session(self._settings)
        raw.on_notify = on_notify  # type: ignore[attr-defined]  # aiopg makes connections of db.driver's class
        try:
            raise_lost_cancellation(before)
            with errors_named():
                yield Connection(raw), raw.notifies
        finally:
            await raw.close()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        with errors_named():
            before = cancellations()
            raw = await self._acquire()
            try:
                raise_lost_cancellation(before)
                yield Connection(raw)
            except (psycopg2.Error, TimeoutError, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) or is_away(error):
                    await raw.close()
                raise
            finally:
                await self._pool.release(raw)
                if raw.closed:
                    await self._pool._wakeup()  # release() doesn't wake those who wait for a connection

    async def _acquire(self) -> aiopg.Connection:
        """An open connection. Drops idle ones that became readable, because the server has closed them."""
        while True:
            try:
                raw = await self._pool.acquire()
            except AssertionError:  # aiopg removed a broken connection from the pool
                continue
            if not raw.closed and not is_readable(raw.raw):
                return raw
            await raw.close()
            await self._pool.release(raw)

    def use(self) -> tuple[int, int, int]:
        """(connections in use, open connections, size of the pool)."""
        pool = self._pool
        return pool.size - pool.freesize, pool.size, pool.maxsize or 0


@asynccontextmanager
async def open_database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    """The pool, closed at the end of the block. It connects when a connection is needed, not at the start."""
    pool = await aiopg.create_pool(
        dsn(settings),
        minsize=0,
        maxsize=settings.pool_size,
        timeout=settings.statement_timeout.total_seconds() + TIMEOUT_MARGIN,
        enable_hstore=False,
        enable_uuid=False,
        on_connect=setting_up(session_setup(settings)),
    )
    try:
        yield Database(pool, settings)
    finally:
        pool.terminate()
        await pool.wait_closed()
