"""The command line: what it says, and how it ends."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from registry import __version__
from registry.cli import main, parser
from registry.db.engine import Database, Statement
from registry.devstack.postgres import Postgres
from registry.doctor.examine import INCOMPLETE
from registry.settings import ADDRESSES, variables
from tests.client import PASSWORD
from tests.conftest import ITERATIONS, SECRET
from tests.service import command_environment, run_command

AWAY = "postgresql://registry@127.0.0.1:9/registry"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for command in ("login", "publish", "up", "serve", "migrate", "reindex", "search-model", "doctor", "config"):
        assert f"\n    {command} " in text
    assert "synapse-registry up" in text


def test_help_waits_for_no_import_of_the_service():
    code = "import sys, registry.cli; print({'aiohttp', 'sqlalchemy', 'elasticsearch'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], timeout=30) == b"set()\n"


def test_a_wrong_setting_is_told_before_the_service_is_imported(tmp_path: Path):
    code = """
import sys
from registry.cli import main
for command in (["serve"], ["worker"], ["migrate"], ["reindex"], ["doctor"], ["user", "role", "ada", "admin"]):
    assert main(command) in (1, 2)
print({'aiohttp', 'sqlalchemy', 'elasticsearch'} & set(sys.modules))
"""
    environ = command_environment(tmp_path, {"REGISTRY_PORT": "x"})
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, timeout=60, check=True)
    assert done.stdout == b"set()\n"
    assert done.stderr.count(b"REGISTRY_PORT wants ") == 6


def test_a_doctor_that_fails_ends_as_one_that_could_not_check_everything():
    assert parser().parse_args(["doctor"]).failed == INCOMPLETE


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"synapse-registry {__version__}\n"


def test_config_lists_every_variable(capsys: pytest.CaptureFixture[str]):
    assert main(["config"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("REGISTRY_ENV\n")
    for _, item in variables():
        assert item.metadata["name"] in text
        assert item.metadata["doc"] in text


def test_a_command_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["brew"])
    assert ended.value.code == 2
    assert "brew" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["serve"], ["worker"], ["migrate"], ["reindex"], ["user", "role", "ada", "admin"]]
)
async def test_without_a_database_a_command_ends_with_a_sentence(arguments: list[str], tmp_path: Path):
    status, out, err = await run_command(tmp_path, *arguments)
    assert (status, out) == (1, "")
    assert err == "REGISTRY_DB_URL is not set. `synapse-registry up` brings a PostgreSQL of its own.\n"


@pytest.mark.parametrize("arguments", [["serve"], ["worker"], ["migrate"], ["user", "role", "ada", "admin"]])
async def test_a_database_that_is_away_is_a_sentence(arguments: list[str], tmp_path: Path):
    status, out, err = await run_command(tmp_path, *arguments, REGISTRY_DB_URL=AWAY)
    assert (status, out) == (1, "")
    assert "Traceback" not in err
    assert re.fullmatch(r"(PostgreSQL|The database) can't be reached.*", err.splitlines()[-1])


async def test_dashboards_are_fed_anew_from_the_beginning(tmp_path: Path, database_url: str, db: Database):
    async with db.transaction() as conn:
        await conn.command("INSERT INTO consumers (name, seq) VALUES ('registry-downloads', 9), ('search', 9)")
    status, out, _ = await run_command(tmp_path, "reindex", "--dashboards", REGISTRY_DB_URL=database_url)
    assert (status, out.startswith("The worker writes every download")) == (0, True)
    async with db.read() as conn:
        rows = await conn.all(Statement("SELECT name, seq FROM consumers ORDER BY name", {}))
    assert rows == [("registry-downloads", 0), ("search", 9)]


async def test_wrong_settings_are_named_and_nothing_starts(tmp_path: Path):
    status, out, err = await run_command(tmp_path, "serve", REGISTRY_DB_URL="sqlite:///x", REGISTRY_PORT="x")
    assert (status, out) == (1, "")
    assert "REGISTRY_DB_URL" in err
    assert "`make up`" in err
    assert "REGISTRY_PORT" in err
    assert "Traceback" not in err


async def test_wrong_rate_limits_are_named_and_nothing_starts(database_url: str, tmp_path: Path):
    status, _, err = await run_command(tmp_path, "serve", REGISTRY_DB_URL=database_url, REGISTRY_RATE_LIMITS="all=5")
    assert status == 1
    assert "REGISTRY_RATE_LIMITS" in err
    assert "Traceback" not in err


async def test_a_taken_port_is_a_sentence(database_url: str, tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for variable in ("REGISTRY_PORT", "REGISTRY_METRICS_PORT"):
            given = {"REGISTRY_PORT": "0", variable: port}
            status, _, err = await run_command(tmp_path, "serve", REGISTRY_DB_URL=database_url, **given)
            assert status == 1
            assert f"Port {port} is taken" in err.splitlines()[-1]
            assert err.rstrip().endswith(f"or set {variable}.")
            assert "Traceback" not in err


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_an_empty_database_wants_a_migration_first(command: str, postgres: Postgres, tmp_path: Path):
    status, _, err = await run_command(tmp_path, command, REGISTRY_DB_URL=postgres.url("postgres"))
    assert status == 1
    assert "synapse-registry migrate" in err.splitlines()[-1]


async def test_migrating_twice_changes_nothing(database_url: str, tmp_path: Path):
    runs = [await run_command(tmp_path, "migrate", REGISTRY_DB_URL=database_url) for _ in range(2)]
    assert runs[0][0] == runs[1][0] == 0
    assert runs[0][1] == runs[1][1]
    assert runs[0][1].startswith("The schema is at revision ")


async def test_a_command_finds_the_database_of_a_running_up_if_the_variable_is_unset_or_empty(
    database_url: str, tmp_path: Path
):
    (tmp_path / "DATA_DIR").mkdir()
    (tmp_path / "DATA_DIR" / ADDRESSES).write_text(json.dumps({"REGISTRY_DB_URL": database_url}))
    for given in ({}, {"REGISTRY_DB_URL": ""}):
        assert (await run_command(tmp_path, "migrate", **given))[0] == 0, given


async def test_accounts_are_made_and_managed(database_url: str, tmp_path: Path):
    environ = {"REGISTRY_DB_URL": database_url, "REGISTRY_SECRET_KEY": SECRET, "REGISTRY_PBKDF2_ITERATIONS": ITERATIONS}

    async def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        return await run_command(tmp_path, "user", *arguments, stdin=stdin, **environ)

    made = await run("create", "ada", "--admin", stdin=f"{PASSWORD}\n")
    assert made[:2] == (0, "ada can sign in (admin).\n")
    again = await run("create", "ada", stdin=f"{PASSWORD}\n")
    assert again[0] == 1
    assert "Traceback" not in again[2]
    weak = await run("create", "bob", stdin="password\n")
    assert weak[0] == 1
    assert "password" in weak[2]
    assert (await run("role", "ada", "user"))[:2] == (0, "ada is now user.\n")
    assert (await run("deactivate", "ada"))[:2] == (0, "ada cannot sign in.\n")
    assert (await run("activate", "ada"))[:2] == (0, "ada can sign in.\n")
    assert "no e-mail address" in (await run("verify", "ada"))[2]
    assert (await run("create", "eve", "--email", "eve@example.com", stdin=f"{PASSWORD}\n"))[0] == 0
    assert (await run("verify", "eve"))[:2] == (0, "The e-mail address of eve is verified.\n")
    reset = await run("reset-factors", "eve")
    assert reset[:2] == (0, "eve can sign in with the password alone, and can add a second factor again.\n")
    assert (await run("reset-factors", "nobody"))[0] == 1
    other = await run("password", "ADA", stdin="Another-Horse-43\n")
    assert other[:2] == (0, "ADA has a new password; every login and API token from before has ended.\n")
    for name, password, reason in (("ada", "password", "most common"), ("nobody", "Another-Horse-43", "nobody")):
        refused = await run("password", name, stdin=f"{password}\n")
        assert refused[0] == 1
        assert reason in refused[2]
    nobody = await run("role", "nobody", "admin")
    assert nobody[0] == 1
    assert "nobody" in nobody[2]
    assert PASSWORD not in "".join((*made, *again, *weak, *nobody)[1::3])


def test_a_reader_that_stops_early_is_no_error(tmp_path: Path):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "registry", "config"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=30, check=False, cwd=tmp_path)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")
