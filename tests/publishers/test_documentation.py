"""Runs every command of docs/trusted-publishing.md against the real service, with a local issuer and repository."""

import json
import re
from pathlib import Path
from textwrap import dedent

from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.publishers.issuer import Issuer, github
from tests.publishers.jobs import github_job, registry_for_jobs, run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "trusted-publishing.md"
# The commands of the page after those of the first release.
LATER = ("nightly.yml", "group/project", "publish.sh", "auth/oidc/token")
CLAIMS = github(repository="org/hello-ci", workflow_ref="org/hello-ci/.github/workflows/release.yml@refs/tags/v1.0.0")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [dedent(text) for _, text in found]


async def test_every_command_of_the_page_works(make_registry: MakeRegistry, issuer: Issuer, tmp_path: Path):
    registry, url = await registry_for_jobs(make_registry, issuer, more_issuers=",https://ci.example")
    remote = tmp_path / "remote.git"
    *steps, seen = blocks("sh")[:6]
    assert "jq .provenance" in seen

    async def execute(*commands: str, folder: Path, **variables: str) -> str:
        script = "\n".join(commands).replace("https://registry.example", url)
        script = script.replace("git@github.com:org/hello-ci.git", str(remote))
        code, output = await run(script, folder, SOURCE=str(ROOT), SYNAPSE_REGISTRY_URL=url, **variables)
        assert code == 0, output
        return output

    await execute(f"git init --quiet --bare {remote}", folder=tmp_path)
    await execute(*steps, "declare -p api login > ../variables", folder=tmp_path)
    folder = tmp_path / "checkout"
    await execute(f"git clone --quiet --branch v1.0.0 {remote} {folder}", folder=tmp_path)
    workflow = (folder / ".github/workflows/release.yml").read_text()
    assert "Published hello-ci 1.0.0" in await github_job(workflow, url, issuer, folder, CLAIMS)
    output = await execute(". ../variables", seen, folder=folder)
    assert '"repository": "org/hello-ci"' in output

    later = blocks("sh")[6:]
    assert [any(word in block for block in later) for word in LATER] == [True] * len(later)
    await execute("sed -i s/1.0.0/1.1.0/ synapse.json", "git commit --quiet --all --message 1.1.0", folder=folder)
    for block in later:
        await execute(". ../variables", block, folder=folder, SYNAPSE_ID_TOKEN=issuer.token({**CLAIMS, "aud": url}))
    assert (await registry.get("/packages/hello-ci")).json["latest_version"] == "1.1.0"
    await check_other_issuer(registry)


async def check_other_issuer(registry: Registry) -> None:
    """The page's publisher of another issuer can be added."""
    [body] = blocks("json")
    sign_in = {"username": "ada", "password": "correct horse battery staple"}
    login = (await registry.call("POST", "/auth/login", json=sign_in)).json["token"]
    headers = {"Authorization": f"Bearer {login}"}
    answer = await registry.call("POST", "/packages/hello-ci/publishers", json=json.loads(body), headers=headers)
    assert answer.status == 201, answer.body
