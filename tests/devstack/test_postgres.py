"""A real embedded PostgreSQL: settings, errors, and data after a kill."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg2
import pytest

from registry.devstack import processes
from registry.devstack.postgres import Postgres
from registry.errors import StackError
from tests.devstack.conftest import wait_until_gone

Starter = Callable[..., tuple["subprocess.Popen[str]", str]]

STARTER = """
import os, sys, time
from pathlib import Path
from registry.devstack.postgres import Postgres
server = Postgres(Path(sys.argv[1]), environ=os.environ)
print(server.start(), flush=True)
time.sleep(600)
"""


def ask(url: str, statement: str) -> str | None:
    """Runs and commits `statement`. Returns the first value of its result, or None without a result."""
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return str(cursor.fetchone()[0]) if cursor.description else None
    finally:
        connection.close()


def test_settings_apply_and_data_survives_a_restart(folder: Path) -> None:
    with Postgres(folder / "data", environ=os.environ) as server:
        assert ask(server.url(), "SELECT current_database()") == "synapse"
        assert [ask(server.url(), f"SHOW {name}") for name in ("fsync", "max_connections", "server_encoding")] == [
            "on",
            "200",
            "UTF8",
        ]
        ask(server.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
    assert wait_until_gone(folder, 5) == []
    (folder / "data" / "cluster" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    with Postgres(folder / "data", durable=False, environ=os.environ) as server:
        assert ask(server.url(), "SHOW fsync") == "off"
        assert ask(server.url(), "SELECT answer FROM kept") == "42"


def test_a_long_data_folder_gets_a_socket_folder_elsewhere(folder: Path) -> None:
    server = Postgres(folder / ("long" * 30), durable=False, environ=os.environ)
    with server:
        assert ask(server.url(), "SELECT 1") == "1"
        socket_dir = server._socket_dir
        assert socket_dir.is_dir()
    assert not socket_dir.exists()


def test_committed_data_survives_a_killed_starter(folder: Path, starter: Starter) -> None:
    process, url = starter(STARTER, folder / "data")
    ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    process.kill()
    with Postgres(folder / "data", environ=os.environ) as server:
        assert ask(server.url(), "SELECT answer FROM kept") == "42"
    process.wait()
    assert wait_until_gone(folder, 5) == []


def test_a_cluster_of_another_major_version_is_refused(folder: Path) -> None:
    (folder / "data" / "cluster").mkdir(parents=True)
    (folder / "data" / "cluster" / "PG_VERSION").write_text("16\n")
    with pytest.raises(StackError, match="was made by PostgreSQL 16, but this is PostgreSQL 18"):
        Postgres(folder / "data", environ=os.environ).start()
    with processes.claim(folder / "data", "PostgreSQL", patience=0):
        pass


def test_the_error_of_a_failed_start_contains_the_log(folder: Path) -> None:
    with Postgres(folder / "data", durable=False, environ=os.environ):
        pass
    (folder / "data" / "cluster" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(StackError, match=r"(?s)PostgreSQL ended while starting.*no_such_setting"):
        Postgres(folder / "data", environ=os.environ).start()
