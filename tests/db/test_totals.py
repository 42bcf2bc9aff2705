"""The totals that triggers maintain are equal to the numbers of packages and versions."""

from contextlib import closing

import psycopg2

from registry.db import migrate
from registry.setting_parts import DatabaseSettings
from tests.db.test_migrations import empty

__all__ = ["empty"]

VERSION = """
INSERT INTO package_versions (package_id, version, canonical, sort_key, is_prerelease, manifest, dependencies_json,
                              keywords_json, checksum, tarball_path, tarball_size, published_by, deleted_at)
SELECT packages.id, n, n, n, false, '{}', '{}', '[]', '', '', 0, users.id, CASE WHEN n = 3 THEN now() END
FROM packages, users, generate_series(1, 3) AS n
"""
PACKAGES = """
INSERT INTO packages (name, similarity_key, owner_id, latest_version_id)
SELECT n, n, users.id, CASE WHEN n > 1 THEN 1 END FROM users, generate_series(1, 4) AS n
"""
STEPS = (
    (PACKAGES, 3, 0),
    (VERSION, 3, 8),
    ("UPDATE packages SET latest_version_id = 2, download_count = 7", 4, 8),
    ("UPDATE packages SET latest_version_id = 3", 4, 8),
    ("UPDATE package_versions SET deleted_at = now() WHERE version = '1'", 4, 4),
    ("UPDATE package_versions SET deleted_at = NULL WHERE version = '3'", 4, 8),
    ("UPDATE packages SET latest_version_id = NULL WHERE name = '2'", 3, 8),
    ("DELETE FROM package_versions WHERE package_id IN (SELECT id FROM packages WHERE name IN ('2', '3'))", 3, 4),
    ("DELETE FROM packages WHERE name IN ('2', '3')", 2, 4),
)


def test_totals_include_existing_rows_and_change_with_every_write(empty: DatabaseSettings):
    migrate.upgrade(empty, "0002")
    with closing(psycopg2.connect(empty.url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO users (username, password_hash, role) VALUES ('ada', '', 'user')")
        cursor.execute(PACKAGES.replace("1, 4", "10, 14"))
    migrate.upgrade(empty)
    with closing(psycopg2.connect(empty.url)) as connection, connection.cursor() as cursor:
        before = _totals(cursor)
        assert before == (5, 0)
        cursor.execute("UPDATE packages SET latest_version_id = NULL")
        assert _totals(cursor) == (0, 0)
        cursor.execute("DELETE FROM packages")
        for statement, packages, versions in STEPS:
            cursor.execute(statement)
            assert _totals(cursor) == (packages, versions), statement
        connection.rollback()
        assert _totals(cursor) == before


def _totals(cursor: psycopg2.extensions.cursor) -> tuple[int, ...]:
    cursor.execute("SELECT sum(packages)::int, sum(versions)::int FROM totals")
    return cursor.fetchone()
