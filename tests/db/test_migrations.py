"""From every revision, the migrations lead to the schema that the tables describe."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from registry.db import migrate
from registry.db.tables import metadata
from registry.devstack.postgres import Postgres
from registry.errors import StackError
from registry.setting_parts import DatabaseSettings
from registry.settings import Settings
from tests.conftest import new_database

REVISIONS = [script.revision for script in ScriptDirectory.from_config(migrate.configuration()).walk_revisions()][::-1]


@pytest.fixture
def empty(postgres: Postgres) -> Iterator[DatabaseSettings]:
    """A database without a schema."""
    with new_database(postgres, "template0") as url:
        yield Settings.read({"REGISTRY_DB_URL": url}).database


def connect(settings: DatabaseSettings) -> sa.Connection:
    return migrate._engine(settings).connect()


def test_an_empty_database_gets_exactly_the_tables_of_the_code(empty: DatabaseSettings):
    assert migrate.pending(empty)
    assert migrate.upgrade(empty) == migrate.head() == REVISIONS[-1]
    assert not migrate.pending(empty)
    with connect(empty) as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_revision_can_be_upgraded_to_the_newest(empty: DatabaseSettings, revision: str):
    assert migrate.upgrade(empty, revision) == revision
    assert migrate.upgrade(empty) == REVISIONS[-1]


def test_migrating_again_changes_nothing(empty: DatabaseSettings):
    migrate.upgrade(empty)
    with connect(empty) as conn:
        before = conn.execute(sa.text("SELECT count(*) FROM pg_class")).scalar()
    migrate.upgrade(empty)
    with connect(empty) as conn:
        assert conn.execute(sa.text("SELECT count(*) FROM pg_class")).scalar() == before


def test_every_migration_can_be_downgraded(empty: DatabaseSettings):
    migrate.upgrade(empty)
    with connect(empty) as conn:
        config = migrate.configuration()
        config.attributes["connection"] = conn
        command.downgrade(config, "base")
        conn.commit()
        assert sa.inspect(conn).get_table_names() == ["alembic_version"]


def test_an_unreachable_database_is_reported_in_one_sentence():
    settings = Settings.read({"REGISTRY_DB_URL": "postgresql://nobody@127.0.0.1:1/none"}).database
    with pytest.raises(StackError, match="check REGISTRY_DB_URL"):
        migrate.upgrade(settings)


def test_manifests_with_long_numbers_get_a_short_text(empty: DatabaseSettings):
    """PostgreSQL writes each 1e-300 of a JSONB column in 300 digits."""
    migrate.upgrade(empty, "0005")
    manifests = ['{"a": [' + "1e-300, " * 1000 + "1e308]}", '{"a": 1.50}']
    with connect(empty) as conn, conn.begin():
        conn.execute(
            sa.text("""
                WITH ada AS (
                    INSERT INTO users (username, password_hash, role) VALUES ('ada', 'x', 'user') RETURNING id
                )
                INSERT INTO packages (name, similarity_key, owner_id) SELECT 'demo', 'demo', id FROM ada
            """)
        )
        for number, manifest in enumerate(manifests):
            conn.execute(
                sa.text("""
                    INSERT INTO package_versions (package_id, version, canonical, sort_key, is_prerelease, manifest,
                        dependencies_json, keywords_json, checksum, tarball_path, tarball_size, published_by)
                    SELECT id, :version, :version, :version, false, CAST(:manifest AS jsonb), '{}', '[]', '', '', 0,
                        owner_id FROM packages
                """),
                {"version": f"{number}.0.0", "manifest": manifest},
            )
    migrate.upgrade(empty)
    with connect(empty) as conn:
        texts = list(conn.execute(sa.text("SELECT manifest_text FROM package_versions ORDER BY version")).scalars())
    assert texts == ['{"a": [' + "1e-300, " * 1000 + "1e+308]}", None]
