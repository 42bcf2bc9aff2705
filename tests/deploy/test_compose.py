"""The compose files: schema, references between services, secrets, published ports and privileges."""

import os
import re
import subprocess

import pytest

from registry.settings import Settings, variables
from tests.deploy.stack import FILES, ROOT, argv, environment, filled, raw, references, services
from tests.deploy.tools import program
from tests.servers import cache_folder

EVERYTHING = services(*FILES)
# Their images write to their own folders.
WRITING = {"elasticsearch", "kibana"}
# These images set a user themselves.
WITH_A_USER_IN_THE_IMAGE = re.compile(r"synapse-registry:|docker\.elastic\.co/")


def each_service():
    return [pytest.param(name, service, id=name) for name, service in EVERYTHING.items()]


@pytest.mark.parametrize("file", FILES)
def test_the_file_is_valid_by_the_compose_schema(file):
    checker = program("check-jsonschema", cache_folder(os.environ))
    command = [checker, "--builtin-schema", "vendor.compose-spec", ROOT / file]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_referenced_services_volumes_and_networks_exist_and_are_used():
    top = raw(FILES[0])
    volumes, networks = set(), set()
    for service in EVERYTHING.values():
        assert set(service.get("depends_on", {})) <= set(EVERYTHING)
        networks |= set(service.get("networks", ()))
        sources = {volume.split(":")[0] for volume in service.get("volumes", ())}
        volumes |= {source for source in sources if re.fullmatch(r"[a-z-]+", source)}
    assert volumes == set(top["volumes"])
    assert networks == set(top["networks"])


def test_no_dependency_cycle_exists():
    waiting = {name: set(service.get("depends_on", ())) for name, service in EVERYTHING.items()}
    while waiting:
        free = {name for name, others in waiting.items() if not others}
        assert free, f"a cycle among {sorted(waiting)}"
        waiting = {name: others - free for name, others in waiting.items() if name not in free}


def test_dependencies_have_a_health_check_or_end():
    for service in EVERYTHING.values():
        for other, rule in service.get("depends_on", {}).items():
            awaited = EVERYTHING[other]
            if rule["condition"] == "service_healthy":
                assert "test" in awaited["healthcheck"], other
            if rule["condition"] == "service_completed_successfully":
                assert awaited["restart"] == "no", other


@pytest.mark.parametrize("file", FILES)
def test_files_that_are_mounted_exist(file):
    mounted = [volume for service in services(file).values() for volume in service.get("volumes", ())]
    paths = [volume.split(":")[0] for volume in mounted if volume.startswith("./")]
    assert all((ROOT / path).exists() for path in paths), paths


def test_the_registrys_variables_are_settings_and_settings_can_be_read_from_them(secrets):
    known = {item.metadata["name"] for _, item in variables()} | {"REGISTRY_ENV"}
    for name in ("registry", "worker", "migrate", "make-bucket"):
        given = environment(services(*FILES[:2])[name], secrets)
        assert set(given) <= known
        settings = Settings.read(given)
        assert settings.env == "production"
        assert settings.database.password == secrets["POSTGRES_PASSWORD"]
        assert settings.storage.s3_secret_key == secrets["S3_SECRET_KEY"]
        subnet = raw(FILES[0])["networks"]["front"]["ipam"]["config"][0]["subnet"]
        assert settings.web.trusted_proxies == (filled(subnet, {}),)


# The compose files set these: addresses of servers, ports and folders.
DECIDED = {
    *("ES_HOME", "ES_JAVA_HOME", "JAVA_HOME"),
    *(f"REGISTRY_DB_{name}" for name in ("PASSWORD", "SSLMODE", "SSLROOTCERT", "URL")),
    *(f"REGISTRY_ES_{name}" for name in ("API_KEY", "CA", "PASSWORD", "PREFIX", "URL", "USER")),
    *(
        f"REGISTRY_S3_{name}"
        for name in ("ACCESS_KEY", "BUCKET", "CA", "ENDPOINT", "PREFIX", "PUBLIC_ENDPOINT", "REDIRECT")
    ),
    *(
        "REGISTRY_S3_REGION",
        "REGISTRY_S3_SECRET_KEY",
        "REGISTRY_STORAGE_TYPE",
        "REGISTRY_STORAGE_PATH",
        "REGISTRY_ACCEL_LOCATION",
    ),
    *("REGISTRY_HOST", "REGISTRY_PORT", "REGISTRY_METRICS_PORT", "REGISTRY_TRUSTED_PROXIES", "REGISTRY_REDIS_URL"),
    *(
        "REGISTRY_SPOOL_PATH",
        "REGISTRY_SHUTDOWN_GRACE",
        "REGISTRY_DEBUG",
        "REGISTRY_CACHE_DIR",
        "REGISTRY_DATA_DIR",
    ),
    # The image has no model.
    *("REGISTRY_SEARCH_MODEL", "REGISTRY_SEARCH_MODEL_SHA256"),
}


def test_settings_in_the_env_file_reach_the_registry_unless_the_stack_sets_them(secrets):
    names = {item.metadata["name"] for _, item in variables()}
    for service in ("registry", "worker"):
        given = environment(services()[service], {**secrets, **dict.fromkeys(names, "given")})
        assert {name for name in names if given.get(name) != "given"} == DECIDED


def test_only_the_registry_and_the_worker_of_the_secured_stack_sign_in_to_elasticsearch(secrets):
    secured = services(*FILES[:2])
    for name in ("registry", "worker"):
        settings = Settings.read(environment(secured[name], secrets))
        assert (settings.search.user, settings.search.password) == ("registry", secrets["REGISTRY_ES_PASSWORD"])
        assert not Settings.read(environment(services()[name], secrets)).search.user


@pytest.mark.parametrize("file", FILES)
def test_a_missing_secret_stops_the_start_with_advice(file, secrets):
    found = references((ROOT / file).read_text())
    for name, (rule, text) in found.items():
        assert rule, f"{name} has neither a default nor an error text"
        if name in secrets and name != "REGISTRY_LOG_KEY":  # without it, the log of changes is not signed
            assert (rule, text) == (":?", "run deploy/make-env first")
    with pytest.raises(KeyError):
        filled((ROOT / file).read_text(), {})


def test_the_files_contain_no_secret(secrets):
    for file in FILES:
        for line in (ROOT / file).read_text().splitlines():
            if re.search(r"(PASSWORD|SECRET|KEY)\w*:\s", line):
                assert re.search(r"(PASSWORD|SECRET|KEY)\w*: \$\{", line), line


def test_only_nginx_with_tls_is_published_to_other_machines(secrets):
    for name, service in services().items():
        for port in service.get("ports", ()):
            assert filled(port, secrets).startswith("127.0.0.1:"), name
    published = services(*FILES)
    ports = [(name, filled(port, secrets)) for name, service in published.items() for port in service.get("ports", ())]
    beyond = {name for name, port in ports if not port.startswith("127.0.0.1:")}
    assert beyond == {"nginx"}


@pytest.mark.parametrize(("name", "service"), each_service())
def test_containers_have_no_unneeded_privileges(name, service):
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["CHOWN"] if name == "own-objects" else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("read_only", False) != (name in WRITING)
    assert not {"privileged", "pid", "ipc", "devices"} & set(service)
    assert not any("docker.sock" in volume for volume in service.get("volumes", ()))
    if not WITH_A_USER_IN_THE_IMAGE.match(service["image"]):
        user, group = service["user"].split(":")
        assert user.isdigit()
        assert group.isdigit()
        assert (user == "0") == (name == "own-objects")


@pytest.mark.parametrize(("name", "service"), each_service())
def test_containers_have_limits_health_checks_and_pinned_images(name, service):
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory"} <= set(limits)
    assert re.search(r":v?[0-9]+\.?[0-9.]*[a-z-]*$", filled(service["image"], {}))
    if service["restart"] == "no":
        assert service.get("healthcheck", {"disable": True}) == {"disable": True}
    else:
        assert argv(service, "healthcheck")
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}


def test_the_servers_are_on_an_internal_network():
    assert raw(FILES[0])["networks"]["back"] == {"internal": True}
    for name in ("postgres", "elasticsearch", "s3", "redis"):
        assert list(EVERYTHING[name]["networks"]) == ["back"]


def test_kibana_and_elasticsearch_have_the_same_version():
    versions = {EVERYTHING[name]["image"].rpartition(":")[2] for name in ("elasticsearch", "kibana")}
    assert len(versions) == 1
    client = re.search(r"elasticsearch\[async\]>=(\d+)", (ROOT / "setup.py").read_text())
    assert client is not None
    assert versions.pop().startswith(f"{client[1]}.")


def test_postgres_keeps_its_data_where_version_18_puts_it():
    assert EVERYTHING["postgres"]["image"].startswith("postgres:18")
    assert "postgres:/var/lib/postgresql" in EVERYTHING["postgres"]["volumes"]


def test_the_build_context_is_an_allow_list():
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_one_service_builds_the_image_and_running_a_command_never_builds():
    """`pull_policy: build` made every `docker compose run registry` build and retag the image in production."""
    assert [name for name, service in EVERYTHING.items() if "build" in service] == ["registry"]
    ours = {name for name, service in EVERYTHING.items() if service["image"].startswith("synapse-registry:")}
    assert {EVERYTHING[name]["pull_policy"] for name in ours} == {"never"}


@pytest.mark.parametrize("name", ["registry", "worker"])
def test_services_that_require_a_writable_spool_folder_mount_it(name):
    assert "spool:/var/lib/registry/spool" in EVERYTHING[name]["volumes"]


def test_the_number_of_registry_containers_is_set_in_the_env_file():
    replicas = EVERYTHING["registry"]["deploy"]["replicas"]
    assert [filled(replicas, given) for given in ({}, {"SYNAPSE_REPLICAS": "3"})] == ["1", "3"]


def test_no_port_is_published_over_ipv6():
    """The networks have no IPv6, so Docker would forward IPv6 clients with the gateway's address."""
    for name, service in EVERYTHING.items():
        for port in service.get("ports", ()):
            assert re.match(r"\d+\.\d+\.\d+\.\d+:", filled(port, {})), name


@pytest.mark.parametrize("file", [".env", "backups/2026-11-28/registry.dump", "registry.dump", "objects.tar.gz"])
def test_git_ignores_secrets_and_backups(file):
    assert subprocess.run(["git", "check-ignore", "-q", file], cwd=ROOT, timeout=30).returncode == 0
