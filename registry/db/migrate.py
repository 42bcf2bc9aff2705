"""Updates the schema with Alembic. Several processes may run it at once."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import psycopg2
import psycopg2.errors
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from registry.db import lock_numbers
from registry.db.connecting import connect_blocking
from registry.db.tables import metadata
from registry.errors import StackError
from registry.setting_parts import DatabaseSettings

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).with_name("migrations")
# While a migration waits for the lock of a table, all later requests for this table wait behind it. So each try is
# short.
LOCK_TIMEOUT = "1s"
PAUSE_SECONDS = 2.0
TRIES = 200
_BLOCKED = (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected)

# After a restart of PostgreSQL another process may have the same number, so the start time is compared, too.
_SERVER_PROCESS = sa.text("SELECT pid, backend_start FROM pg_stat_get_activity(pg_backend_pid())")

Say = Callable[[str], None]


def _log_progress(line: str) -> None:
    log.info("migrating", extra={"progress": line})


def upgrade(settings: DatabaseSettings, revision: str = "head", say: Say = _log_progress) -> str:
    """Runs every migration up to `revision`; returns the revision of the schema. Blocking: call it in a thread.

    `say` gets lines of progress. The schema of a later release stays as it is. Raises StackError when the database
    can't be reached, or when other transactions hold a needed lock for several minutes.
    """
    engine = _engine(settings)
    try:
        _require_own_sessions(engine)
        with engine.connect() as conn:
            conn.execute(sa.text("SET statement_timeout = 0"))
            conn.commit()
            _wait_for_other_migrators(conn, say)
            current = _current(conn)
            if _is_of_a_later_release(current):
                log.warning("the schema is newer than this release", extra={"revision": current})
            else:
                scripts = ScriptDirectory.from_config(configuration())
                for script in reversed(list(scripts.iterate_revisions(revision, current or "base"))):
                    say(f"{script.revision}: {script.doc}")
                    _run(conn, script.revision, say)
            return _current(conn) or ""
    except sa.exc.OperationalError as error:
        raise _unreachable(error) from error
    except sa.exc.PendingRollbackError as error:  # alembic's autocommit_block() hides the true error behind this one
        raise StackError(
            "The connection to PostgreSQL broke during the migration. Run `synapse-registry migrate` again."
        ) from error
    finally:
        engine.dispose()


def _wait_for_other_migrators(conn: sa.Connection, say: Say) -> None:
    """Takes the migrators' lock, which ends with the session. A second migrator then finds nothing to do.

    It polls instead of waiting in one statement. A waiting statement has a snapshot, and CREATE INDEX CONCURRENTLY in
    the other process would wait for that snapshot to end.
    """
    is_announced = False
    while not conn.scalar(sa.select(sa.func.pg_try_advisory_lock(lock_numbers.MIGRATE))):
        conn.commit()
        if not is_announced:
            say("Another process is migrating; waiting for it.")
            is_announced = True
        time.sleep(PAUSE_SECONDS)
    conn.commit()


def _run(conn: sa.Connection, revision: str, say: Say) -> None:
    """Runs one revision, and retries it while it can't get a lock."""
    config = configuration()
    config.attributes["connection"] = conn
    for left in reversed(range(TRIES)):
        conn.execute(sa.text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        conn.commit()
        try:
            command.upgrade(config, revision)
        except sa.exc.OperationalError as error:
            conn.rollback()
            if not isinstance(error.orig, _BLOCKED):
                raise
            if not left:
                raise StackError(
                    f"Revision {revision} can't get the locks it needs. End the long transactions that"
                    " pg_stat_activity shows, and run `synapse-registry migrate` again."
                ) from error
        else:
            conn.commit()
            return
        say(f"{revision}: other transactions hold a lock that it needs; trying again.")
        time.sleep(PAUSE_SECONDS)


def _current(conn: sa.Connection) -> str | None:
    current = MigrationContext.configure(conn).get_current_revision()
    conn.commit()
    return current


def pending(settings: DatabaseSettings) -> bool:
    """Whether the schema is older than the code. Blocking: call it in a thread."""
    engine = _engine(settings)
    try:
        _require_own_sessions(engine)
        with engine.connect() as conn:
            current = MigrationContext.configure(conn).get_current_revision()
            return current != head() and not _is_of_a_later_release(current)
    except sa.exc.OperationalError as error:
        raise _unreachable(error) from error
    finally:
        engine.dispose()


def lacking(settings: DatabaseSettings) -> list[str]:
    """Describes what differs in the database from the tables of the code. Blocking: call it in a thread.

    Ignores objects that only the database has, such as partitions.
    """
    engine = _engine(settings)
    try:
        with engine.connect() as conn:
            options = {"compare_type": True, "include_object": _is_ours}
            context = MigrationContext.configure(conn, opts=options)
            if _is_of_a_later_release(context.get_current_revision()):
                return []
            found = compare_metadata(context, metadata)
    except sa.exc.OperationalError as error:
        raise _unreachable(error) from error
    finally:
        engine.dispose()
    # alembic returns the changes of one column as a list.
    changes = [change for each in found for change in (each if isinstance(each, list) else [each])]
    return [" ".join([change[0], *(str(part) for part in change[1:] if part is not None)]) for change in changes]


def _require_own_sessions(engine: sa.Engine) -> None:
    """Raises StackError when two connections share one server process, as behind a pooler in transaction mode.

    Behind such a pooler, session locks, LISTEN, prepared statements and settings get lost or affect other clients.
    """
    with engine.connect() as first, engine.connect() as second:
        processes = []
        for conn in (first, second):
            processes.append(tuple(conn.execute(_SERVER_PROCESS).one()))
            conn.commit()
    if processes[0] == processes[1]:
        raise StackError(
            "REGISTRY_DB_URL leads to a connection pooler in transaction or statement mode. The registry needs"
            " sessions of its own: set pool_mode = session in PgBouncer."
        )


def _is_ours(_: object, __: str | None, ___: str, reflected: bool, counterpart: object) -> bool:
    """Whether alembic should compare an object: not if only the database has it."""
    return not (reflected and counterpart is None)


def _is_of_a_later_release(revision: str | None) -> bool:
    """Whether this code does not know the revision. An old process may restart during an upgrade to a later release."""
    known = {script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()}
    return revision is not None and revision not in known


def _unreachable(error: sa.exc.OperationalError) -> StackError:
    reason = " ".join(str(error.orig).split())
    return StackError(f"PostgreSQL can't be reached, check REGISTRY_DB_URL: {reason}")


def head() -> str:
    """The newest revision of the code."""
    return ScriptDirectory.from_config(configuration()).get_current_head() or ""


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["metadata"] = metadata
    return config


def _engine(settings: DatabaseSettings) -> sa.Engine:
    return sa.create_engine("postgresql+psycopg2://", creator=lambda: connect_blocking(settings), poolclass=sa.NullPool)
