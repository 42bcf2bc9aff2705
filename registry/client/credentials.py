"""Keeps logins: one file per registry, with the token in the system's keyring where there is one."""

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from registry.client.failures import ClientError

SERVICE = "synapse-registry"


@dataclass(frozen=True)
class Login:
    """A login at the registry `url`. `token` is "" in the file when the keyring has it.

    `expires_at` is the registry's text, in RFC 3339; "" when it named no time.
    """

    url: str
    username: str
    token: str
    expires_at: str

    def has_expired(self, now: datetime) -> bool:
        try:
            return datetime.fromisoformat(self.expires_at) <= now
        except (ValueError, TypeError):  # not a time, or one without a zone: the registry decides
            return False


class Credentials:
    """The logins of this user, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, url: str) -> Login | None:
        """The login at `url`, with its token. None when there is none."""
        login = _read(self._file(url))
        if login is None or login.token:
            return login
        keyring = _keyring()
        token = _from_keyring(keyring, url) if keyring else None
        if not token:
            raise ClientError(
                f"The token for {url} is in the system's keyring, which can't be read now. Unlock it, or sign in again."
            )
        return replace(login, token=token)

    def urls(self) -> list[str]:
        """The registries with a login."""
        found = (_read(file) for file in sorted(self._folder.glob("*.json")))
        return [login.url for login in found if login is not None]

    def write(self, login: Login) -> bool:
        """Keeps a login. Returns whether the keyring has its token; otherwise only its owner can read the file."""
        in_keyring = _to_keyring(_keyring(), login)
        kept = replace(login, token="") if in_keyring else login
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp creates the file with mode 0600. A process that reads meanwhile sees the old file or the new one.
        descriptor, name = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(kept), file)
            Path(name).replace(self._file(login.url))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return in_keyring

    def remove(self, url: str) -> None:
        """Forgets the login at `url`, if there is one."""
        file = self._file(url)
        login = _read(file)
        if login is not None and not login.token and (keyring := _keyring()):
            # The entry may be gone already, or the keyring locked. The token ends at the registry in any case.
            with contextlib.suppress(keyring.errors.KeyringError):
                keyring.delete_password(SERVICE, url)
        file.unlink(missing_ok=True)

    def _file(self, url: str) -> Path:
        return self._folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.json"


def default_folder() -> Path:
    """The folder for logins: the usual one for configuration on this system."""
    from platformdirs import user_config_path

    return user_config_path("synapse-registry", appauthor=False) / "logins"


def _read(file: Path) -> Login | None:
    try:
        data = json.loads(file.read_text("utf-8"))
        return Login(**{name: str(data[name]) for name in ("url", "username", "token", "expires_at")})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ClientError(f"{file} is damaged. Delete it and sign in again.") from error


def _keyring() -> Any:
    """The module `keyring`; None when it is not installed."""
    try:
        import keyring
        import keyring.errors
    except ModuleNotFoundError:
        return None
    return keyring


def _from_keyring(keyring: Any, url: str) -> str | None:
    try:
        token: str | None = keyring.get_password(SERVICE, url)
    except keyring.errors.KeyringError:
        return None
    return token


def _to_keyring(keyring: Any, login: Login) -> bool:
    if keyring is None:
        return False
    try:
        keyring.set_password(SERVICE, login.url, login.token)
    except keyring.errors.KeyringError:  # no keyring on this computer, or it stays locked
        return False
    # The backend `null` accepts everything and keeps nothing.
    return _from_keyring(keyring, login.url) == login.token
