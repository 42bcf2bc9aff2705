"""Passwords known from breaches, in a file like that of the downloader of Have I Been Pwned."""

import hashlib
import io
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from registry.accounts import administer, breaches, passwords
from registry.accounts.identity import Principal, User
from registry.accounts.login import change_password
from registry.accounts.register import register
from registry.db.engine import Database
from registry.errors import InvalidInput, SettingsError
from registry.setting_parts import AccountSettings
from registry.settings import Settings
from tests.client import Registry
from tests.conftest import MakeRegistry

from .conftest import PASSWORD

BREACHED = "Tr0ub4dor-and-3"


def write(file: Path, known: list[str], end: str = "\r\n") -> Path:
    hashes = sorted(hashlib.sha1(password.encode()).hexdigest().upper() for password in known)
    file.write_bytes("".join(f"{each}:{number * 37 + 1}{end}" for number, each in enumerate(hashes)).encode())
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "breached.txt", [BREACHED, *(f"common-{number}" for number in range(3000))])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 500])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_listed_password_is_found_and_no_other(size: int, end: str, tmp_path: Path):
    known = [f"listed-{number}" for number in range(size)]
    file = write(tmp_path / "list", known, end)
    assert all(breaches.is_listed(password, file) for password in known)
    assert not any(breaches.is_listed(f"other-{number}", file) for number in range(200))


def test_the_last_line_break_and_the_counts_are_optional(tmp_path: Path):
    file = tmp_path / "list"
    hashes = sorted(hashlib.sha1(password.encode()).hexdigest() for password in ("a", "b", "c"))
    file.write_text("\n".join(hashes))
    assert all(breaches.is_listed(password, file) for password in ("a", "b", "c"))
    assert not breaches.is_listed("d", file)


class Lines(io.FileIO):
    """A file that counts its reads, and fails if somebody reads it whole."""

    reads = 0

    def readline(self, size: int | None = -1) -> bytes:
        assert size in range(101)
        type(self).reads += 1
        return super().readline(size)

    def readall(self) -> bytes:
        raise AssertionError("the file is read whole")


def test_a_look_up_reads_few_lines_of_a_large_file(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "open", lambda self, mode: Lines(self, mode))
    monkeypatch.setattr(Path, "read_bytes", None)
    monkeypatch.setattr(Path, "read_text", None)
    assert breaches.is_listed(BREACHED, file)
    # A binary search over 2 ** 18 bytes, with two reads in each step.
    assert file.stat().st_size < 2**18
    assert 0 < Lines.reads <= 2 * 18


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (None, "can be read"),
        (b"", "HASH:COUNT"),
        (b"password\n123456\n", "HASH:COUNT"),
        (b"\0" * 5000, "HASH:COUNT"),
        (b"B" * 40 + b":1\n" + b"A" * 40 + b":2\n", "ascend"),
    ],
)
def test_a_file_of_another_format_is_refused_at_startup(content: bytes | None, wanted: str, tmp_path: Path):
    path = tmp_path / "list"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=wanted) as refused:
        Settings.read({"REGISTRY_BREACHED_PASSWORDS": str(path)})
    assert "REGISTRY_BREACHED_PASSWORDS wants" in str(refused.value)


async def test_a_breached_password_cannot_be_chosen(
    file: Path, ada_login: Principal, db: Database, settings: AccountSettings
):
    checked = replace(settings, breached_passwords=file)
    for choosing, field in (
        (register(db, checked, "newcomer", BREACHED), "password"),
        (change_password(db, checked, ada_login, PASSWORD, BREACHED), "new_password"),
        (administer.reset_password(db, checked, "ada", BREACHED), "password"),
    ):
        with pytest.raises(InvalidInput, match="breach") as refused:
            await choosing
        assert [error["field"] for error in refused.value.errors] == [field]


async def test_users_can_register_while_the_list_is_unreadable(
    file: Path, db: Database, settings: AccountSettings, caplog: pytest.LogCaptureFixture
):
    file.unlink()
    user = await register(db, replace(settings, breached_passwords=file), "newcomer", BREACHED)
    assert isinstance(user, User)
    assert "breached passwords can't be read" in caplog.messages


async def test_a_login_with_a_breached_password_works_with_a_warning(
    make_registry: MakeRegistry, file: Path, caplog: pytest.LogCaptureFixture
):
    before = await make_registry()
    for name, password in (("ada", BREACHED), ("eve", PASSWORD)):
        body = {"username": name, "password": password}
        assert (await before.call("POST", "/auth/register", json=body)).status == 201
    after = await make_registry(REGISTRY_BREACHED_PASSWORDS=str(file))
    warned = await after.call("POST", "/auth/login", json={"username": "ada", "password": BREACHED})
    assert (warned.status, warned.json["password_breached"]) == (200, True)
    assert "login with a breached password" in caplog.messages
    assert BREACHED not in str([vars(record) for record in caplog.records])
    fine = await after.call("POST", "/auth/login", json={"username": "eve", "password": PASSWORD})
    assert "password_breached" not in fine.json
    refused = await after.call("POST", "/auth/register", json={"username": "bob", "password": BREACHED})
    assert [error["field"] for error in refused.json["errors"]] == ["password"]


async def test_password_strength_is_checked_outside_the_event_loop(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    threads: list[threading.Thread] = []
    check_strength = passwords.check_strength

    def recorded(*arguments: object, **more: object) -> object:
        threads.append(threading.current_thread())
        return check_strength(*arguments, **more)

    monkeypatch.setattr(passwords, "check_strength", recorded)
    ada = await registry.user()
    change = {"current_password": PASSWORD, "new_password": "Another-Horse-43"}
    assert (await ada.call("POST", "/auth/password", json=change)).status == 200
    assert len(threads) >= 4
    assert threading.main_thread() not in threads
