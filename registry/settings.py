"""All configuration: one frozen `Settings` made of parts, read once from the environment.

Each field names its variable and says what it does. `synapse-registry config` lists them all. A secret may also be
given as `NAME_FILE`, the path of a file that holds the value. This is the only module that reads the environment.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields, replace
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from registry.errors import SettingsError
from registry.setting_parts import (
    AccountSettings,
    AuditSettings,
    DatabaseSettings,
    DownloadSettings,
    LimitSettings,
    LogSettings,
    MailSettings,
    OidcSettings,
    SearchSettings,
    StorageSettings,
    WebhookSettings,
    WebSettings,
)
from registry.setting_source import read_part, unknown
from registry.setting_stack import StackSettings
from registry.setting_types import is_loopback

ENVIRONMENTS = ("development", "testing", "production")
ENV_DOC = "`development`, `testing` or `production`; `FLASK_ENV` is read when it is unset"
MINIMUM_SECRET_BYTES = 32
# This file is in the data folder while `up` runs. It has the variables with the addresses of the started servers.
ADDRESSES = "addresses.json"


@dataclass(frozen=True)
class Settings:
    """All settings of a process. `Settings.read()` reads them from the environment."""

    env: str
    web: WebSettings
    accounts: AccountSettings
    oidc: OidcSettings
    audit: AuditSettings
    mail: MailSettings
    webhooks: WebhookSettings
    database: DatabaseSettings
    storage: StorageSettings
    search: SearchSettings
    downloads: DownloadSettings
    limits: LimitSettings
    log: LogSettings
    stack: StackSettings

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Settings from `environ` (the process's own by default).

        Raises SettingsError that names every wrong variable at once.
        """
        environ = os.environ if environ is None else environ
        problems: list[str] = []
        env = (environ.get("REGISTRY_ENV") or environ.get("FLASK_ENV") or "development").lower()
        if env not in ENVIRONMENTS:
            problems.append(f"REGISTRY_ENV wants {' or '.join(ENVIRONMENTS)}")
        parts = {name: read_part(part, environ, problems) for name, part in _parts()}
        if not problems:
            settings = cls(env=env, **parts)
            problems.extend(_problems_of(settings))
        if problems:
            raise SettingsError("\n".join(problems))
        if not settings.accounts.secret_keys:
            return replace(settings, accounts=replace(settings.accounts, secret_keys=(_ephemeral_secret(),)))
        return settings

    @property
    def oidc_audience(self) -> str | None:
        """The audience of ID tokens. None if neither it nor the public address is set."""
        return self.oidc.audience or self.public_url

    @property
    def public_url(self) -> str | None:
        """The origin in links and audiences. None if it isn't set and other machines can reach the registry."""
        if self.web.public_url:
            return self.web.public_url
        return f"http://localhost:{self.web.port}" if is_loopback(self.web.host) else None


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """(name, the nearest setting or "") of each REGISTRY_* variable that is not a setting."""
    return list(unknown(os.environ if environ is None else environ, [item for _, item in variables()]))


def environment() -> dict[str, str]:
    """A copy of the process's environment, for child processes."""
    return dict(os.environ)


def _ephemeral_secret() -> str:
    """A signing key for development without REGISTRY_SECRET_KEY. Its tokens are invalid after a restart."""
    return secrets.token_urlsafe(48)


def variables() -> Iterator[tuple[str, Field[Any]]]:
    """(part name, field) of every variable, in the order they are documented."""
    for name, part in _parts():
        for item in fields(part):
            yield name, item


def _parts() -> Iterator[tuple[str, Any]]:
    for name, kind in get_type_hints(Settings).items():
        if name != "env":
            yield name, kind


def _problems_of(settings: Settings) -> Iterator[str]:
    if settings.storage.type == "s3" and not settings.storage.s3_bucket:
        yield "REGISTRY_S3_BUCKET wants a bucket name, since REGISTRY_STORAGE_TYPE is s3"
    if settings.storage.type == "s3" and settings.storage.accel_location:
        yield "REGISTRY_ACCEL_LOCATION wants REGISTRY_STORAGE_TYPE=local; with s3, use REGISTRY_S3_REDIRECT=true"
    if bool(settings.storage.s3_access_key) != bool(settings.storage.s3_secret_key):
        yield "REGISTRY_S3_ACCESS_KEY wants REGISTRY_S3_SECRET_KEY as well: set both or neither"
    if "*" in settings.web.cors_origins and settings.web.cors_credentials:
        yield "REGISTRY_CORS_ORIGINS wants named origins, not *, since REGISTRY_CORS_CREDENTIALS is true"
    if settings.web.metrics_port and settings.web.metrics_port == settings.web.port:
        yield "REGISTRY_METRICS_PORT wants another port than REGISTRY_PORT"
    yield from _search_problems(settings.search)
    if settings.env == "production":
        yield from _production_problems(settings)


def _search_problems(search: SearchSettings) -> Iterator[str]:
    if search.user and not search.password:
        yield "REGISTRY_ES_PASSWORD wants a password, since REGISTRY_ES_USER is set"
    if search.user and search.api_key:
        yield "REGISTRY_ES_API_KEY wants REGISTRY_ES_USER to be empty: only one of the two is used"
    if search.model_sha256 and search.model is None:
        yield "REGISTRY_SEARCH_MODEL wants a folder, since REGISTRY_SEARCH_MODEL_SHA256 is set"


def _production_problems(settings: Settings) -> Iterator[str]:
    keys = settings.accounts.secret_keys
    if not keys:
        yield "REGISTRY_SECRET_KEY wants a value in production; `openssl rand -base64 48` makes one"
    for key in keys:
        if len(key.encode()) < MINIMUM_SECRET_BYTES or len(set(key)) < 8:
            yield (
                f"REGISTRY_SECRET_KEY wants at least {MINIMUM_SECRET_BYTES} random bytes in production; "
                "`openssl rand -base64 48` makes them"
            )
            break
    if not settings.database.url:
        yield "REGISTRY_DB_URL wants a postgresql:// address in production"
    if settings.web.debug:
        yield "REGISTRY_DEBUG wants false in production"
    if any(url.startswith("http:") for _, url in settings.oidc.issuers):
        yield "REGISTRY_OIDC_ISSUERS wants https:// addresses in production"
    yield from _mail_problems(settings)
    public = urlsplit(settings.web.public_url)
    if public.scheme == "http" and not is_loopback(public.hostname or ""):
        yield "REGISTRY_PUBLIC_URL wants an https:// address in production"


def _mail_problems(settings: Settings) -> Iterator[str]:
    mail = urlsplit(settings.mail.smtp_url)
    if mail.scheme and not settings.web.public_url:
        yield "REGISTRY_PUBLIC_URL wants an address in production, since mails have links and REGISTRY_SMTP_URL is set"
    if mail.password and "starttls=off" in mail.query and not is_loopback(mail.hostname or ""):
        yield "REGISTRY_SMTP_URL wants starttls=required in production, since it has a password"
