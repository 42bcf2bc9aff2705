"""The client's commands for routes that only a later registry has: second factors, trusted publishing, owners."""

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from registry.client.api import Api
from registry.client.failures import FAILED, NOT_ALLOWED, WRONG_USAGE, TryLater
from registry.client.pack import Tarball
from registry.client.publish import wait_until_found
from registry.client.transport import Transport
from tests.registry_client.commands import Ran, User
from tests.registry_client.conftest import MakeStandIn, MakeUser
from tests.registry_client.stand_in import Answer, Received, error

API = "/api/v1"
USER = {"id": 1, "username": "ada", "email": "", "role": "user", "created_at": "2026-01-01T00:00:00Z"}
SIGNED_IN = Answer(body={"success": True, "token": "jwt", "expires_at": "2030-01-01T00:00:00Z", "user": USER})
LOGIN = ("login", "--username", "ada", "--password-stdin")


def second_factor(methods: list[str], code: str = "123456"):
    """A registry whose only account has a second factor."""

    def answer(request: Received) -> Answer:
        if "password" in request.json:
            return error(401, "second_factor_required", "Send a code.", challenge="abc", methods=methods)
        if request.json == {"challenge": "abc", "code": code}:
            return SIGNED_IN
        return error(401, "wrong_code", "The code is wrong. Is the clock of your device right?")

    return answer


async def test_a_code_is_the_second_factor_of_a_script(stand_in: MakeStandIn, make_user: MakeUser):
    server = stand_in(second_factor(["totp", "recovery_code"]))
    user = make_user(server.url)
    without = await user.run(*LOGIN, "--json", stdin="secret")
    assert (without.status, without.json["code"]) == (NOT_ALLOWED, "second_factor_required")
    wrong = await user.run(*LOGIN, "--code", "000000", stdin="secret")
    assert wrong.status == NOT_ALLOWED
    assert "clock" in wrong.err
    assert user.logins == []
    await user.done(*LOGIN, "--code", "123456", stdin="secret")
    assert len(user.logins) == 1
    assert [request.json for request in server.received[-2:]] == [
        {"username": "ada", "password": "secret"},
        {"challenge": "abc", "code": "123456"},
    ]


async def test_an_expired_login_is_not_sent(stand_in: MakeStandIn, make_user: MakeUser):
    expires_at = ["2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"]

    def answer(request: Received) -> Answer:
        if request.method == "GET":
            return Answer(body={"results": [], "total": 0})
        return Answer(body={"token": "jwt", "expires_at": expires_at.pop(0), "user": USER})

    server = stand_in(answer)
    user = make_user(server.url)
    for is_sent in (False, True):
        await user.done(*LOGIN, stdin="secret")
        await user.done("search", "demo")
        assert ("Authorization" in server.received[-1].headers) is is_sent
        assert ((await user.run("token", "list")).status == NOT_ALLOWED) is not is_sent


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "größe"])
async def test_a_token_that_is_none_is_explained(token: str, make_user: MakeUser):
    ran = await make_user("http://127.0.0.1:9", SYNAPSE_REGISTRY_TOKEN=token).run("whoami")
    assert (ran.status, token in ran.err) == (WRONG_USAGE, False)


async def test_a_passkey_alone_can_not_be_used_here(stand_in: MakeStandIn, make_user: MakeUser):
    user = make_user(stand_in(second_factor(["passkey"])).url)
    refused = await user.run(*LOGIN, "--code", "123456", stdin="secret")
    assert refused.status == NOT_ALLOWED
    assert "API token" in refused.err


def identity(audience: str) -> str:
    """The stand-in for a signed identity token."""
    payload = base64.urlsafe_b64encode(json.dumps({"aud": audience}).encode()).decode()
    return f"header.{payload}.signature"


class Pipeline:
    """A registry with trusted publishing and a CI service, both as stand-ins; uploads reach the stand-in."""

    def __init__(self, stand_in: MakeStandIn, jwt: str = "") -> None:
        self.registry = stand_in(self._registry)
        self.service = stand_in(self._service)
        self.jwt = jwt

    def _registry(self, request: Received) -> Answer:
        if request.path == f"{API}/auth/oidc/token":
            if request.json == {"token": self.jwt or identity(self.registry.url), "package": "demo"}:
                return Answer(body={"token": "syn_short", "expires_at": "2030-01-01T00:00:00Z"})
            return error(
                401, "oidc_refused", "The identity token is refused.", reason="claims",
                claims={"repository": "org/fork"}, differs=["repository"], hint="case",
            )  # fmt: skip
        if request.headers.get("Authorization") != "Bearer syn_short":
            return error(401, "unauthorized", "Credentials are needed.")
        return Answer(201, {"success": True, "seq": 1, "warnings": []})

    def _service(self, request: Received) -> Answer:
        if request.headers.get("Authorization") != "Bearer request-token":
            return Answer(403)
        return Answer(body={"value": identity(parse_qs(request.query)["audience"][0])})

    @property
    def uploads(self) -> list[Received]:
        return [request for request in self.registry.received if request.method == "PUT"]


def test_waiting_for_search_ends(stand_in: MakeStandIn):
    """The version that search finds is not the latest one yet."""
    found = {"name": "demo", "version": "0.9.0"}
    answers = {"/search": {"results": [found]}, "/packages/demo": {"latest_version": "1.0.0"}}
    server = stand_in(lambda request: Answer(body=answers[request.path.removeprefix(API)]))
    tarball = Tarball(Path("demo.tgz"), "demo", "1.0.0", "", 0, [])
    api = Api(Transport("test"), server.url, "")
    with pytest.raises(TryLater, match="is published, but search does not find it"):
        wait_until_found(api, tarball, 7, seconds=0)
    assert "min_seq=7" in server.received[0].query
    found["version"] = "1.0.0"
    wait_until_found(api, tarball, 7, seconds=0)


async def publish(user: User, **environ: str) -> Ran:
    user.write_package()
    return await user.run("publish", "demo", "--json", **environ)


async def test_a_github_job_publishes_without_a_token(stand_in: MakeStandIn, make_user: MakeUser):
    pipeline = Pipeline(stand_in)
    ran = await publish(
        make_user(pipeline.registry.url),
        ACTIONS_ID_TOKEN_REQUEST_URL=f"{pipeline.service.url}/token?api-version=2",
        ACTIONS_ID_TOKEN_REQUEST_TOKEN="request-token",
    )
    assert ran.status == 0, ran
    [request] = pipeline.service.received
    assert parse_qs(request.query) == {"api-version": ["2"], "audience": [pipeline.registry.url]}
    assert [upload.query for upload in pipeline.uploads] == ["dry_run=true", ""]
    assert "syn_short" not in ran.out + ran.err


async def test_a_gitlab_job_publishes_without_a_token(stand_in: MakeStandIn, make_user: MakeUser):
    pipeline = Pipeline(stand_in, jwt="gitlab.job.token")
    ran = await publish(make_user(pipeline.registry.url), SYNAPSE_ID_TOKEN="gitlab.job.token")
    assert ran.status == 0, ran
    assert len(pipeline.uploads) == 2


async def test_a_refused_job_learns_what_differs(stand_in: MakeStandIn, make_user: MakeUser):
    pipeline = Pipeline(stand_in)
    user = make_user(pipeline.registry.url, SYNAPSE_ID_TOKEN="forged")
    ran = await publish(user)
    assert (ran.status, ran.json["reason"], ran.json["differs"]) == (NOT_ALLOWED, "claims", ["repository"])
    plain = await user.run("publish", "demo")
    assert "differs in: repository" in plain.err
    assert "repository=org/fork" in plain.err
    assert "upper and lower case" in plain.err
    assert pipeline.uploads == []


async def test_a_job_without_permission_is_told_which(stand_in: MakeStandIn, make_user: MakeUser):
    pipeline = Pipeline(stand_in)
    ran = await publish(
        make_user(pipeline.registry.url),
        ACTIONS_ID_TOKEN_REQUEST_URL=f"{pipeline.service.url}/token",
        ACTIONS_ID_TOKEN_REQUEST_TOKEN="wrong",
    )
    assert ran.status == FAILED
    assert "id-token: write" in ran.json["error"]
    assert "wrong" not in ran.out


async def test_a_token_of_the_user_comes_before_the_jobs_identity(stand_in: MakeStandIn, make_user: MakeUser):
    pipeline = Pipeline(stand_in)
    user = make_user(pipeline.registry.url, SYNAPSE_ID_TOKEN="forged", SYNAPSE_REGISTRY_TOKEN="syn_short")
    assert (await publish(user)).status == 0


OWNERS: dict[tuple[str, str], Any] = {
    ("GET", "/packages/demo/owners"): {
        "owners": [{"username": "ada", "role": "owner", "since": "2026-01-01T00:00:00Z"}], "next_cursor": None,
    },
    ("POST", "/packages/demo/invitations"): {
        "id": 17, "username": "grace", "role": "maintainer", "expires_at": "2026-01-15T00:00:00Z",
    },
    ("POST", "/packages/demo/transfer"): {"id": 18, "username": "grace", "role": "owner", "expires_at": "x"},
    ("PATCH", "/packages/demo/owners/grace"): {"username": "grace", "role": "maintainer"},
    ("PUT", "/packages/demo/owners"): {"owners": []},
    ("DELETE", "/packages/demo/owners/grace"): None,
    ("DELETE", "/packages/demo/invitations/17"): None,
    ("POST", "/auth/invitations/17/accept"): None,
    ("POST", "/auth/invitations/17/decline"): None,
}  # fmt: skip


def owners(request: Received) -> Answer:
    if request.path == f"{API}/auth/invitations":
        second = {"id": 18, "package": "b", "role": "owner", "expires_at": "x"}
        first = {"id": 17, "package": "a", "role": "maintainer", "expires_at": "x"}
        is_second = "cursor=next" in request.query
        return Answer(
            body={"invitations": [second if is_second else first], "next_cursor": None if is_second else "next"}
        )
    body = OWNERS[request.method, request.path.removeprefix(API)]
    return Answer(204) if body is None else Answer(body=body)


@pytest.mark.parametrize(
    ("command", "sent", "said"),
    [
        ("list demo", ("GET", "/packages/demo/owners", None), "ada   owner"),
        (
            "invite demo grace --role maintainer",
            ("POST", "/packages/demo/invitations", {"username": "grace", "role": "maintainer"}),
            "Invitation 17 is valid until 2026-01-15",
        ),
        (
            "invite demo grace@example.com",
            ("POST", "/packages/demo/invitations", {"email": "grace@example.com", "role": "owner"}),
            "grace@example.com is invited",
        ),
        ("withdraw demo 17", ("DELETE", "/packages/demo/invitations/17", None), "withdrawn"),
        ("remove demo grace", ("DELETE", "/packages/demo/owners/grace", None), "no role"),
        ("role demo grace maintainer", ("PATCH", "/packages/demo/owners/grace", {"role": "maintainer"}), "maintainer"),
        ("transfer demo grace", ("POST", "/packages/demo/transfer", {"username": "grace"}), "only owner"),
        (
            "set demo grace ada:maintainer --reason why",
            (
                "PUT",
                "/packages/demo/owners",
                {
                    "owners": [{"username": "grace", "role": "owner"}, {"username": "ada", "role": "maintainer"}],
                    "reason": "why",
                },
            ),
            "grace (owner), ada (maintainer)",
        ),
        ("accept 17", ("POST", "/auth/invitations/17/accept", None), "accepted"),
        ("decline 17", ("POST", "/auth/invitations/17/decline", None), "declined"),
    ],
)
async def test_owners_are_managed(command: str, sent: Any, said: str, stand_in: MakeStandIn, make_user: MakeUser):
    server = stand_in(owners)
    ran = await make_user(server.url, SYNAPSE_REGISTRY_TOKEN="syn_x").done("owners", *command.split())
    [request] = server.received
    body = request.json if request.body else None
    assert (request.method, request.path.removeprefix(API), body) == sent
    assert request.headers["Authorization"] == "Bearer syn_x"
    assert said in ran.out


@pytest.mark.parametrize("wrong", [{"checksum": "../../x"}, {"name": "../x"}, {"version": "1/../../x"}])
async def test_a_registry_can_not_choose_another_place_for_a_file(
    wrong: dict[str, str], stand_in: MakeStandIn, make_user: MakeUser
):
    about = {"name": "demo", "version": "1.0.0", "checksum": "0" * 64, "tarball_size": 1, "yanked": False} | wrong
    server = stand_in(lambda _: Answer(body={**about, "yank_reason": "", "deprecated": ""}))
    user = make_user(server.url)
    refused = await user.run("download", "demo")
    assert refused.status == FAILED
    assert "refused" in refused.err
    assert [path for path in user.home.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("body", [b"", {}, [], {"versions": []}, b"[" * 100_000])
async def test_an_answer_of_something_else_is_explained(body: object, stand_in: MakeStandIn, make_user: MakeUser):
    user = make_user(stand_in(lambda _: Answer(body=body)).url)
    for command in (["info", "demo"], ["search", "demo"], ["download", "demo"]):
        ran = await user.run(*command)
        assert ran.status == FAILED
        assert "Is this the address of a registry" in ran.err


async def test_all_pages_of_invitations_are_read(stand_in: MakeStandIn, make_user: MakeUser):
    user = make_user(stand_in(owners).url, SYNAPSE_REGISTRY_TOKEN="syn_x")
    ran = await user.done("owners", "invitations", "--json")
    assert [each["id"] for each in ran.json["invitations"]] == [17, 18]


async def test_a_successor_goes_with_the_message(stand_in: MakeStandIn, make_user: MakeUser):
    server = stand_in(lambda _: Answer(body={"name": "demo"}))
    user = make_user(server.url, SYNAPSE_REGISTRY_TOKEN="syn_x")
    await user.done("deprecate", "demo", "--message", "Use other.", "--successor", "other")
    assert server.received[0].json == {"deprecated": True, "message": "Use other.", "successor": "other"}
    assert (await user.run("deprecate", "demo", "--undo", "--successor", "other")).status == WRONG_USAGE
