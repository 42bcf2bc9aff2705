"""The migration sums the downloads of the past per package and day."""

from contextlib import closing

import psycopg2

from registry.db import migrate
from registry.setting_parts import DatabaseSettings
from tests.db.test_migrations import empty

__all__ = ["empty"]

ROWS = """
INSERT INTO users (username, password_hash, role) VALUES ('ada', '', 'user');
INSERT INTO packages (id, name, similarity_key, owner_id) OVERRIDING SYSTEM VALUE
SELECT n, n, n, users.id FROM users, (VALUES (1), (1500), (2999)) AS v (n);
INSERT INTO package_versions (id, package_id, version, canonical, sort_key, is_prerelease, manifest, dependencies_json,
                              keywords_json, checksum, tarball_path, tarball_size, published_by)
OVERRIDING SYSTEM VALUE
SELECT p.id, p.id, '1', '1', '1', false, '{}', '{}', '[]', '', '', 0, users.id FROM packages p, users;
INSERT INTO download_days (package_id, day, package_version_id, kind, count)
SELECT id, date '2026-01-01' + n, id, kind, 10
FROM packages, generate_series(0, 1) AS n, (VALUES ('ci'), ('human')) AS k (kind);
"""
MORE = "INSERT INTO download_days (package_id, day, package_version_id, kind, count) VALUES (1, '2026-01-01', 1, '', 7)"


def test_past_downloads_are_summed_and_new_ones_are_added(empty: DatabaseSettings):
    migrate.upgrade(empty, "0028")
    _run(empty, ROWS)
    migrate.upgrade(empty, "0029")
    _run(empty, MORE)
    assert _sums(empty) == [(1, "2026-01-01", 7)]
    migrate.upgrade(empty)
    assert _sums(empty) == [
        (1, "2026-01-01", 27), (1, "2026-01-02", 20), (1500, "2026-01-01", 20), (1500, "2026-01-02", 20),
        (2999, "2026-01-01", 20), (2999, "2026-01-02", 20),
    ]  # fmt: skip


def _run(settings: DatabaseSettings, sql: str) -> None:
    with closing(psycopg2.connect(settings.url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)


def _sums(settings: DatabaseSettings) -> list[tuple[int, str, int]]:
    with closing(psycopg2.connect(settings.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT package_id, day::text, count FROM package_days ORDER BY 1, 2")
        return [tuple(row) for row in cursor.fetchall()]
