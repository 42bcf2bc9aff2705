"""Fixes faults of aiopg: it watches the wrong socket, loses cancellations, and reports errors ambiguously.

docs/decisions/0013-own-driver-layer-over-aiopg.md says when this module can be deleted.
"""

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
    """Watches the socket that libpq uses now. aiopg watches the first one that libpq opened.

    libpq opens another socket when it tries the next host of an address, and closes a broken socket at once. Another
    file may then get the old socket's descriptor. The event loop would watch that file and miss events of the new
    socket.
    aiopg finds closed sockets with select(), which fails for descriptors above 1023.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watched = _socket(self._conn)
        self._is_open = False
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
                # Call the subscriber here, not from the queue. Then a statement that the server answers later returns
                # only after the call.
                if self.on_notify:
                    self.on_notify(notification.channel, notification.payload)
                else:
                    self._notifies.put_nowait(notification)
        except (psycopg2.Warning, psycopg2.Error) as error:
            failure = error
            self._notifies_proxy.close(error)
        if failure or not self._is_open:
            # libpq changes the socket only while it connects, and closes it only with an error.
            self._watch_socket()
            self._is_open = state == POLL_OK and not failure
        self._watch_writing(writing=state == POLL_WRITE)
        if state not in (POLL_OK, POLL_READ, POLL_WRITE):
            self._fatal_error(f"libpq returned the unknown state {state} from poll()")
        elif state == POLL_OK and self._waiter is not None and not self._waiter.done():
            if failure:
                self._waiter.set_exception(failure)
            else:
                self._waiter.set_result(None)

    def _watch_socket(self) -> None:
        watched = _socket(self._conn)
        if watched != self._watched:
            self._unwatch()
            self._watched = watched
            if watched:
                self._fileno = watched[0]
                self._loop.add_reader(self._fileno, self._ready, weakref.ref(self))

    def _watch_writing(self, *, writing: bool) -> None:
        if self._fileno is None or writing == self._writing:
            return
        if writing:
            self._loop.add_writer(self._fileno, self._ready, weakref.ref(self))
        else:
            self._loop.remove_writer(self._fileno)
        self._writing = writing

    def _unwatch(self) -> None:
        if self._fileno is not None:
            # The system has removed a closed socket already, and raises an error.
            with contextlib.suppress(OSError):
                self._loop.remove_writer(self._fileno)
            with contextlib.suppress(OSError):
                self._loop.remove_reader(self._fileno)
        self._fileno, self._writing = None, False

    def _close(self) -> None:
        self._unwatch()
        super()._close()


def _socket(raw: psycopg2.extensions.connection) -> tuple[int, int] | None:
    """(file descriptor, inode) of the connection's socket; None if it is closed.

    The inode distinguishes it from an earlier or later socket with the same descriptor.
    """
    try:
        return raw.fileno(), os.fstat(raw.fileno()).st_ino
    except (psycopg2.InterfaceError, OSError):
        return None


aiopg.connection.Connection = Connection  # type: ignore[misc]


def is_readable(raw: psycopg2.extensions.connection) -> bool:
    """Whether the server has sent something or closed the connection."""
    poll = select.poll()
    poll.register(raw, select.POLLIN)
    return bool(poll.poll(0))


def is_away(error: BaseException) -> bool:
    """Whether the error means that PostgreSQL can't be used now.

    A server that refuses writes counts as unavailable: it is a standby, or its disk is full. A plain DatabaseError also
    counts: psycopg2 raises it when the connection breaks during an answer. Its subclasses count only if listed.
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
    """Turns the driver's errors that mean an unavailable PostgreSQL into DatabaseUnavailable. See is_away()."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None and is_away(error):
            log.warning("database unavailable", extra={"reason": f"{type(error).__name__}: {error}".strip()})
            raise DatabaseUnavailable(AWAY) from error
