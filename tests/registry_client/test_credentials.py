"""Logins: in the system's keyring, or in a file that only its owner can read."""

import json
import stat
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keyring
import keyring.backend
import keyring.backends.fail
import keyring.backends.null
import keyring.errors
import pytest

from registry.client.credentials import SERVICE, Credentials, Login, default_folder
from registry.client.failures import ClientError

URL = "https://registry.example.com"
LOGIN = Login(URL, "ada", "secret-token")


class Memory(keyring.backend.KeyringBackend):
    """A keyring in memory. While `locked` it refuses everything."""

    priority = -1  # type: ignore[assignment]  # only a test chooses it

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def _check(self) -> None:
        if self.locked:
            raise keyring.errors.KeyringLocked("locked")

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        if self.kept.pop((service, username), None) is None:
            raise keyring.errors.PasswordDeleteError("not found")


@pytest.fixture
def use() -> Iterator[object]:
    """Sets the keyring that `keyring` uses."""
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


@pytest.fixture
def memory(use) -> Memory:
    backend = Memory()
    use(backend)
    return backend


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_token_goes_into_the_keyring(memory: Memory, tmp_path: Path):
    credentials = Credentials(tmp_path / "logins")
    assert credentials.write(LOGIN)
    assert memory.kept == {(SERVICE, URL): "secret-token"}
    assert all("secret-token" not in file.read_text() for file in files(tmp_path))
    assert credentials.read(URL) == LOGIN
    credentials.remove(URL)
    assert (memory.kept, files(tmp_path), credentials.read(URL)) == ({}, [], None)


@pytest.mark.parametrize("backend", [keyring.backends.fail.Keyring, keyring.backends.null.Keyring])
def test_without_a_keyring_only_the_owner_can_read_the_file(backend, use, tmp_path: Path):
    use(backend())
    credentials = Credentials(tmp_path / "logins")
    assert not credentials.write(LOGIN)
    [file] = files(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert credentials.read(URL) == LOGIN
    file.chmod(0o644)
    credentials.write(LOGIN)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    credentials.remove(URL)
    assert files(tmp_path) == []


def test_a_locked_keyring_at_login_falls_back_to_the_file(memory: Memory, tmp_path: Path):
    memory.locked = True
    credentials = Credentials(tmp_path)
    assert not credentials.write(LOGIN)
    assert credentials.read(URL) == LOGIN


def test_a_keyring_that_is_locked_later_is_explained(memory: Memory, tmp_path: Path):
    credentials = Credentials(tmp_path)
    credentials.write(LOGIN)
    memory.locked = True
    with pytest.raises(ClientError, match="Unlock it, or sign in again"):
        credentials.read(URL)
    credentials.remove(URL)
    assert credentials.read(URL) is None


def test_the_library_is_optional(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "keyring", None)
    credentials = Credentials(tmp_path)
    assert not credentials.write(LOGIN)
    assert credentials.read(URL) == LOGIN


def test_each_registry_has_its_own_login(memory: Memory, tmp_path: Path):
    credentials = Credentials(tmp_path)
    other = Login("http://127.0.0.1:8080", "grace", "other-token")
    credentials.write(LOGIN)
    credentials.write(other)
    assert sorted(credentials.urls()) == sorted([URL, other.url])
    assert (credentials.read(URL), credentials.read(other.url)) == (LOGIN, other)
    assert credentials.read("https://elsewhere.example") is None


def test_without_a_folder_there_are_no_logins(memory: Memory):
    credentials = Credentials(None)
    assert (credentials.read(URL), credentials.urls()) == (None, [])
    credentials.remove(URL)
    with pytest.raises(ClientError, match="HOME"):
        credentials.write(LOGIN)


def test_without_a_home_folder_there_is_no_folder(monkeypatch: pytest.MonkeyPatch):
    """In a container, for one: without HOME, under a user id that has no account."""

    def unknown(_: int) -> object:
        raise KeyError("uid not found")

    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.delenv("HOME")
    assert default_folder() is None
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: Path("~/.config/synapse-registry"))
    assert default_folder() is None


def test_a_file_of_an_earlier_release_is_read(tmp_path: Path):
    credentials = Credentials(tmp_path)
    credentials.write(LOGIN)
    [file] = files(tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), "token": "x", "expires_at": "2030-01-01T00:00:00Z"}))
    assert credentials.read(URL) == replace(LOGIN, token="x")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": "x"}', "\ud800".encode("utf-8", "surrogatepass")])
def test_a_damaged_file_is_named(content: str | bytes, memory: Memory, tmp_path: Path):
    credentials = Credentials(tmp_path)
    credentials.write(LOGIN)
    [file] = files(tmp_path)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ClientError, match="damaged"):
        credentials.read(URL)
