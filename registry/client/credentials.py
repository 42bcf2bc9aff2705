"""Keeps logins: one file per registry, with the token in the system's keyring where there is one."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from registry.client.failures import ClientError

SERVICE = "synapse-registry"

T = TypeVar("T")


@dataclass(frozen=True)
class Login:
    """A login at the registry `url`. `token` is "" in the file when the keyring has it."""

    url: str
    username: str
    token: str


class KeyringFailed(Exception):
    """The keyring is missing, locked or broken."""


class Credentials:
    """The logins of this user, in `folder`. Without a folder there are none, and none can be kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def read(self, url: str) -> Login | None:
        """The login at `url`, with its token. None when there is none."""
        login = _read(self._file(self._folder, url)) if self._folder else None
        if login is None or login.token:
            return login
        reason = "it has no such entry"
        try:
            token = _ask_keyring(lambda keyring: keyring.get_password(SERVICE, url))
        except KeyringFailed as failed:
            token, reason = None, str(failed)
        if not token:
            raise ClientError(
                f"The token for {url} is in the system's keyring, which can't be read now ({reason}). Unlock it, or "
                "sign in again."
            )
        return replace(login, token=token)

    def urls(self) -> list[str]:
        """The registries with a login."""
        found = (_read(file) for file in (sorted(self._folder.glob("*.json")) if self._folder else ()))
        return [login.url for login in found if login is not None]

    def write(self, login: Login) -> bool:
        """Keeps a login. Returns whether the keyring has its token; otherwise only its owner can read the file.

        Raises OSError when nothing can be written, and ClientError without a folder.
        """
        if self._folder is None:
            raise ClientError("There is no home folder for it. Set HOME to a folder that you can write to.")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp creates the file with mode 0600. A process that reads meanwhile sees the old file or the new one.
        descriptor, name = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                in_keyring = _to_keyring(login)
                json.dump(asdict(replace(login, token="") if in_keyring else login), file)
            Path(name).replace(self._file(self._folder, login.url))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return in_keyring

    def remove(self, url: str) -> None:
        """Forgets the login at `url`, if there is one."""
        if self._folder is None:
            return
        file = self._file(self._folder, url)
        login = _read(file)
        if login is not None and not login.token:
            # The entry may be gone already. The token ends at the registry in any case.
            with contextlib.suppress(KeyringFailed):
                _ask_keyring(lambda keyring: keyring.delete_password(SERVICE, url))
        file.unlink(missing_ok=True)

    @staticmethod
    def _file(folder: Path, url: str) -> Path:
        return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.json"


def default_folder() -> Path | None:
    """The folder for logins: the usual one for configuration on this system. None if the user has no home folder."""
    from platformdirs import user_config_path

    try:
        folder = user_config_path("synapse-registry", appauthor=False) / "logins"
    except RuntimeError:
        return None
    # Older releases of platformdirs name a folder below the current one, where others may have put logins of theirs.
    return folder if folder.is_absolute() else None


def _read(file: Path) -> Login | None:
    try:
        data = json.loads(file.read_text("utf-8"))
        return Login(**{name: str(data[name]) for name in ("url", "username", "token")})
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # HOME may be another user's, or no folder
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ClientError(f"{file} is damaged. Delete it and sign in again.") from error


def _ask_keyring(ask: Callable[[Any], T]) -> T:
    """The result of `ask` on the module `keyring`. Raises KeyringFailed."""
    try:
        import keyring

        return ask(keyring)
    except Exception as error:  # keyring loads plugins of the system, which fail in every way
        raise KeyringFailed(f"{type(error).__name__}: {error}") from error


def _to_keyring(login: Login) -> bool:
    def keep(keyring: Any) -> bool:
        keyring.set_password(SERVICE, login.url, login.token)
        # The backend `null` accepts everything and keeps nothing.
        return bool(keyring.get_password(SERVICE, login.url) == login.token)

    try:
        return _ask_keyring(keep)
    except KeyringFailed:  # most computers without a desktop have none
        return False
