"""compose.security.yml on a real Elasticsearch with security on: accounts can do what they need and nothing else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from elasticsearch import ApiError, AsyncElasticsearch

from registry.devstack.distribution import elasticsearch_home
from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.processes import OsUser, hand_over
from tests.client import tarball
from tests.deploy.stack import FILES, ROOT, argv, environment, services
from tests.servers import cache_folder

SECURED = services(*FILES[:2])


class SecuredElasticsearch(Elasticsearch):
    """A node with the overlay's settings. Like its image, it has a password for `elastic` from the start."""

    def __init__(self, *places: Path, password: str) -> None:
        super().__init__(*places, brief=True, environ=os.environ)
        self._password = password

    def _settings(self) -> dict[str, object]:
        given = SECURED["elasticsearch"]["environment"]
        return super()._settings() | {name: value for name, value in given.items() if name.startswith("xpack.")}

    def _prepare(self, user: OsUser | None) -> None:
        super()._prepare(user)
        properties = {
            "cli.name": "keystore",
            "cli.script": "elasticsearch-keystore",
            "cli.libs": "lib/tools/keystore-cli",
            "es.path.home": self._home,
            "es.path.conf": self._data_dir / "config",
            "es.distribution.type": "tar",
        }
        options = [f"-D{name}={value}" for name, value in properties.items()]
        classes = f"{self._home}/lib/*:{self._home}/lib/cli-launcher/*"
        words = ["org.elasticsearch.launcher.CliToolLauncher", "add", "-x", "bootstrap.password"]
        command = [self._java, *options, "-cp", classes, *words]
        subprocess.run(command, input=f"y\n{self._password}\n", text=True, cwd=self._home, check=True, timeout=120)
        hand_over(self._data_dir / "config", user)

    def _is_ready(self) -> bool:
        """Sends the request of the container's health check."""
        if not self._port:
            self._port = self._announced_port()
        return bool(self._port) and self.healthy(self._password)

    def healthy(self, password: str) -> bool:
        shell = [word.replace("127.0.0.1:9200", f"127.0.0.1:{self._port}") for word in argv(CHECKED, "healthcheck")]
        environ = {"PATH": self._path, "ELASTIC_PASSWORD": password}
        return subprocess.run(shell, env=environ, capture_output=True, timeout=60).returncode == 0


CHECKED = SECURED["elasticsearch"]


@pytest.fixture(scope="module")
def secured(java_home, stack_folder, secrets) -> Iterator[SecuredElasticsearch]:
    home = Path(os.environ["ES_HOME"]) if os.environ.get("ES_HOME") else elasticsearch_home(cache_folder(os.environ))
    password = secrets["ELASTIC_PASSWORD"]
    with SecuredElasticsearch(home, java_home, stack_folder / "secured", password=password) as server:
        set_up(server, secrets)
        yield server


def set_up(server: Elasticsearch, secrets: dict[str, str]) -> None:
    """Runs the one-shot as the container does."""
    service = SECURED["elasticsearch-setup"]
    script = argv(service, "entrypoint")[1].replace("/oneshots", str(ROOT / "deploy" / "oneshots"))
    environ = {**environment(service, secrets), "ES_URL": server.url, "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, script], env=environ, check=True, timeout=120)


def client(server: Elasticsearch, user: str, password: str) -> AsyncElasticsearch:
    return AsyncElasticsearch(server.url, basic_auth=(user, password))


async def test_requests_without_a_password_are_refused(secured, secrets):
    async with AsyncElasticsearch(secured.url) as stranger:
        with pytest.raises(ApiError) as refused:
            await stranger.cluster.health()
    assert refused.value.status_code == 401
    assert not secured.healthy("wrong")


async def test_kibana_and_the_registry_sign_in_with_the_overlays_accounts(secured, secrets):
    kibana = environment(SECURED["kibana"], secrets)
    registry = environment(SECURED["registry"], secrets)
    for user, password in (
        (kibana["ELASTICSEARCH_USERNAME"], kibana["ELASTICSEARCH_PASSWORD"]),
        (registry["REGISTRY_ES_USER"], registry["REGISTRY_ES_PASSWORD"]),
    ):
        async with client(secured, user, password) as signed_in:
            assert (await signed_in.security.authenticate())["username"] == user


async def test_running_the_setup_again_changes_passwords(secured, secrets):
    set_up(secured, {**secrets, "REGISTRY_ES_PASSWORD": "another-password"})
    async with client(secured, "registry", "another-password") as changed:
        assert (await changed.security.authenticate())["username"] == "registry"
    set_up(secured, secrets)


async def test_the_registry_works_with_its_own_account(secured, secrets, make_registry):
    given = environment(SECURED["registry"], secrets)
    registry = await make_registry(
        REGISTRY_ES_URL=secured.url,
        REGISTRY_ES_PREFIX="",
        REGISTRY_ES_USER=given["REGISTRY_ES_USER"],
        REGISTRY_ES_PASSWORD=given["REGISTRY_ES_PASSWORD"],
    )
    ada = await registry.user()
    await ada.publish("demo", data=tarball())
    assert await registry.search("demo") == ["demo"]
    assert (await ada.call("DELETE", "/packages/demo/1.0.0")).status == 204
    assert await registry.search("demo") == []
    assert (await registry.get("/health")).json["status"] == "healthy"


async def test_the_registrys_account_can_only_use_its_own_indices(secured, secrets):
    async with client(secured, "registry", secrets["REGISTRY_ES_PASSWORD"]) as registry:
        await registry.indices.put_index_template(name="registry-downloads", index_patterns=["registry-downloads-*"])
        await registry.index(index="registry-downloads-2026.11", document={"a": 1}, refresh=True)
        assert (await registry.count(index="registry-downloads-*"))["count"] == 1
        for forbidden in (
            registry.index(index="payroll", document={"a": 1}),
            registry.search(index=".security"),
            registry.security.put_user(username="eve", password="secret-secret", roles=["superuser"]),
            registry.cluster.put_settings(persistent={"cluster.max_shards_per_node": 1}),
        ):
            with pytest.raises(ApiError) as refused:
                await forbidden
            assert refused.value.status_code == 403


def test_the_setup_reports_what_elasticsearch_refuses(secured, secrets):
    service = SECURED["elasticsearch-setup"]
    environ = {**environment(service, secrets), "ES_URL": secured.url, "REGISTRY_ES_PASSWORD": "short"}
    script = ROOT / "deploy" / "oneshots" / "secure_elasticsearch.py"
    run = subprocess.run([sys.executable, script], env=environ, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert "user/registry" in run.stderr
