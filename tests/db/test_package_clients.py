"""The migration has the clients of the past counted and estimated, if there were downloads."""

from contextlib import closing

import psycopg2
import pytest

from registry.db import migrate
from registry.setting_parts import DatabaseSettings
from tests.db.test_migrations import empty
from tests.db.test_package_days import MORE, ROWS

__all__ = ["empty"]


@pytest.mark.parametrize(("past", "jobs"), [("", []), (ROWS + MORE, [({"after": 0}, 10)])])
def test_estimates_are_made_after_an_upgrade_only(empty: DatabaseSettings, past: str, jobs: list[object]):
    migrate.upgrade(empty, "0032")
    with closing(psycopg2.connect(empty.url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(past or "SELECT")
    migrate.upgrade(empty)
    with closing(psycopg2.connect(empty.url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("SELECT payload, max_attempts FROM jobs WHERE kind = 'estimate clients'")
        assert cursor.fetchall() == jobs
