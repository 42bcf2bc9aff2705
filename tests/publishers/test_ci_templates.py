"""The templates of deploy/ci: each publishes to the real service, and fits the checkers of its CI service."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.client import Registry, tarball
from tests.conftest import MakeRegistry
from tests.deploy.tools import program
from tests.publishers.issuer import AUDIENCE, Issuer, github, gitlab
from tests.publishers.jobs import CI, github_identity, github_job, registry_for_jobs, run
from tests.publishers.test_forgeries import TRUSTED
from tests.servers import cache_folder

PUBLISH = CI / "publish.sh"


async def publish(registry: Registry, file: Path, **variables: str) -> tuple[int, str]:
    """Runs publish.sh. Returns (exit code, output)."""
    return await run(f"sh {PUBLISH} {file}", file.parent, **{"SYNAPSE_REGISTRY_URL": registry.url, **variables})


def pack_in_folder(file: Path, source: Path, folder: str) -> None:
    """Packs the tarball again, with its files in `folder`."""
    (source / folder).mkdir(parents=True)
    subprocess.run(["tar", "-xzf", file, "-C", source / folder], check=True)
    subprocess.run(["tar", "-czf", file, "-C", source, folder.rstrip("/")], check=True)


@pytest.mark.parametrize("folder", ["", "./", "demo-1/"])
async def test_the_script_publishes_with_an_id_token(trusting: Registry, issuer: Issuer, tmp_path: Path, folder: str):
    ada = await trusting.user("ada")
    made = await ada.call("POST", "/auth/publishers", json={**TRUSTED, "package": "demo"})
    assert made.status == 201
    file = tmp_path / "demo.tar.gz"
    file.write_bytes(tarball({"name": "demo", "version": "1.0.0", "description": "A demo"}))
    if folder:
        pack_in_folder(file, tmp_path / "source", folder)
    code, output = await publish(trusting, file, SYNAPSE_ID_TOKEN=issuer.token(github()))
    assert (code, output) == (0, f"published demo 1.0.0: {trusting.url}/api/v1/packages/demo/1.0.0\n")
    assert (await trusting.get("/packages/demo/1.0.0")).json["provenance"]["repository"] == "org/repo"
    code, output = await publish(trusting, file, SYNAPSE_ID_TOKEN=issuer.token(github(environment="x")))
    assert code == 1
    assert "exchanging the ID token: status 401: The nearest trusted publisher" in output


async def test_the_script_requests_githubs_id_token(trusting: Registry, issuer: Issuer, tmp_path: Path):
    ada = await trusting.user("ada")
    assert (await ada.call("POST", "/auth/publishers", json={**TRUSTED, "package": "demo"})).status == 201
    file = tmp_path / "demo.tar.gz"
    file.write_bytes(tarball())
    async with github_identity(issuer, github()) as (variables, audiences):
        code, output = await publish(trusting, file, SYNAPSE_AUDIENCE=AUDIENCE, **variables)
    assert code == 0, output
    assert audiences == [AUDIENCE]


async def test_the_script_says_what_is_missing(trusting: Registry, tmp_path: Path):
    file = tmp_path / "demo.tar.gz"
    file.write_bytes(tarball())
    for wanted, variables in (
        ("there are no credentials", {}),
        ("set SYNAPSE_REGISTRY_URL", {"SYNAPSE_REGISTRY_URL": ""}),
        ("publishing demo 1.0.0: status 401", {"SYNAPSE_REGISTRY_TOKEN": "syn_wrong"}),
    ):
        code, output = await publish(trusting, file, **variables)
        assert (code, wanted in output) == (1, True), output
    assert (await publish(trusting, tmp_path / "nothing"))[0] == 1


def package(folder: Path, **fields: Any) -> Path:
    """Writes a package into a new folder."""
    folder.mkdir()
    folder.joinpath("synapse.json").write_text('{"name": "demo", "version": "1.0.0", "description": "A demo"}')
    return folder


async def test_the_template_of_github_publishes(make_registry: MakeRegistry, issuer: Issuer, tmp_path: Path):
    registry, url = await registry_for_jobs(make_registry, issuer)
    ada = await registry.user("ada")
    assert (await ada.call("POST", "/auth/publishers", json={**TRUSTED, "package": "demo"})).status == 201
    output = await github_job(
        (CI / "github.yml").read_text(), url, issuer, package(tmp_path / "demo"), github(environment="production")
    )
    assert "Published demo 1.0.0" in output
    assert (await registry.get("/packages/demo/1.0.0")).json["provenance"]["workflow"] == "release.yml"


async def test_the_template_of_gitlab_publishes(make_registry: MakeRegistry, issuer: Issuer, tmp_path: Path):
    registry, url = await registry_for_jobs(make_registry, issuer, "gitlab")
    ada = await registry.user("ada")
    trusted = {"kind": "gitlab", "project": "group/project", "environment": "production", "package": "demo"}
    assert (await ada.call("POST", "/auth/publishers", json=trusted)).status == 201
    job = yaml.safe_load((CI / "gitlab.yml").read_text().replace("https://registry.example", url))["publish"]
    [(variable, wanted)] = job["id_tokens"].items()
    token = issuer.token(gitlab(aud=wanted["aud"], environment=job["environment"]))
    assert job["before_script"] == ['pip install "$SYNAPSE_CLIENT"']
    folder = package(tmp_path / "demo")
    code, output = await run("\n".join(job["script"]), folder, **job["variables"], **{variable: token})
    assert code == 0, output
    assert (await registry.get("/packages/demo/1.0.0")).json["provenance"]["repository"] == "group/project"


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("github.yml", ("check-jsonschema", "--builtin-schema", "vendor.github-workflows")),
        ("github.yml", ("actionlint", "-no-color")),
        ("gitlab.yml", ("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci")),
    ],
)
def test_templates_have_no_mistakes(file: str, arguments: tuple[str, ...], tmp_path: Path):
    checker = program(arguments[0], cache_folder(os.environ))

    def check(text: str) -> subprocess.CompletedProcess[str]:
        copy = tmp_path / file
        copy.write_text(text)
        return subprocess.run([checker, *arguments[1:], copy], capture_output=True, text=True, check=False)

    text = (CI / file).read_text()
    checked = check(text)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    wrong = text.replace("runs-on", "run-on").replace("script:", "scripts:")
    assert check(wrong).returncode == 1
