"""Every package has its owner in package_owners, whichever release published it."""

import sqlalchemy as sa

from registry.db import migrate
from registry.setting_parts import DatabaseSettings
from tests.db.test_migrations import connect, empty

__all__ = ["empty"]

USER = "INSERT INTO users (username, password_hash, role) VALUES ('ada', '', 'user') RETURNING id"
PACKAGE = "INSERT INTO packages (name, similarity_key, owner_id) VALUES (:name, :name, :user)"
OWNERS = """
    SELECT name, user_id, role, since = created_at FROM package_owners JOIN packages ON id = package_id ORDER BY name
"""


def test_existing_packages_and_those_of_the_former_release_get_an_owner(empty: DatabaseSettings):
    migrate.upgrade(empty, "0006")
    with connect(empty) as conn:
        user = conn.execute(sa.text(USER)).scalar()
        conn.execute(sa.text(PACKAGE), {"name": "before", "user": user})
        conn.commit()
    migrate.upgrade(empty)
    with connect(empty) as conn:
        # The former release inserts packages like this. It does not know the new table.
        conn.execute(sa.text(PACKAGE), {"name": "since", "user": user})
        assert [tuple(row) for row in conn.execute(sa.text(OWNERS))] == [
            ("before", user, "owner", True),
            ("since", user, "owner", True),
        ]
