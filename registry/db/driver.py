"""What aiopg leaves to its users: which socket to watch, what its errors mean, where it loses a cancellation."""

import asyncio
import contextlib
import logging
import os
import select
import weakref
from collections.abc import Callable
from typing import Any

import aiopg.connection
import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE

from registry.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

AWAY = "The database can't be reached. Try again in a few seconds."


class Connection(aiopg.Connection):
    """Watches the socket that libpq has by now, where aiopg watches the first it had.

    libpq takes another for the next host of an address, and closes one that broke at once. What the loop then still
    knows of its number is taken for the next socket of that number, of which no one hears. aiopg finds a closed one by
    asking for its number, which another thread may have opened a file under, and by select(), which ends at 1023.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watched = _socket(self._conn)
        self.on_notify: Callable[[str, str], None] | None = None

    @staticmethod
    def _ready(weak_self: "weakref.ref[Connection]") -> None:
        if (self := weak_self()) is None:
            return
        failure: Exception | None = None
        state = POLL_OK
        try:
            state = self._conn.poll()
            while self._conn.notifies:
                notification = self._conn.notifies.pop(0)
                # Before the statement whose answer came after it goes on.
                if self.on_notify:
                    self.on_notify(notification.channel, notification.payload)
                self._notifies.put_nowait(notification)
        except (psycopg2.Warning, psycopg2.Error) as error:
            failure = error
            self._notifies_proxy.close(error)
        self._watch(writing=state == POLL_WRITE)
        if state not in (POLL_OK, POLL_READ, POLL_WRITE):
            self._fatal_error(f"libpq answers {state} to poll()")
        elif state == POLL_OK and self._waiter is not None and not self._waiter.done():
            if failure:
                self._waiter.set_exception(failure)
            else:
                self._waiter.set_result(None)

    def _watch(self, *, writing: bool) -> None:
        watched = _socket(self._conn)
        if watched != self._watched:
            self._unwatch()
            self._watched = watched
            if watched:
                self._fileno = watched[0]
                self._loop.add_reader(self._fileno, self._ready, weakref.ref(self))
        if self._fileno is None or writing == self._writing:
            return
        if writing:
            self._loop.add_writer(self._fileno, self._ready, weakref.ref(self))
        else:
            self._loop.remove_writer(self._fileno)
        self._writing = writing

    def _unwatch(self) -> None:
        if self._fileno is not None:
            # The system has forgotten a closed one by itself, and says so.
            with contextlib.suppress(OSError):
                self._loop.remove_writer(self._fileno)
            with contextlib.suppress(OSError):
                self._loop.remove_reader(self._fileno)
        self._fileno, self._writing = None, False

    def _close(self) -> None:
        self._unwatch()
        super()._close()


def _socket(raw: psycopg2.extensions.connection) -> tuple[int, int] | None:
    """(number, inode) of the connection's socket, which tell it from another of the same number; None if closed."""
    try:
        return raw.fileno(), os.fstat(raw.fileno()).st_ino
    except (psycopg2.InterfaceError, OSError):
        return None


aiopg.connection.Connection = Connection  # type: ignore[misc]


def cancellations() -> int:
    """How often the task has been asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def hear_cancellation(before: int) -> None:
    """Raises CancelledError when the task was asked to end since it counted `before` and the driver kept silent.

    aiopg waits by `asyncio.wait_for`, which before Python 3.12 loses a cancellation that comes as its wait is over.
    """
    if cancellations() > before:
        raise asyncio.CancelledError


def is_readable(raw: psycopg2.extensions.connection) -> bool:
    """Whether the server has said something, or hung up."""
    poll = select.poll()
    poll.register(raw, select.POLLIN)
    return bool(poll.poll(0))


def is_away(error: BaseException) -> bool:
    """A connection that broke half-way through an answer is told of by an error of no kind of its own.

    A server that takes no writes is a standby, or protects a full disk.
    """
    away = isinstance(
        error,
        psycopg2.OperationalError
        | psycopg2.InterfaceError
        | psycopg2.errors.ReadOnlySqlTransaction
        | psycopg2.errors.IdleInTransactionSessionTimeout
        | TimeoutError,
    )
    return away or type(error) is psycopg2.DatabaseError


class errors_named:  # noqa: N801 - reads as a statement
    """Turns the driver's errors of an absent, slow or refusing server into DatabaseUnavailable."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None and is_away(error):
            log.warning("database unavailable", extra={"reason": f"{type(error).__name__}: {error}".strip()})
            raise DatabaseUnavailable(AWAY) from error
