"""Reads the settings of a command, and checks the files and folders in them, before the command starts anything."""

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from registry import logs
from registry.errors import SettingsError, StackError
from registry.setting_files import require_certificates, require_writable
from registry.setting_parts import AccountSettings
from registry.settings import ADDRESSES, Settings, environment, unknown_variables

log = logging.getLogger(__name__)


def settings() -> Settings:
    """Reads the settings and starts the log. Raises SettingsError, or StackError without a database.

    Without REGISTRY_DB_URL, uses the servers of an `up` that runs with the same data folder.
    """
    read = Settings.read()
    running = read.stack.data_dir / ADDRESSES
    if not read.database.url and running.exists():
        given = {name: value for name, value in environment().items() if value}  # an empty variable counts as unset
        read = Settings.read({**json.loads(running.read_text(encoding="utf-8")), **given})
    if not read.database.url:
        raise StackError("REGISTRY_DB_URL is not set. `synapse-registry up` brings a PostgreSQL of its own.")
    check_files(read)
    start_log(read.web.log_level)
    return read


def start_log(level: str, file: Path | None = None) -> None:
    """Logs to `file`, or to stderr. Warns of unknown variables."""
    logs.configure(level, file)
    for name, nearest in unknown_variables():
        log.warning("setting is unknown and ignored", extra={"setting": name, "did_you_mean": nearest})


def serving_settings() -> Settings:
    """The settings of `serve` and `worker`. Also checks the folders, the rate limits, and certificates for Redis."""
    read = settings()
    warn_of_open_registration(read.accounts)
    check_folders(read)
    from registry.app import rate_limiter  # takes a second, so a wrong setting is reported before

    rate_limiter(read.web)
    return read


def warn_of_open_registration(accounts: AccountSettings) -> None:
    """Logs a warning if strangers can make themselves users who may read a private registry."""
    if accounts.access == "private" and accounts.registration == "open":
        log.warning("anyone may register and then read; REGISTRY_REGISTRATION=closed prevents that")


def check_files(read: Settings) -> None:
    """Raises SettingsError if a file that a setting names can't be used."""
    database, search, storage = read.database, read.search, read.storage
    named = {
        "REGISTRY_ES_CA": search.ca,
        "REGISTRY_OIDC_CA": read.oidc.ca,
        "REGISTRY_S3_CA": storage.s3_ca,
        "REGISTRY_SMTP_CA": read.mail.smtp_ca,
    }
    if database.sslrootcert != "system":  # libpq's word for the certificates of the system
        named["REGISTRY_DB_SSLROOTCERT"] = database.sslrootcert
    _check(require_certificates, {name: path for name, path in named.items() if path})
    if search.model is not None:
        from registry.search.meaning.model import require_model  # imports nothing for nothing

        _check(partial(require_model, wanted_sha256=search.model_sha256), {"REGISTRY_SEARCH_MODEL": search.model})


def check_folders(read: Settings) -> None:
    """Creates the folders that `serve` and `worker` need. Raises SettingsError if one can't be written."""
    named: dict[str, Path] = {"REGISTRY_SPOOL_PATH": read.limits.spool_path}
    if read.storage.type == "local":
        named["REGISTRY_STORAGE_PATH"] = read.storage.path
    _check(require_writable, named)


def _check(check: Callable[[Any], None], named: dict[str, Any]) -> None:
    problems = list(_problems(check, named))
    if problems:
        raise SettingsError("\n".join(problems))


def _problems(check: Callable[[Any], None], named: dict[str, Any]) -> Iterator[str]:
    for name, path in named.items():
        try:
            check(path)
        except ValueError as wanted:
            yield f"{name} wants {wanted}"
