"""Runs every command of the compose stack with the stack's environment, on real servers, without containers."""

import os
import re
import subprocess
import sys
from contextlib import AsyncExitStack
from uuid import uuid4

import aiohttp
import pytest
from ephemeral_port_reserve import reserve
from sqlalchemy import make_url

from tests.client import Registry, tarball
from tests.conftest import new_database
from tests.deploy.outside import LEFT_OUT, PROGRAM, path_with, run, running, until_healthy, words
from tests.deploy.stack import FILES, ROOT, environment, services

SERVICES = services(*FILES)
NOBODY_LISTENS = 9


@pytest.fixture(scope="session")
def path(tmp_path_factory) -> str:
    return path_with(tmp_path_factory.mktemp("programs") / "bin")


@pytest.fixture
def empty_database(postgres):
    """A database without a schema."""
    with new_database(postgres, "template0") as url:
        yield url


@pytest.fixture
def places(empty_database, elasticsearch, index_prefix, s3, tmp_path, path, secrets) -> dict[str, str]:
    """Settings that replace the stack's server addresses with those of the test servers."""
    return {
        "PATH": path,
        "REGISTRY_DB_URL": empty_database,
        "REGISTRY_ES_URL": elasticsearch.url,
        "REGISTRY_ES_PREFIX": index_prefix,
        "REGISTRY_S3_ENDPOINT": s3.url,
        "REGISTRY_S3_BUCKET": f"stack-{uuid4().hex[:12]}",
        "REGISTRY_S3_ACCESS_KEY": s3.access_key,
        "REGISTRY_S3_SECRET_KEY": s3.secret_key,
        "REGISTRY_SPOOL_PATH": str(tmp_path / "spool"),
        "REGISTRY_PORT": str(reserve()),
        "REGISTRY_METRICS_PORT": str(reserve()),
        "REGISTRY_RATE_LIMITS": "off",
    }


async def test_the_stack_starts_serves_and_stops(places, secrets, tmp_path):
    redis_port, worker_port = reserve(), reserve()
    places["REGISTRY_REDIS_URL"] = f"redis://:{secrets['REDIS_PASSWORD']}@127.0.0.1:{redis_port}/0"

    def environ(name: str, **more: str) -> dict[str, str]:
        return environment(SERVICES[name], secrets) | places | more

    async def one_shot(name: str) -> str:
        status, said = await run(words(SERVICES[name], "command"), environ(name))
        assert status == 0, said
        return said

    assert "The schema is at revision" in await one_shot("migrate")
    assert "The schema is at revision" in await one_shot("migrate")
    assert "created" in await one_shot("make-bucket")
    assert "exists already" in await one_shot("make-bucket")
    ports = {"8080": places["REGISTRY_PORT"], "9100": worker_port, "6379": redis_port}
    async with AsyncExitStack() as stack:
        for name, more in (
            ("redis", {"REDISCLI_AUTH": secrets["REDIS_PASSWORD"]}),
            ("worker", {"REGISTRY_METRICS_PORT": str(worker_port), "REGISTRY_ES_USER": ""}),
            ("registry", {"REGISTRY_ES_USER": ""}),
        ):
            command = words(SERVICES[name], "command", ports if name == "redis" else {})
            await stack.enter_async_context(running(command, environ(name, **more), tmp_path / f"{name}.log"))
            await until_healthy(words(SERVICES[name], "healthcheck", ports), environ(name, **more))
        await publish_find_and_fetch(places)
    assert "password" not in (tmp_path / "registry.log").read_text().lower()


async def publish_find_and_fetch(places: dict[str, str]) -> None:
    """Publishes a package, finds it, and downloads it."""
    url = f"http://127.0.0.1:{places['REGISTRY_PORT']}"
    async with aiohttp.ClientSession() as session:
        registry = Registry(aiohttp.web.Application(), session, url)
        made = await (await registry.user()).publish("demo", data=tarball())
        found = await registry.get(f"/search?q=demo&min_seq={made['package']['seq']}")
        assert [result["name"] for result in found.json["results"]] == ["demo"]
        assert found.json["degraded"] is False
        redirect = await registry.get("/packages/demo/1.0.0/tarball")
        assert redirect.status == 302
        async with session.get(redirect.headers["Location"], auto_decompress=False) as answer:
            assert await answer.read() == tarball()
        assert (await registry.get("/health")).json["status"] == "healthy"


@pytest.mark.parametrize(
    "name", [name for name, service in SERVICES.items() if "test" in service.get("healthcheck", {})]
)
async def test_a_health_check_fails_while_nothing_answers(name, path, secrets):
    ports = dict.fromkeys(("8080", "8081", "9100", "5432", "7070", "6379", "9200", "5601", "9090"), NOBODY_LISTENS)
    status, _ = await run(words(SERVICES[name], "healthcheck", ports), {"PATH": path, "REDISCLI_AUTH": "x"})
    assert status != 0


async def test_the_health_checks_of_postgres_and_elasticsearch_pass_on_the_real_ones(postgres, elasticsearch, path):
    plain = services()
    sockets = make_url(postgres.url("postgres")).query["host"]
    for name, places in (
        ("postgres", {"127.0.0.1": sockets}),
        ("elasticsearch", {"127.0.0.1:9200": elasticsearch.url[7:]}),
    ):
        status, said = await run(words(plain[name], "healthcheck", places), {"PATH": path})
        assert status == 0, said


async def test_redis_refuses_clients_without_the_password(path, secrets, tmp_path):
    port, service = reserve(), SERVICES["redis"]
    environ = {"PATH": path, "REDISCLI_AUTH": secrets["REDIS_PASSWORD"]}
    async with running(words(service, "command", {"6379": port}), environ, tmp_path / "redis.log"):
        check = words(service, "healthcheck", {"6379": port})
        await until_healthy(check, environ)
        assert (await run(check, {"PATH": path}))[0] != 0


async def test_a_bucket_that_cannot_be_created_stops_the_start_with_a_reason(places, secrets):
    given = environment(SERVICES["make-bucket"], secrets) | places
    for wrong in ({"REGISTRY_S3_SECRET_KEY": "wrong"}, {"REGISTRY_S3_ENDPOINT": f"http://127.0.0.1:{reserve()}"}):
        status, said = await run(words(SERVICES["make-bucket"], "command"), given | wrong)
        assert status == 1
        assert said.startswith("The bucket can't be created: ")
        assert "Traceback" not in said


def test_the_image_lacks_the_packages_that_the_tests_hide_from_the_commands():
    setup = (ROOT / "setup.py").read_text()
    left_out = setup[setup.index("DEVSTACK = [") : setup.index("TEST = [")]
    assert {name.replace("-", "_") for name in re.findall(r'"([\w-]+)>=', left_out)} == set(LEFT_OUT)
    assert "synapse-registry[" not in (ROOT / "deploy" / "Dockerfile").read_text()


@pytest.mark.parametrize("command", ["--help", "--version", "config"])
async def test_commands_that_need_no_server_work_in_the_image(command):
    program = [sys.executable, "-c", PROGRAM.format(left_out=LEFT_OUT), command]
    status, said = await run(program, {"PATH": os.environ["PATH"]})
    assert status == 0
    assert "registry" in said.lower()


async def test_users_and_the_index_are_managed_in_the_image(places, secrets):
    given = environment(SERVICES["registry"], secrets) | places

    async def output_of(*words_: str, stdin: str = "") -> str:
        program = [sys.executable, "-c", PROGRAM.format(left_out=LEFT_OUT), *words_]
        status, said = await run(program, given | {"REGISTRY_ES_USER": ""}, stdin.encode())
        assert status == 0, said
        return said

    await output_of("migrate")
    created = await output_of("user", "create", "ada", "--admin", stdin="correct horse battery staple\n")
    assert "ada can sign in (admin)." in created
    assert "ada is now user." in await output_of("user", "role", "ada", "user")
    assert "ada cannot sign in." in await output_of("user", "deactivate", "ada")
    assert "The new index serves." in await output_of("reindex")
    assert "The former index serves again." in await output_of("reindex") + await output_of("reindex", "--rollback")


async def test_up_explains_that_the_image_has_no_servers(tmp_path):
    program = [sys.executable, "-c", PROGRAM.format(left_out=LEFT_OUT), "up"]
    status, said = await run(program, {"PATH": os.environ["PATH"], "REGISTRY_DATA_DIR": str(tmp_path)})
    assert status == 1
    assert "pip install" in said
    assert "Traceback" not in said


def test_serving_without_migrating_is_refused(places, secrets):
    given = environment(SERVICES["registry"], secrets) | places
    refused = subprocess.run(
        words(SERVICES["registry"], "command"), env=given, capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 1
    assert "synapse-registry migrate" in refused.stderr
