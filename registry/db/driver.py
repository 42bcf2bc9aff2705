"""What aiopg leaves to its users: which of its errors mean what, and where it loses a cancellation."""

import asyncio
import logging
import os
import select

import aiopg.connection
import psycopg2
import psycopg2.errors
import psycopg2.extensions

from registry.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

AWAY = "The database can't be reached. Try again in a few seconds."


class _OpenFiles:
    """What aiopg takes for the module `select`, which it asks whether a file is open: select() ends at 1023."""

    @staticmethod
    def select(files: list[int], *_: object) -> None:
        os.fstat(files[0])


aiopg.connection.select = _OpenFiles  # type: ignore[attr-defined, assignment]


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
        psycopg2.OperationalError | psycopg2.InterfaceError | psycopg2.errors.ReadOnlySqlTransaction | TimeoutError,
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
