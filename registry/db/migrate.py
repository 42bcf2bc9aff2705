"""Brings the schema up to date with Alembic. Safe to run from several processes at once."""

import logging
from pathlib import Path

import psycopg2
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from registry.db.engine import dsn
from registry.db.tables import metadata
from registry.errors import StackError
from registry.settings import DatabaseSettings

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).with_name("migrations")
# Held while migrating, so that a second process waits and then finds nothing to do.
LOCK = 4_202_251_102


def upgrade(settings: DatabaseSettings, revision: str = "head") -> str:
    """Runs every migration up to `revision`; the revision the schema is at then. Blocking: call it in a thread.

    The schema of a later release stays as it is. Raises StackError when the database can't be reached.
    """
    engine = _engine(settings)
    try:
        with engine.begin() as conn:
            conn.execute(sa.text("SET statement_timeout = 0"))
            conn.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
            context = MigrationContext.configure(conn)
            if _is_of_a_later_release(context.get_current_revision()):
                log.warning("the schema is newer than this release", extra={"revision": context.get_current_revision()})
            else:
                config = configuration()
                config.attributes["connection"] = conn
                command.upgrade(config, revision)
            return context.get_current_revision() or ""
    except sa.exc.OperationalError as error:
        raise _unreachable(error) from error
    finally:
        engine.dispose()


def pending(settings: DatabaseSettings) -> bool:
    """Whether the schema is older than the code; one of a later release is not. Blocking: call it in a thread."""
    engine = _engine(settings)
    try:
        with engine.connect() as conn:
            current = MigrationContext.configure(conn).get_current_revision()
            return current != head() and not _is_of_a_later_release(current)
    except sa.exc.OperationalError as error:
        raise _unreachable(error) from error
    finally:
        engine.dispose()


def lacking(settings: DatabaseSettings) -> list[str]:
    """What the code's tables have and the database lacks, or has otherwise: in words. Blocking: call it in a thread.

    Partitions, and whatever else the database has more, don't count.
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
    # Changes of one column come as a list.
    changes = [change for each in found for change in (each if isinstance(each, list) else [each])]
    return [" ".join([change[0], *(str(part) for part in change[1:] if part is not None)]) for change in changes]


def _is_ours(_: object, __: str | None, ___: str, reflected: bool, counterpart: object) -> bool:
    """Whether alembic's comparison should look at it: what only the database has is nobody's business here."""
    return not (reflected and counterpart is None)


def _is_of_a_later_release(revision: str | None) -> bool:
    """Whether this code doesn't know it: while releases are replaced one after the other, old processes may restart."""
    known = {script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()}
    return revision is not None and revision not in known


def _unreachable(error: sa.exc.OperationalError) -> StackError:
    reason = " ".join(str(error.orig).split())
    return StackError(f"PostgreSQL can't be reached, check REGISTRY_DB_URL: {reason}")


def head() -> str:
    """The newest revision there is."""
    return ScriptDirectory.from_config(configuration()).get_current_head() or ""


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["metadata"] = metadata
    return config


def _engine(settings: DatabaseSettings) -> sa.Engine:
    return sa.create_engine(
        "postgresql+psycopg2://", creator=lambda: psycopg2.connect(dsn(settings)), poolclass=sa.NullPool
    )
