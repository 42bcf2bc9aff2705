"""The parts of the settings: each field names its environment variable, its default and what it does."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from registry import setting_files as files
from registry import setting_types as types
from registry import setting_urls as urls
from registry.setting_source import var

HEADER = types.matching(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", "the name of a header, such as CF-IPCountry")
BUCKET = types.matching(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", "a bucket name of letters, digits, dots and hyphens")
REGION = types.matching(r"[A-Za-z0-9._-]{1,63}", "a region such as eu-central-1")
ACCESS_KEY = types.matching(r"[!-~]{1,1024}", "an access key of printable ASCII without blanks")
KEY_PREFIX = types.matching(
    r"[A-Za-z0-9_.-][A-Za-z0-9_./-]{0,199}", "a prefix such as registry/, without a slash first"
)
ES_URL = urls.url("http", "https", example="http://localhost:9200", http_needs_port=True)
ES_USER = types.matching(r"[^:\x00-\x1f\x7f]{1,255}", "a user name without a colon")
ES_API_KEY = types.matching(r"[!-~]{1,4096}", "an API key of printable ASCII without blanks")
INDEX_PREFIX = types.matching(r"[a-z0-9][a-z0-9._-]{0,99}", "lower-case letters, digits, dots, hyphens and underscores")


@dataclass(frozen=True)
class WebSettings:
    """Where the service listens and whom it answers."""

    host: str = var("REGISTRY_HOST", "127.0.0.1", "Address to listen on; 0.0.0.0 for every interface", types.host)
    port: int = var("REGISTRY_PORT", "8080", "Port of the API", types.integer(0, 65535))
    metrics_port: int = var(
        "REGISTRY_METRICS_PORT", "0", "A second port for /metrics alone; 0 opens none", types.integer(0, 65535)
    )
    public_url: str = var(
        "REGISTRY_PUBLIC_URL",
        "",
        "Address of the registry for its users, such as https://registry.example; http://localhost:PORT on loopback",
        urls.public_url,
    )
    cors_origins: tuple[str, ...] = var(
        "REGISTRY_CORS_ORIGINS", "", "Origins whose pages may call the API, with commas between", urls.origins
    )
    cors_credentials: bool = var(
        "REGISTRY_CORS_CREDENTIALS", "false", "Whether pages of those origins may send credentials", types.flag
    )
    image_hosts: tuple[str, ...] = var(
        "REGISTRY_IMAGE_HOSTS", "", "Hosts whose pictures READMEs may show, with commas between", urls.hosts
    )
    trusted_proxies: tuple[str, ...] = var(
        "REGISTRY_TRUSTED_PROXIES", "", "Networks of proxies whose X-Forwarded-For is trusted", types.networks
    )
    country_header: str = var(
        "REGISTRY_COUNTRY_HEADER",
        "",
        "Header in which a trusted proxy sends the two letters of the client's country",
        HEADER,
    )
    rate_limits: str = var(
        "REGISTRY_RATE_LIMITS", "", "`off`, or overrides such as `publish=200/hour,search=50/minute`"
    )
    redis_url: str = var(
        "REGISTRY_REDIS_URL",
        "",
        "Redis that shares the rate limits between processes",
        urls.redis_url,
        secret=True,
    )
    shutdown_grace: timedelta = var(
        "REGISTRY_SHUTDOWN_GRACE",
        "5s",
        "How long requests may take to finish when the service stops",
        types.duration("0s", "1h"),
    )
    read_only: bool = var(
        "REGISTRY_READ_ONLY", "false", "`true`: clients may read and sign in, but change nothing", types.flag
    )
    debug: bool = var("REGISTRY_DEBUG", "false", "asyncio's debug mode; refused in production", types.flag)
    log_level: str = var(
        "REGISTRY_LOG_LEVEL", "info", "Lowest level that is logged", types.choice("debug", "info", "warning", "error")
    )


@dataclass(frozen=True)
class AccountSettings:
    """Who may have an account and how credentials are made."""

    secret_keys: tuple[str, ...] = var(
        "REGISTRY_SECRET_KEY", "", "Keys that sign logins, newest first, with commas between", types.words, secret=True
    )
    token_days: int = var("REGISTRY_TOKEN_DAYS", "30", "Days until a login expires", types.integer(1, 3650))
    session_idle: timedelta = var(
        "REGISTRY_SESSION_IDLE",
        "14d",
        "A browser's session ends after this time without a request",
        types.duration("1s", "3650d", needs_unit=True),
    )
    session_max: timedelta = var(
        "REGISTRY_SESSION_MAX",
        "30d",
        "A browser's session ends this long after its sign-in, however much it is used",
        types.duration("1s", "3650d", needs_unit=True),
    )
    reauth: timedelta = var(
        "REGISTRY_REAUTH",
        "15m",
        "How long after a sign-in or a confirmation the pages allow sensitive acts without asking again",
        types.duration("0s", "3650d", needs_unit=True),
    )
    pbkdf2_iterations: int = var(
        "REGISTRY_PBKDF2_ITERATIONS",
        "600000",
        "Iterations of a password hash; a login updates older hashes",
        types.integer(100_000, 100_000_000),
    )
    breached_passwords: Path | None = var(
        "REGISTRY_BREACHED_PASSWORDS",
        "",
        "File with sorted SHA-1 hashes of passwords known from breaches; such passwords are refused",
        files.sorted_hashes,
    )
    require_2fa: str = var(
        "REGISTRY_REQUIRE_2FA",
        "off",
        "Who needs a second factor: nobody, `publishers` (owners and maintainers of packages), or `all`",
        types.choice("off", "publishers", "all"),
    )
    registration: str = var(
        "REGISTRY_REGISTRATION", "open", "`closed`: only admins create users", types.choice("open", "closed")
    )
    access: str = var(
        "REGISTRY_ACCESS",
        "public",
        "`private`: reading and searching also need credentials. Set REGISTRY_REGISTRATION=closed, too; otherwise "
        "anybody can register",
        types.choice("public", "private"),
    )


@dataclass(frozen=True)
class OidcSettings:
    """Issuers of the ID tokens with which CI jobs publish."""

    issuers: tuple[tuple[str, str], ...] = var(
        "REGISTRY_OIDC_ISSUERS",
        "",
        "Issuers besides GitHub and GitLab, with commas between: https://ci.example, or gitlab=https://gitlab.example",
        urls.issuers,
    )
    audience: str = var(
        "REGISTRY_OIDC_AUDIENCE",
        "",
        "Audience that ID tokens must have; REGISTRY_PUBLIC_URL unless it is set",
        types.matching(r"[!-~]{1,500}", "printable ASCII without blanks"),
    )
    ca: str = var("REGISTRY_OIDC_CA", "", "CA file that the certificates of issuers are checked against, too")


@dataclass(frozen=True)
class AuditSettings:
    """How long the audit log is kept."""

    retention: timedelta | None = var(
        "REGISTRY_AUDIT_RETENTION",
        "",
        "How long entries of the audit log are kept; empty keeps them for ever",
        types.optional(types.duration("1d", "36500d")),
    )


@dataclass(frozen=True)
class MailSettings:
    """The server that sends mail. Without an address of one, the registry sends none."""

    smtp_url: str = var(
        "REGISTRY_SMTP_URL",
        "",
        "Address of the mail server: smtps://, or smtp:// with STARTTLS if offered (?starttls=required or off)",
        urls.smtp_url,
        secret=True,
    )
    smtp_ca: str = var("REGISTRY_SMTP_CA", "", "CA file that the mail server's certificate is checked against")
    sender: str = var(
        "REGISTRY_MAIL_FROM",
        "",
        "Sender of mail, such as Registry <no-reply@registry.example>; no-reply at REGISTRY_PUBLIC_URL when unset",
        types.mailbox,
    )


@dataclass(frozen=True)
class WebhookSettings:
    """Where webhooks may be sent, and how long deliveries are kept."""

    allow: tuple[str, ...] = var(
        "REGISTRY_WEBHOOK_ALLOW",
        "",
        "Networks that are not public, but to which webhooks may be sent, such as 10.0.0.0/8",
        types.networks,
    )
    http: bool = var("REGISTRY_WEBHOOK_HTTP", "false", "Whether webhooks may use http instead of https", types.flag)
    retention: timedelta = var(
        "REGISTRY_WEBHOOK_RETENTION",
        "30d",
        "How long deliveries of webhooks are listed and can be repeated",
        types.duration("1d", "3650d"),
    )


@dataclass(frozen=True)
class DatabaseSettings:
    """PostgreSQL."""

    url: str = var("REGISTRY_DB_URL", "", "postgresql:// address of the database", urls.database_url, secret=True)
    password: str = var("REGISTRY_DB_PASSWORD", "", "Password, if REGISTRY_DB_URL has none", secret=True)
    sslmode: str = var(
        "REGISTRY_DB_SSLMODE",
        "",
        "libpq's sslmode, such as verify-full",
        types.choice("", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    )
    sslrootcert: str = var("REGISTRY_DB_SSLROOTCERT", "", "CA file that the server's certificate is checked against")
    pool_size: int = var(
        "REGISTRY_DB_POOL_SIZE", "10", "Largest number of pooled connections of one process", types.integer(2, 500)
    )
    statement_timeout: timedelta = var(
        "REGISTRY_DB_STATEMENT_TIMEOUT",
        "10s",
        "PostgreSQL cancels a statement that runs longer than this",
        types.duration("1s", "1h"),
    )


@dataclass(frozen=True)
class StorageSettings:
    """Where tarballs are kept."""

    type: str = var("REGISTRY_STORAGE_TYPE", "local", "`local` folder or `s3`", types.choice("local", "s3"))
    path: Path = var("REGISTRY_STORAGE_PATH", "./packages", "Folder of the local storage", files.folder)
    accel_location: str = var(
        "REGISTRY_ACCEL_LOCATION",
        "",
        "Internal location of nginx, such as /tarballs/, that serves `blobs` in REGISTRY_STORAGE_PATH. If set, nginx "
        "sends whole tarballs and the registry sends ranges",
        types.location,
    )
    s3_bucket: str = var("REGISTRY_S3_BUCKET", "", "Bucket name; needed with `s3`", BUCKET)
    s3_region: str = var("REGISTRY_S3_REGION", "us-east-1", "Region of the bucket", REGION)
    s3_endpoint: str = var(
        "REGISTRY_S3_ENDPOINT",
        "",
        "Address of an S3 server other than AWS",
        urls.url("http", "https", example="https://s3.example:9000", login=False),
    )
    s3_public_endpoint: str = var(
        "REGISTRY_S3_PUBLIC_ENDPOINT",
        "",
        "Address of the S3 server for clients, if they need another one; used in presigned addresses",
        urls.url("http", "https", login=False),
    )
    s3_access_key: str = var(
        "REGISTRY_S3_ACCESS_KEY", "", "Access key; without it, AWS's credential chain is used", ACCESS_KEY, secret=True
    )
    s3_secret_key: str = var("REGISTRY_S3_SECRET_KEY", "", "Secret key that belongs to the access key", secret=True)
    s3_ca: str = var("REGISTRY_S3_CA", "", "CA file that the S3 server's certificate is checked against")
    s3_prefix: str = var("REGISTRY_S3_PREFIX", "", "Prefix of every key, such as `registry/`", KEY_PREFIX)
    s3_redirect: bool = var(
        "REGISTRY_S3_REDIRECT", "false", "Answer downloads with 302 to a presigned address", types.flag
    )


@dataclass(frozen=True)
class SearchSettings:
    """Elasticsearch."""

    url: str = var("REGISTRY_ES_URL", "", "Address of Elasticsearch", ES_URL, secret=True)
    user: str = var("REGISTRY_ES_USER", "", "User name for basic authentication", ES_USER)
    password: str = var("REGISTRY_ES_PASSWORD", "", "Password of REGISTRY_ES_USER", secret=True)
    api_key: str = var("REGISTRY_ES_API_KEY", "", "API key, instead of user and password", ES_API_KEY, secret=True)
    ca: str = var("REGISTRY_ES_CA", "", "CA file that the server's certificate is checked against")
    prefix: str = var("REGISTRY_ES_PREFIX", "", "Prefix of every index name, for a shared Elasticsearch", INDEX_PREFIX)
    timeout: timedelta = var(
        "REGISTRY_ES_TIMEOUT",
        "2s",
        "If Elasticsearch takes longer for a search, PostgreSQL answers it",
        types.duration("1s", "5m"),
    )
    model: Path | None = var(
        "REGISTRY_SEARCH_MODEL",
        "",
        "Folder with model.onnx and vocab.txt of a sentence model, to search by meaning, too; empty searches by words "
        "alone. `synapse-registry search-model install` fills it",
        types.optional(files.folder),
    )
    model_sha256: str = var(
        "REGISTRY_SEARCH_MODEL_SHA256",
        "",
        "SHA-256 of model.onnx, if it is not the model that `search-model install` copies",
        types.matching(r"[0-9a-f]{64}", "64 lower-case hex digits"),
    )


@dataclass(frozen=True)
class DownloadSettings:
    """What is stored about each download, and for how long. The daily counts stay for ever."""

    address: str = var(
        "REGISTRY_DOWNLOAD_IP",
        "truncated",
        "`full`: whole client addresses are stored, not only their networks",
        types.choice("truncated", "full"),
    )
    retention: timedelta = var(
        "REGISTRY_DOWNLOAD_RETENTION",
        "400d",
        "Single downloads are deleted after this time, month by month; daily counts are kept",
        types.duration("1d", "36500d"),
    )


@dataclass(frozen=True)
class LimitSettings:
    """Limits of uploads, their spool folder, and the grace period of deleted versions."""

    max_tarball: int = var(
        "REGISTRY_MAX_TARBALL", "100MiB", "Largest tarball that is accepted", types.size("1B", "1TiB")
    )
    spool_path: Path = var(
        "REGISTRY_SPOOL_PATH",
        "./spool",
        "Folder for uploads in progress and downloads that are not counted yet",
        files.folder,
    )
    delete_grace: timedelta = var(
        "REGISTRY_DELETE_GRACE", "7d", "How long an admin can restore a deleted version", types.duration("0s", "3650d")
    )


@dataclass(frozen=True)
class LogSettings:
    """The log of changes."""

    keys: tuple[bytes, ...] = var(
        "REGISTRY_LOG_KEY",
        "",
        "Keys that sign the log of changes, newest first; `synapse-registry log key` makes them",
        types.log_keys,
        secret=True,
    )
