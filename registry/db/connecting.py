"""How a connection to PostgreSQL is opened and set up, directly or through a pooler.

The settings of a session are sent by SET after connecting: PgBouncer refuses them as start-up options.
"""

import os
from collections.abc import Awaitable, Callable
from datetime import timedelta

import aiopg
import psycopg2
import psycopg2.extensions
from sqlalchemy.engine import make_url

from registry.errors import SettingsError
from registry.setting_parts import DatabaseSettings

# PostgreSQL ends slow statements itself. If no answer comes (a broken network), the client gives up this much later.
TIMEOUT_MARGIN = 2.0
# A process that is frozen inside a transaction (SIGSTOP, a paused machine) keeps its locks. If it holds the event log's
# lock, every publish waits. PostgreSQL ends such a transaction after this time, before the waiting statements reach
# their own timeout. A running process pauses only for milliseconds between two statements.
IDLE_IN_TRANSACTION = timedelta(seconds=5)

_SETTINGS = {
    "timezone": "UTC",
    "client_min_messages": "warning",
    # With keepalives PostgreSQL notices within seconds that a client's machine is gone. The system's default is two
    # hours. They have no effect on a Unix socket.
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": "3000",
}


def dsn(settings: DatabaseSettings) -> str:
    """libpq's connection string for `settings`, with the password and TLS options that have settings of their own.

    Raises SettingsError for an unknown parameter.
    """
    url = make_url(settings.url)
    parts: dict[str, str] = {
        "host": url.host or "",
        "port": str(url.port or ""),
        "user": url.username or "",
        "password": str(url.password or "") or settings.password,
        "dbname": url.database or "",
        "sslmode": settings.sslmode,
        "sslrootcert": settings.sslrootcert,
        "application_name": f"synapse-registry {os.getpid()}",
        "connect_timeout": "5",
        # Without keepalives the client notices only after hours that the server's machine is gone.
        "keepalives_idle": "2",
        "keepalives_interval": "1",
        "keepalives_count": "2",
        "tcp_user_timeout": "3000",
    }
    parts |= {name: str(value) for name, value in url.query.items()}
    try:
        return str(psycopg2.extensions.make_dsn(**{k: v for k, v in parts.items() if v}))
    except psycopg2.ProgrammingError:
        # libpq's text quotes the parameter, which may be a part of a password.
        raise SettingsError("REGISTRY_DB_URL wants only connection parameters of libpq after the `?`") from None


def session_setup(settings: DatabaseSettings) -> str:
    """The SQL that sets up a session."""
    idle = min(IDLE_IN_TRANSACTION, settings.statement_timeout / 2)
    values = _SETTINGS | {
        "statement_timeout": _milliseconds(settings.statement_timeout),
        "idle_in_transaction_session_timeout": _milliseconds(idle),
    }
    return "SELECT " + ", ".join(f"set_config('{name}', '{value}', false)" for name, value in values.items())


def setting_up(sql: str) -> Callable[[aiopg.Connection], Awaitable[None]]:
    """Returns a function that runs `sql` on a new connection, and closes the connection if that fails."""

    async def set_up(raw: aiopg.Connection) -> None:
        try:
            async with raw.cursor() as cursor:
                await cursor.execute(sql)
        except BaseException:
            await raw.close()
            raise

    return set_up


async def open_session(settings: DatabaseSettings) -> aiopg.Connection:
    """A connection for LISTEN and session-level locks."""
    timeout = settings.statement_timeout.total_seconds() + TIMEOUT_MARGIN
    raw = await aiopg.connect(dsn(settings), timeout=timeout, enable_hstore=False, enable_uuid=False)
    await setting_up(session_setup(settings))(raw)
    return raw


def connect_blocking(settings: DatabaseSettings) -> psycopg2.extensions.connection:
    """A blocking connection, for use in a thread."""
    connection = psycopg2.connect(dsn(settings))
    with connection, connection.cursor() as cursor:
        cursor.execute(session_setup(settings))
    return connection


def _milliseconds(duration: timedelta) -> str:
    return str(int(duration.total_seconds() * 1000))
