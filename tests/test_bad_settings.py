"""Every bad value of every setting ends the real command before anything starts, in one line that shows no secret."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from registry.devstack.postgres import Postgres
from registry.settings import unknown_variables, variables
from tests.faults.toxic import toxic, unix
from tests.service import Service, run_command, serving_process

CONTROL = "a\x01b"
# Values that are wrong in themselves. What shows `hush` would leak a secret.
BAD = {
    "REGISTRY_HOST": ["http://registry", "registry:8080", "10.0.0.256", "a b"],
    "REGISTRY_PORT": ["http", "65536", "-1", "٨٠", "tcp://10.0.0.1:80"],
    "REGISTRY_METRICS_PORT": ["metrics", "65536", "1.5"],
    "REGISTRY_PUBLIC_URL": ["registry.example", "ftp://registry.example", "https://u:hush@registry.example"],
    "REGISTRY_IMAGE_HOSTS": ["https://images.example", "images.example:8443", "*.example", "images", "a b", "x/y"],
    "REGISTRY_CORS_ORIGINS": [
        "allowed.example", "https://allowed.example/", "https://allowed.example/path", "https://u@allowed.example",
        "https://allowed.example,other.example", "https://[::1", "null", "https://é.example", "https://a.example:x",
        "https://a%zz.example",
    ],
    "REGISTRY_CORS_CREDENTIALS": ["maybe", "2"],
    "REGISTRY_TRUSTED_PROXIES": [
        "10.0.0.0/99", "proxy", "10.0.0.1:80", "fe80::1%eth0", "10.0.0.1,fe80::%eth0/64", "::ffff:10.0.0.0/104",
    ],
    "REGISTRY_COUNTRY_HEADER": ["CF IPCountry", "X-Country:", "ü"],
    "REGISTRY_RATE_LIMITS": [CONTROL],
    "REGISTRY_REDIS_URL": [
        "redis://:hush@host:x/0", "http://:hush@host/0", "redis://:hu/sh@host/0", "redis://:hu@sh@host/0",
        "redis://:hush@host/zero", "redis://:hush@host?nothing=hush", "redis://", "redis://[::1",
        "redis://:hush%zz@host/0", "redis://:hush%ff@host/0", "rediss://:hush@host?ssl_cert_reqs=hush",
        "rediss://:hush@host?ssl_check_hostname=hush", "redis://:hush@host?ssl_cert_reqs=none",
        "rediss://:hush@host?ssl_cert_reqs=none&ssl_cert_reqs=none", "rediss://:hush@host?ssl_cert_reqs=",
    ],
    "REGISTRY_SHUTDOWN_GRACE": ["soon", "-1s", "2h", "999999999d"],
    "REGISTRY_READ_ONLY": ["maybe"],
    "REGISTRY_DEBUG": ["maybe"],
    "REGISTRY_LOG_LEVEL": ["loud"],
    "REGISTRY_SECRET_KEY": ["hush\x01", "hush" * 2000],
    "REGISTRY_TOKEN_DAYS": ["0", "3651", "ten"],
    "REGISTRY_SESSION_IDLE": ["1209600", "0s", "0", "two weeks", "3651d"],
    "REGISTRY_SESSION_MAX": ["2592000", "0s", "-1d", "1 month"],
    "REGISTRY_REAUTH": ["900", "0", "-1s", "soon"],
    "REGISTRY_PBKDF2_ITERATIONS": ["99999", "1e6"],
    "REGISTRY_BREACHED_PASSWORDS": ["/nowhere/breached.txt", "/", "/dev/null"],
    "REGISTRY_REQUIRE_2FA": ["some"],
    "REGISTRY_REGISTRATION": ["ajar"],
    "REGISTRY_ACCESS": ["secret"],
    "REGISTRY_OIDC_ISSUERS": [
        "ci.example", "http://ci.example", "jenkins=https://ci.example", "https://u:hush@ci.example",
        "https://ci.example?a=b", "https://ci.example,ci.example", "gitlab=", "https://[::1",
    ],
    "REGISTRY_OIDC_AUDIENCE": ["a b", "ü"],
    "REGISTRY_OIDC_CA": [CONTROL],
    "REGISTRY_AUDIT_RETENTION": ["0", "for ever", "999999999d"],
    "REGISTRY_SMTP_URL": [
        "mail.example", "http://u:hush@mail.example", "smtp://u:hush@mail.example:x", "smtp://u:hu@sh@mail.example",
        "smtp://u:hush@mail.example/path", "smtp://u:hush@mail.example?starttls=maybe", "smtp://hush@mail.example",
        "smtps://u:hush@mail.example?starttls=off", "smtp://u:hush@mail.example?tls=1", "smtp://u:hush%zz@mail.example",
    ],
    "REGISTRY_SMTP_CA": [CONTROL],
    "REGISTRY_MAIL_FROM": ["registry", "a@b@c.example", "Registry <a@b.example", "a b@c.example", "ü@c.example"],
    "REGISTRY_DB_URL": [
        "postgresql://u:hush@host:x/registry", "postgresql://u:hu@sh@host/registry", "postgresql://u:hu/sh@host/r",
        "postgresql://u:1/hush@host/registry", "postgresql://u:hu#sh@host/r", "postgresql://u:hu?sh@host/r",
        "postgresql://u:hush@[::1/registry", "mysql://u:hush@host/r", "postgresql://u:hush@host:99999/r",
        "postgresql://u:hush@host:0/r", "postgresql://u:hush@host/r/s", "sqlite:///hush.db", "host=h password=hush",
        "postgresql://u:hush@host/r?sslmode=", "postgresql://u:hush@host/r?sslmode=require&sslmode=require",
        "postgresql://u:hush@host/r?connect_timeout=x", "postgresql://u:hush@host/r?keepalives_idle=hush",
        "postgresql://u:hush@host/r?sslmode=hush", "postgresql://u:hush@host/r?target_session_attrs=hush",
        "postgresql://u:hush@/r?host=a,b&port=5432,99999", "postgresql://u:hush%zz@host/r", "postgresql://u:hush%@host/r",
        "postgresql://u:hush@host/r%z", "postgresql://u:hush%ff@host/r", "postgresql://u:hush%00@host/r",
    ],
    "REGISTRY_DB_PASSWORD": ["hush\x01"],
    "REGISTRY_DB_SSLMODE": ["maybe"],
    "REGISTRY_DB_SSLROOTCERT": [CONTROL],
    "REGISTRY_DB_POOL_SIZE": ["1", "501", "many"],
    "REGISTRY_DB_STATEMENT_TIMEOUT": ["0", "soon", "2h"],
    "REGISTRY_STORAGE_TYPE": ["tape"],
    "REGISTRY_STORAGE_PATH": [CONTROL],
    "REGISTRY_ACCEL_LOCATION": ["tarballs", "/tarballs", "/a b/"],
    "REGISTRY_S3_BUCKET": ["a b", "s3://bucket", "x", "a/b"],
    "REGISTRY_S3_REGION": ["eu central", "eu/1"],
    "REGISTRY_S3_ENDPOINT": ["s3.example", "ftp://s3.example", "http://s3:x", "http://[::1", "http://s3/?a=b",
                             "http://u:hush@s3", "http://s3/%zz"],
    "REGISTRY_S3_PUBLIC_ENDPOINT": ["s3.example", "http://s3:x", "http://u:hush@s3", "http://s3/%zz"],
    "REGISTRY_S3_ACCESS_KEY": ["hush hush", "hüsh"],
    "REGISTRY_S3_SECRET_KEY": ["hush\x01"],
    "REGISTRY_S3_CA": [CONTROL],
    "REGISTRY_S3_PREFIX": ["/registry", "a b"],
    "REGISTRY_S3_REDIRECT": ["maybe"],
    "REGISTRY_ES_URL": [
        "http://u:hush@host:x", "http://u:hush@host", "http://u:hu@sh@host:9200", "http://u:hu/sh@host:9200",
        "elasticsearch:9200", "http://[::1:9200", "http://u:hush@host:9200?a=b", "http://u:hush@:9200", "http://h:0",
        "http://u:hush%zz@host:9200", "http://u:hush%ff@host:9200",
    ],
    "REGISTRY_ES_USER": ["a:b", CONTROL],
    "REGISTRY_ES_PASSWORD": ["hush\x01"],
    "REGISTRY_ES_API_KEY": ["hush hush", "hüsh"],
    "REGISTRY_ES_CA": [CONTROL],
    "REGISTRY_ES_PREFIX": ["Upper", "-a", "a b", "a/b"],
    "REGISTRY_ES_TIMEOUT": ["0", "soon", "6m"],
    "REGISTRY_SEARCH_MODEL": [CONTROL],
    "REGISTRY_SEARCH_MODEL_SHA256": ["sha256", "8199BE" * 10 + "8199", "0" * 63],
    "REGISTRY_DOWNLOAD_IP": ["half"],
    "REGISTRY_DOWNLOAD_RETENTION": ["0", "for ever", "999999999d"],
    "REGISTRY_MAX_TARBALL": ["0", "much", "2TiB", "-1"],
    "REGISTRY_SPOOL_PATH": [CONTROL],
    "REGISTRY_WEBHOOK_ALLOW": ["10.0.0.0/99", "ci.example", "::ffff:10.0.0.0/104"],
    "REGISTRY_WEBHOOK_HTTP": ["maybe", "2"],
    "REGISTRY_WEBHOOK_RETENTION": ["soon", "1h", "99999d"],
    "REGISTRY_DELETE_GRACE": ["soon", "999999999d"],
    "REGISTRY_LOG_KEY": ["hush", "aHVzaA==", "hush\x01"],
    "REGISTRY_DATA_DIR": [CONTROL],
    "REGISTRY_CACHE_DIR": [CONTROL],
    "ES_HOME": [CONTROL],
    "ES_JAVA_HOME": [CONTROL],
    "JAVA_HOME": [CONTROL],
}  # fmt: skip
ROUNDS = max(map(len, BAD.values()))


def test_every_setting_has_a_bad_value_here():
    assert set(BAD) == {item.metadata["name"] for _, item in variables()}


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_a_bad_value_ends_the_command_in_one_line_each(number: int, tmp_path: Path):
    """One process refuses one bad value of each setting at a time."""
    wrong = {name: values[number] for name, values in BAD.items() if number < len(values)}
    status, out, err = await run_command(tmp_path, "serve", **wrong)
    assert (status, out) == (1, "")
    lines = err.splitlines()
    assert sorted(line.partition(" wants ")[0] for line in lines) == sorted(wrong), err
    assert all(len(line.partition(" wants ")[2]) > 3 for line in lines)
    assert "hush" not in err
    assert "sh@" not in err
    assert "Invalid" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", [["worker"], ["migrate"], ["doctor"], ["reindex"], ["user", "role", "ada", "admin"]]
)
async def test_every_command_refuses_a_bad_value(command: list[str], tmp_path: Path):
    _, out, err = await run_command(tmp_path, *command, REGISTRY_ES_URL="http://u:hush@host:x")
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("REGISTRY_ES_URL wants an address such as http://localhost:9200")


async def test_files_folders_and_limits_that_cannot_be_used_end_the_command(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("no certificate")
    database = {"REGISTRY_DB_URL": "postgresql://u:hush@127.0.0.1:9/r"}
    cases = [
        {"REGISTRY_SPOOL_PATH": str(file)},
        {"REGISTRY_SPOOL_PATH": "/proc/spool"},
        {"REGISTRY_STORAGE_PATH": str(file / "packages")},
        {"REGISTRY_ES_CA": str(file)},
        {"REGISTRY_ES_CA": str(tmp_path / "nothing")},
        {"REGISTRY_S3_CA": str(tmp_path)},
        {"REGISTRY_SMTP_CA": str(file)},
        {"REGISTRY_DB_SSLROOTCERT": str(file)},
        {"REGISTRY_SEARCH_MODEL": str(tmp_path / "nothing")},
        {"REGISTRY_SEARCH_MODEL": str(tmp_path)},
        {"REGISTRY_RATE_LIMITS": "publish=5"},
        {"REGISTRY_RATE_LIMITS": "nothing=5/hour"},
        {"REGISTRY_RATE_LIMITS": "publish=5/fortnight"},
        {"REGISTRY_DB_URL": "postgresql://u:hush@127.0.0.1:9/r?hush=1"},
        {"REGISTRY_METRICS_PORT": "8080"},
        {"REGISTRY_REDIS_URL": "rediss://:hush@127.0.0.1:9?ssl_ca_certs=/nowhere"},
        {"REGISTRY_REDIS_URL": f"rediss://:hush@127.0.0.1:9?ssl_ca_certs={file}"},
        {"REGISTRY_REDIS_URL": "rediss://:hush@127.0.0.1:9?ssl_cert_reqs=none&ssl_check_hostname=true"},
    ]
    # Both commands run the same checks, so one case shows that the worker runs them.
    for command, case in (*(("serve", case) for case in cases), ("worker", cases[0])):
        (name,) = case
        status, out, err = await run_command(tmp_path, command, **database | case)
        assert (status, out) == (1, ""), case
        assert err.startswith(f"{name} wants "), err
        assert err.count("\n") == 1, err
        assert "hush" not in err


def test_a_mistyped_setting_is_named_with_the_nearest_known_one():
    given = {
        "REGISTRY_RATE_LIMIT": "off",
        "REGISTRY_ES_USER_FILE": "x",
        "REGISTRY_PORT": "8080",
        "REGISTRY_ENV": "testing",
        "REGISTRY_DB_PASSWORD_FILE": "x",
        "REGISTRY_ZZZ": "x",
        # Kubernetes sets these itself.
        "REGISTRY_SERVICE_HOST": "10.0.0.1",
        "REGISTRY_PORT_8080_TCP_ADDR": "10.0.0.1",
    }
    assert unknown_variables(given) == [
        ("REGISTRY_ES_USER_FILE", "REGISTRY_ES_URL_FILE"),
        ("REGISTRY_RATE_LIMIT", "REGISTRY_RATE_LIMITS"),
        ("REGISTRY_ZZZ", ""),
    ]


async def test_a_command_warns_of_a_mistyped_setting(tmp_path: Path):
    away = {"REGISTRY_DB_URL": "postgresql://registry@127.0.0.1:9/registry"}
    _, _, err = await run_command(tmp_path, "migrate", REGISTRY_RATE_LIMIT="hush", **away)
    assert '"REGISTRY_RATE_LIMIT"' in err
    assert '"REGISTRY_RATE_LIMITS"' in err
    assert "hush" not in err


async def test_up_warns_of_a_mistyped_setting(database_url: str, tmp_path: Path):
    given = {"REGISTRY_DB_URL": database_url, "REGISTRY_ES_URL": "http://127.0.0.1:9", "REGISTRY_RATE_LIMIT": "hush"}
    async with serving_process(tmp_path, "registry", "up", **given):
        log = (tmp_path / "DATA_DIR" / "registry.log").read_text("utf-8")
    assert '"REGISTRY_RATE_LIMIT"' in log
    assert '"REGISTRY_RATE_LIMITS"' in log
    assert "hush" not in log


async def test_no_secret_is_logged_at_debug_while_servers_are_away(
    tmp_path: Path, postgres: Postgres, database_url: str
):
    """Redis, Elasticsearch and S3 are away from the start, PostgreSQL breaks off later."""
    hush = "hush-hush-hush-hush-hush-hush-hush-hush-hush"
    variables = {
        "REGISTRY_LOG_LEVEL": "debug",
        "REGISTRY_DEBUG": "true",
        "REGISTRY_SECRET_KEY": hush,
        "REGISTRY_ES_URL": f"http://u:{hush}@127.0.0.1:9",
        "REGISTRY_REDIS_URL": f"redis://:{hush}@127.0.0.1:9/0",
        "REGISTRY_STORAGE_TYPE": "s3",
        "REGISTRY_S3_BUCKET": "packages",
        "REGISTRY_S3_ENDPOINT": "http://127.0.0.1:9",
        "REGISTRY_S3_ACCESS_KEY": f"{hush}-1",
        "REGISTRY_S3_SECRET_KEY": f"{hush}-2",
    }
    connect = unix(f"{postgres._socket_dir}/.s.PGSQL.5432")
    away = asyncio.Event()

    async def connect_unless_away() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if away.is_set():
            raise ConnectionRefusedError
        return await connect()

    async with toxic(connect_unless_away) as wire:
        variables["REGISTRY_DB_URL"] = (
            f"postgresql://postgres:{hush}@127.0.0.1:{wire.port}{urlsplit(database_url).path}"
        )
        async with serving_process(tmp_path, **variables) as service:
            await ask(service)
            away.set()
            wire.reset_all()
            await ask(service)
            await service.stop()
    for text in ("search engine unavailable", "Redis is unavailable", "database"):
        assert text in service.log_text
    assert "hush" not in service.log_text


async def ask(service: Service) -> None:
    """Asks for what needs each of the servers."""
    async with aiohttp.ClientSession() as client:
        for path in ("/search?q=x", "/packages", "/health"):
            async with client.get(service.api(path)) as answer:
                await answer.read()
        body = {"username": "hush-hush", "password": "hush-hush"}
        async with client.post(service.api("/auth/login"), json=body) as answer:
            await answer.read()
