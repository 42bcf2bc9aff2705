"""The table of dependents agrees with the latest versions, whichever release publishes them."""

import sqlalchemy as sa

from registry.db import migrate
from registry.setting_parts import DatabaseSettings
from tests.db.test_migrations import connect, empty

__all__ = ["empty"]

USER = "INSERT INTO users (username, password_hash, role) VALUES ('ada', '', 'user')"
PACKAGE = "INSERT INTO packages (name, similarity_key, owner_id) SELECT :name, replace(:name, '_', '-'), id FROM users"
VERSION = """
    INSERT INTO package_versions (package_id, version, canonical, sort_key, is_prerelease, manifest, dependencies_json,
                                  keywords_json, checksum, tarball_path, tarball_size, published_by)
    SELECT packages.id, :version, :version, :version, false, '{}', CAST(:needs AS jsonb), '[]', '', '', 0, owner_id
    FROM packages WHERE name = :name RETURNING id
"""
LATEST = "UPDATE packages SET latest_version_id = :version WHERE name = :name"
ROWS = "SELECT dependency, dependent, range FROM dependents ORDER BY 1, 2"
# Every package is shown with the dependencies of its latest version.
EXPECTED = """
    SELECT replace(key, '_', '-') COLLATE "C", name, value
    FROM packages JOIN package_versions v ON v.id = latest_version_id
    CROSS JOIN jsonb_each_text(dependencies_json) ORDER BY 1, 2
"""


def publish(conn: sa.Connection, name: str, version: str, needs: str) -> None:
    """Publishes as an earlier release does, which does not know the table."""
    number = conn.execute(sa.text(VERSION), {"name": name, "version": version, "needs": needs}).scalar()
    conn.execute(sa.text(LATEST), {"name": name, "version": number})


def test_packages_from_before_and_since_are_listed(empty: DatabaseSettings):
    migrate.upgrade(empty, "0030")
    with connect(empty) as conn:
        conn.execute(sa.text(USER))
        for name in ("a", "b", "c", "d", "hidden"):
            conn.execute(sa.text(PACKAGE), {"name": name})
        publish(conn, "a", "1", '{"c": "*"}')
        publish(conn, "b", "1", '{"big_base": "^1", "c": "2"}')
        publish(conn, "d", "1", "{}")
        publish(conn, "hidden", "1", '{"c": "1"}')
        conn.execute(sa.text(LATEST), {"name": "hidden", "version": None})
        conn.commit()
    migrate.upgrade(empty)
    with connect(empty) as conn:

        def rows(query: str = ROWS) -> list[tuple[str, ...]]:
            return [tuple(row) for row in conn.execute(sa.text(query))]

        assert rows() == [("big-base", "b", "^1"), ("c", "a", "*"), ("c", "b", "2")] == rows(EXPECTED)
        publish(conn, "a", "2", '{"c": "*"}')
        publish(conn, "b", "2", '{"c": "3", "z": "1"}')
        publish(conn, "d", "2", '{"a": "1"}')
        assert rows() == [("a", "d", "1"), ("c", "a", "*"), ("c", "b", "3"), ("z", "b", "1")] == rows(EXPECTED)
        conn.execute(sa.text(LATEST), {"name": "b", "version": None})
        assert rows() == [("a", "d", "1"), ("c", "a", "*")] == rows(EXPECTED)
