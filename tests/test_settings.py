"""Every variable is read, refused when wrong, documented, and kept out of what is printed."""

import base64
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from registry.errors import SettingsError
from registry.preflight import warn_of_open_registration
from registry.settings import ENV_DOC, Settings, variables

ROOT = Path(__file__).parent.parent
KEY = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH"
PRODUCTION = {
    "REGISTRY_ENV": "production",
    "REGISTRY_SECRET_KEY": KEY,
    "REGISTRY_DB_URL": "postgresql://registry:sesame@db/registry",
}


def refusal(environ: Mapping[str, str]) -> str:
    with pytest.raises(SettingsError) as refused:
        Settings.read(environ)
    return str(refused.value)


def documented() -> dict[str, tuple[str, str]]:
    """Variable to (default, meaning), from the table in README.md."""
    rows = re.findall(
        r"^\| `([A-Z][A-Z0-9_]+)` \| ([^|]+) \| (.+?)(?: · or `\w+`)? \|$",
        (ROOT / "README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    return {name: (default.strip().strip("`"), meaning) for name, default, meaning in rows}


def test_readme_documents_every_variable_with_its_default_and_meaning():
    wanted = {item.metadata["name"]: (item.metadata["default"] or "–", item.metadata["doc"]) for _, item in variables()}
    assert documented() == {"REGISTRY_ENV": ("development", ENV_DOC), **wanted}


def test_readme_says_which_variables_may_be_files():
    text = (ROOT / "README.md").read_text("utf-8")
    for _, item in variables():
        assert (f"`{item.metadata['name']}_FILE`" in text) == item.metadata["secret"], item.metadata["name"]


def test_every_variable_says_what_it_is_for():
    for _, item in variables():
        assert len(item.metadata["doc"]) > 10, item.metadata["name"]


def test_an_empty_environment_is_enough_for_development():
    settings = Settings.read({})
    assert settings.env == "development"
    assert (settings.web.host, settings.web.port) == ("127.0.0.1", 8080)
    assert settings.storage.type == "local"
    assert settings.accounts.pbkdf2_iterations == 600_000
    assert settings.limits.max_tarball == 100 << 20
    assert settings.limits.delete_grace == timedelta(days=7)
    assert settings.web.cors_origins == ()
    assert settings.accounts.token_days == 30


def test_the_environment_is_named_by_either_variable():
    assert Settings.read({"FLASK_ENV": "testing"}).env == "testing"
    assert Settings.read({"FLASK_ENV": "testing", "REGISTRY_ENV": "development"}).env == "development"
    assert Settings.read({"FLASK_ENV": "Testing", "REGISTRY_ENV": ""}).env == "testing"
    assert "REGISTRY_ENV wants development or testing or production" in refusal({"FLASK_ENV": "staging"})


def test_an_empty_variable_is_one_that_is_not_set():
    key = {"REGISTRY_SECRET_KEY": "k" * 40}  # without one each reading makes its own
    empty = {item.metadata["name"]: "" for _, item in variables()}
    assert Settings.read({**empty, **key}) == Settings.read(key)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("REGISTRY_PORT", "0", 0),
        ("REGISTRY_MAX_TARBALL", "5MiB", 5 << 20),
        ("REGISTRY_MAX_TARBALL", "5 mb", 5 << 20),
        ("REGISTRY_MAX_TARBALL", "1G", 1 << 30),
        ("REGISTRY_MAX_TARBALL", "17", 17),
        ("REGISTRY_DELETE_GRACE", "90", timedelta(seconds=90)),
        ("REGISTRY_DELETE_GRACE", "5m", timedelta(minutes=5)),
        ("REGISTRY_DELETE_GRACE", "12h", timedelta(hours=12)),
        ("REGISTRY_S3_REDIRECT", "YES", True),
        ("REGISTRY_S3_REDIRECT", "0", False),
        (
            "REGISTRY_CORS_ORIGINS",
            " https://a.example , https://b.example,",
            ("https://a.example", "https://b.example"),
        ),
        ("REGISTRY_CORS_ORIGINS", "*", ("*",)),
        (
            "REGISTRY_CORS_ORIGINS",
            "HTTPS://App.example:443,http://localhost:3000,http://[::1]:80",
            ("https://app.example", "http://localhost:3000", "http://[::1]"),
        ),
        ("REGISTRY_ES_URL", "https://es.example", "https://es.example"),
        ("REGISTRY_ES_URL", "http://u:p%40ss@[::1]:9200/es", "http://u:p%40ss@[::1]:9200/es"),
        ("REGISTRY_REDIS_URL", "rediss://:p@r/0?ssl_cert_reqs=none", "rediss://:p@r/0?ssl_cert_reqs=none"),
        ("REGISTRY_DB_URL", "postgresql:///r?host=/run/pg", "postgresql:///r?host=/run/pg"),
        ("REGISTRY_DB_URL", "postgresql://a:b%2Fc@[::1]:5432/r", "postgresql://a:b%2Fc@[::1]:5432/r"),
        ("REGISTRY_HOST", "::", "::"),
        ("REGISTRY_HOST", "registry-1.internal", "registry-1.internal"),
        ("REGISTRY_SECRET_KEY", "new,old", ("new", "old")),
        ("REGISTRY_ACCESS", "Private", "private"),
        ("REGISTRY_DB_URL", "postgres://a@b/c", "postgres://a@b/c"),
        (
            "REGISTRY_DB_URL",
            "postgresql://registry@/registry?host=db1,db2&port=5432,5433&target_session_attrs=read-write",
            "postgresql://registry@/registry?host=db1,db2&port=5432,5433&target_session_attrs=read-write",
        ),
        (
            "REGISTRY_DB_URL",
            "postgresql://a:b%25%C3%A9@c/d?connect_timeout=3&sslmode=verify-full&keepalives=1&options=-c%20x",
            "postgresql://a:b%25%C3%A9@c/d?connect_timeout=3&sslmode=verify-full&keepalives=1&options=-c%20x",
        ),
        (
            "REGISTRY_TRUSTED_PROXIES",
            "10.0.0.1, 10.1.2.3/8,fd00::/8,::1,::/0",
            ("10.0.0.1", "10.1.2.3/8", "fd00::/8", "::1", "::/0"),
        ),
    ],
)
def test_a_variable_is_read(name: str, text: str, value: object):
    settings = Settings.read({name: text})
    part, item = next((part, item) for part, item in variables() if item.metadata["name"] == name)
    assert getattr(getattr(settings, part), item.name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("REGISTRY_PORT", "http"),
        ("REGISTRY_PORT", "65536"),
        ("REGISTRY_PORT", "-1"),
        ("REGISTRY_PORT", "٨٠"),
        ("REGISTRY_MAX_TARBALL", "much"),
        ("REGISTRY_DELETE_GRACE", "soon"),
        ("REGISTRY_S3_REDIRECT", "maybe"),
        ("REGISTRY_ACCESS", "secret"),
        ("REGISTRY_REGISTRATION", "ajar"),
        ("REGISTRY_STORAGE_TYPE", "tape"),
        ("REGISTRY_PBKDF2_ITERATIONS", "99999"),
        ("REGISTRY_TRUSTED_PROXIES", "10.0.0.0/99"),
        ("REGISTRY_REDIS_URL", "http://redis"),
        ("REGISTRY_ES_URL", "elasticsearch:9200"),
        ("REGISTRY_DB_URL", "mysql://a@b/c"),
        ("REGISTRY_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_refused_by_the_variables_name(name: str, text: str):
    assert f"{name} wants " in refusal({name: text})


def test_every_wrong_variable_is_named_at_once():
    text = refusal({"REGISTRY_PORT": "x", "REGISTRY_ACCESS": "x", "REGISTRY_ENV": "x"})
    assert all(f"{name} wants" in text for name in ("REGISTRY_PORT", "REGISTRY_ACCESS", "REGISTRY_ENV"))


@pytest.mark.parametrize("url", ["sqlite:///:memory:", "sqlite:///registry.db", "sqlite+aiosqlite:///x"])
def test_sqlite_is_refused_with_the_way_to_a_postgresql(url: str):
    text = refusal({"REGISTRY_DB_URL": url})
    assert "REGISTRY_DB_URL" in text
    assert "`make up`" in text


def test_a_secret_may_stand_in_a_file(tmp_path: Path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    for _, item in variables():
        # Keys of the log are decoded, so they are not in the settings as text.
        if item.metadata["secret"] and "URL" not in item.metadata["name"] and "LOG_KEY" not in item.metadata["name"]:
            name = item.metadata["name"]
            other = {
                "REGISTRY_S3_ACCESS_KEY": "REGISTRY_S3_SECRET_KEY",
                "REGISTRY_S3_SECRET_KEY": "REGISTRY_S3_ACCESS_KEY",
            }
            settings = Settings.read({f"{name}_FILE": str(file), **{other[key]: "x" for key in [name] if key in other}})
            assert KEY in str([vars(part) for part in vars(settings).values() if not isinstance(part, str)]), name
    assert Settings.read({"REGISTRY_SECRET_KEY_FILE": str(file), "REGISTRY_SECRET_KEY": "x"}).accounts.secret_keys == (
        KEY,
    )


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_of_a_secrets_file_only_the_line_break_is_cut_off(end: str, tmp_path: Path):
    file = tmp_path / "password"
    file.write_bytes(f" sesame {end}".encode())
    assert Settings.read({"REGISTRY_DB_PASSWORD_FILE": str(file)}).database.password == " sesame "
    assert Settings.read({"REGISTRY_DB_PASSWORD": " sesame "}).database.password == " sesame "


@pytest.mark.parametrize("content", [b"", b"\n", b"hush\nhush\n", b"hush\xff", b"hush\0", b"hush" * 20_000])
def test_a_secrets_file_that_holds_no_secret_is_refused(content: bytes, tmp_path: Path):
    file = tmp_path / "password"
    file.write_bytes(content)
    text = refusal({"REGISTRY_DB_PASSWORD_FILE": str(file)})
    assert text.startswith("REGISTRY_DB_PASSWORD_FILE wants a file")
    assert "hush" not in text


def test_a_file_that_is_not_there_is_named_by_its_variable(tmp_path: Path):
    text = refusal({"REGISTRY_SECRET_KEY_FILE": str(tmp_path / "nothing")})
    assert "REGISTRY_SECRET_KEY_FILE wants a file that can be read" in text


def test_a_development_process_that_was_given_no_key_makes_one_of_its_own():
    made = [Settings.read({}).accounts.secret_keys for _ in range(2)]
    assert made[0] != made[1]
    assert all(len(key) >= 32 for keys in made for key in keys)


def test_no_secret_is_in_what_settings_print():
    secrets = {
        item.metadata["name"]: f"hush-{number}"
        for number, (_, item) in enumerate(variables())
        if item.metadata["secret"]
    }
    addresses = {
        "REGISTRY_DB_URL": "postgresql://u:{}@host/x",
        "REGISTRY_REDIS_URL": "redis://u:{}@host/0",
        "REGISTRY_ES_URL": "http://u:{}@host:9200",
        "REGISTRY_SMTP_URL": "smtp://u:{}@host:587",
        "REGISTRY_LOG_KEY": base64.b64encode(b"hush" * 8).decode(),
    }
    given = {name: addresses.get(name, "{}").format(text) for name, text in secrets.items()}
    settings = Settings.read(given)
    assert "hush" not in repr(settings)
    assert "hush" not in str(settings)
    assert "hush" in str(vars(settings.accounts))
    assert "hush" in str(vars(settings.log))


def test_no_secret_is_in_a_refusal():
    text = refusal(
        {"REGISTRY_DB_URL": "mysql://u:hush@host/x", "REGISTRY_SECRET_KEY": "hush", "REGISTRY_ENV": "production"}
    )
    assert "hush" not in text


def test_production_starts_with_what_it_needs():
    assert Settings.read(PRODUCTION).env == "production"
    assert (
        Settings.read({**PRODUCTION, "REGISTRY_SECRET_KEY": f"{KEY},{KEY[::-1]}"}).accounts.secret_keys[1] == KEY[::-1]
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"REGISTRY_SECRET_KEY": ""}, "REGISTRY_SECRET_KEY"),
        ({"REGISTRY_SECRET_KEY": KEY[:31]}, "REGISTRY_SECRET_KEY"),
        ({"REGISTRY_SECRET_KEY": "a" * 64}, "REGISTRY_SECRET_KEY"),
        ({"REGISTRY_SECRET_KEY": f"{KEY},short"}, "REGISTRY_SECRET_KEY"),
        ({"REGISTRY_DB_URL": ""}, "REGISTRY_DB_URL"),
        ({"REGISTRY_DEBUG": "true"}, "REGISTRY_DEBUG"),
        ({"REGISTRY_STORAGE_TYPE": "s3"}, "REGISTRY_S3_BUCKET"),
        ({"REGISTRY_CORS_ORIGINS": "*", "REGISTRY_CORS_CREDENTIALS": "true"}, "REGISTRY_CORS_ORIGINS"),
        ({"REGISTRY_S3_ACCESS_KEY": "x"}, "REGISTRY_S3_SECRET_KEY"),
        ({"REGISTRY_PUBLIC_URL": "http://registry.example"}, "REGISTRY_PUBLIC_URL"),
        ({"REGISTRY_OIDC_ISSUERS": "http://127.0.0.1:9"}, "REGISTRY_OIDC_ISSUERS"),
        ({"REGISTRY_SMTP_URL": "smtps://mail.example"}, "REGISTRY_PUBLIC_URL"),
        (
            {
                "REGISTRY_SMTP_URL": "smtp://u:p@mail.example?starttls=off",
                "REGISTRY_PUBLIC_URL": "https://registry.example",
            },
            "REGISTRY_SMTP_URL",
        ),
    ],
)
def test_production_refuses_to_start(changes: dict[str, str], named: str):
    assert named in refusal({**PRODUCTION, **changes})


def test_production_is_known_by_the_older_variable_too():
    assert "REGISTRY_SECRET_KEY" in refusal({"FLASK_ENV": "production"})


@pytest.mark.parametrize(
    ("access", "registration", "warns"),
    [("private", "open", True), ("private", "closed", False), ("public", "open", False)],
)
def test_open_registration_of_a_private_registry_is_warned_of(
    access: str, registration: str, warns: bool, caplog: pytest.LogCaptureFixture
):
    given = Settings.read({"REGISTRY_ACCESS": access, "REGISTRY_REGISTRATION": registration})
    warn_of_open_registration(given.accounts)
    assert bool(caplog.messages) is warns


def test_the_sum_of_a_model_needs_a_model():
    with pytest.raises(SettingsError, match="REGISTRY_SEARCH_MODEL wants a folder"):
        Settings.read({"REGISTRY_SEARCH_MODEL_SHA256": "0" * 64})
