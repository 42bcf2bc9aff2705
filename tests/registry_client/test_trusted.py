"""CI jobs publish with the client, without a token: the real registry and a real issuer of identity tokens."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from ephemeral_port_reserve import reserve

from registry.client.failures import FAILED, NOT_ALLOWED
from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.publishers.issuer import Issuer, github, gitlab, running_issuer
from tests.registry_client.commands import Ran, User
from tests.registry_client.conftest import MakeStandIn, MakeUser
from tests.registry_client.stand_in import Answer, Received, StandIn

GITHUB = {"kind": "github", "repository": "org/repo", "workflow": "release.yml", "environment": "production"}
GITLAB = {"kind": "gitlab", "project": "group/project"}


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[Issuer]:
    async with running_issuer(tmp_path) as running:
        yield running


@dataclass
class Site:
    """A registry whose public address is the one that the client uses, and the job that publishes to it."""

    registry: Registry
    job: User

    async def publish(self, *options: str, **environ: str) -> Ran:
        self.job.write_package()
        return await self.job.run("publish", "demo", *options, **environ)

    async def add_publisher(self, publisher: dict[str, Any]) -> None:
        ada = await self.registry.user("ada")
        made = await ada.call("POST", "/auth/publishers", json={**publisher, "package": "demo"})
        assert made.status == 201, made.body

    @property
    async def provenance(self) -> Any:
        return (await self.registry.get("/packages/demo/1.0.0")).json["provenance"]


async def start(
    make_registry: MakeRegistry, make_user: MakeUser, issuer: Issuer, kind: str, host: str = "127.0.0.1", **more: str
) -> Site:
    """`host` is that of the registry's public address."""
    port = reserve()
    url = f"http://127.0.0.1:{port}"
    registry = await make_registry(
        REGISTRY_PORT=str(port), REGISTRY_PUBLIC_URL=f"http://{host}:{port}", REGISTRY_OIDC_CA=issuer.ca,
        REGISTRY_OIDC_ISSUERS=f"{kind}={issuer.url}", **more,
    )  # fmt: skip
    registry.url = url
    return Site(registry, make_user(url))


def github_service(stand_in: MakeStandIn, issuer: Issuer, **claims: Any) -> tuple[StandIn, dict[str, str]]:
    """The service that gives identity tokens to jobs, and the variables of a job that may use it."""

    def answer(request: Received) -> Answer:
        if request.headers.get("Authorization") != "Bearer request-token":
            return Answer(403, b"<html>Forbidden</html>")
        return Answer(body={"value": issuer.token(github(aud=parse_qs(request.query)["audience"][0], **claims))})

    service = stand_in(answer)
    address = f"{service.url}/token?api-version=2"
    return service, {"ACTIONS_ID_TOKEN_REQUEST_URL": address, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-token"}


async def test_a_github_job_publishes_without_a_token(
    make_registry: MakeRegistry, make_user: MakeUser, stand_in: MakeStandIn, issuer: Issuer
):
    site = await start(make_registry, make_user, issuer, "github")
    await site.add_publisher(GITHUB)
    service, job = github_service(stand_in, issuer)
    ran = await site.publish("--wait", "--json", **job)
    assert (ran.status, ran.json["found"]) == (0, True), ran
    [request] = service.received
    assert parse_qs(request.query) == {"api-version": ["2"], "audience": [site.registry.url]}
    assert (await site.provenance)["repository"] == "org/repo"
    shown = (await site.job.done("info", "demo@1.0.0")).out
    assert "published by:" in shown
    assert "github: org/repo, release.yml" in " ".join(shown.split())
    assert "syn_" not in ran.out + ran.err


async def test_a_github_job_publishes_to_a_registry_on_its_own_computer(
    make_registry: MakeRegistry, make_user: MakeUser, stand_in: MakeStandIn, issuer: Issuer
):
    site = await start(make_registry, make_user, issuer, "github", host="localhost")
    await site.add_publisher(GITHUB)
    service, job = github_service(stand_in, issuer)
    # An audience that the user has set is the only one that is tried.
    refused = await site.publish("--json", **job, SYNAPSE_AUDIENCE=site.registry.url)
    assert (refused.status, refused.json["reason"], len(service.received)) == (NOT_ALLOWED, "audience", 1)
    assert (await site.publish(**job)).status == 0
    audiences = [parse_qs(request.query)["audience"] for request in service.received[1:]]
    assert audiences == [[site.registry.url], [site.registry.url.replace("127.0.0.1", "localhost")]]


async def test_a_gitlab_job_publishes_to_a_private_registry(
    make_registry: MakeRegistry, make_user: MakeUser, issuer: Issuer
):
    site = await start(make_registry, make_user, issuer, "gitlab", REGISTRY_ACCESS="private")
    await site.add_publisher(GITLAB)
    token = issuer.token(gitlab(aud=site.registry.url))
    ran = await site.publish("--wait", SYNAPSE_ID_TOKEN=token)
    # The token of a job may publish and nothing else, and in a private registry waiting is reading.
    assert ran.status == NOT_ALLOWED
    assert "error: demo 1.0.0 is published. --wait is refused: " in ran.err
    ada = await site.registry.user("ada")
    about = (await ada.call("GET", "/packages/demo/1.0.0")).json
    assert about["provenance"]["kind"] == "gitlab"
    # An identity token counts once.
    again = await site.publish("--json", SYNAPSE_ID_TOKEN=token)
    assert (again.status, again.json["reason"]) == (NOT_ALLOWED, "replayed")


async def test_a_refused_job_learns_what_differs(
    make_registry: MakeRegistry, make_user: MakeUser, stand_in: MakeStandIn, issuer: Issuer
):
    site = await start(make_registry, make_user, issuer, "github")
    ada = await site.registry.user("ada")
    await ada.publish("demo", "0.9.0")
    assert (await ada.call("POST", "/packages/demo/publishers", json=GITHUB)).status == 201
    _, job = github_service(stand_in, issuer, environment="Production")
    refused = await site.publish("--json", **job)
    assert (refused.status, refused.json["reason"], refused.json["differs"]) == (NOT_ALLOWED, "claims", ["environment"])
    said = (await site.publish(**job)).err
    assert said.count("differs in: environment") == said.count("Only upper and lower case differ") == 1
    assert "environment=Production" in said
    assert (await site.registry.get("/packages/demo/1.0.0")).status == 404


async def test_an_audience_may_be_set(
    make_registry: MakeRegistry, make_user: MakeUser, stand_in: MakeStandIn, issuer: Issuer
):
    site = await start(make_registry, make_user, issuer, "github", REGISTRY_OIDC_AUDIENCE="synapse")
    await site.add_publisher(GITHUB)
    _, job = github_service(stand_in, issuer)
    refused = await site.publish(**job)
    assert refused.status == NOT_ALLOWED
    assert "Request one for synapse" in refused.err
    assert "SYNAPSE_AUDIENCE" in refused.err
    assert (await site.publish(**job, SYNAPSE_AUDIENCE="synapse")).status == 0


async def test_a_job_without_permission_is_told_which(
    make_registry: MakeRegistry, make_user: MakeUser, stand_in: MakeStandIn, issuer: Issuer
):
    site = await start(make_registry, make_user, issuer, "github")
    _, job = github_service(stand_in, issuer)
    ran = await site.publish("--json", **job | {"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "not-this"})
    assert ran.status == FAILED
    assert "id-token: write" in ran.json["error"]
    assert "not-this" not in ran.out


async def test_a_token_of_the_user_comes_before_the_jobs_identity(registry: Registry, make_user: MakeUser):
    ada = await registry.user("ada")
    made = await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["publish"]})
    user = make_user(registry.url, SYNAPSE_ID_TOKEN="forged", SYNAPSE_REGISTRY_TOKEN=made.json["token"])
    user.write_package()
    await user.done("publish", "demo")
