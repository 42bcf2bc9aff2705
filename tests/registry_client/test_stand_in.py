"""What a real registry does not do: strange answers, wrong names, and answers of something else."""

import io
from pathlib import Path

import pytest

from registry.cli import main
from registry.client.api import Api
from registry.client.failures import FAILED, NOT_ALLOWED, TRY_LATER, WRONG_USAGE, TryLater
from registry.client.pack import Tarball
from registry.client.publish import wait_until_found
from registry.client.transport import Transport
from tests.registry_client.conftest import MakeStandIn, MakeUser
from tests.registry_client.stand_in import Answer, error

USER = {"id": 1, "username": "ada", "email": "", "role": "user", "created_at": "2026-01-01T00:00:00Z"}
COMMANDS = (
    "whoami", "search demo", "info demo", "info demo@1.0.0", "download demo", "publish demo", "yank demo@1.0.0",
    "deprecate demo --undo", "owners list demo", "owners invite demo grace", "owners role demo grace owner",
    "owners transfer demo grace", "owners invitations", "owners accept 1", "token create ci --scope read", "token list",
    "login --username ada --password-stdin",
)  # fmt: skip


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "größe"])
async def test_a_token_that_is_none_is_explained(token: str, make_user: MakeUser):
    ran = await make_user("http://127.0.0.1:9", SYNAPSE_REGISTRY_TOKEN=token).run("whoami")
    assert (ran.status, token in ran.err) == (WRONG_USAGE, False)


def test_waiting_for_search_ends(stand_in: MakeStandIn):
    """The index stays behind."""
    answers = [
        error(504, "not_reached", "demo 1.0.0 was not indexed within 20 seconds."),
        Answer(body={"state": "indexed"}),
    ]
    server = stand_in(lambda _: answers[0])
    tarball = Tarball(Path("demo.tgz"), "demo", "1.0.0", "", 0, [])
    api = Api(Transport("test", sleep=lambda _: None), server.url, "")
    with pytest.raises(TryLater, match="is published, but search does not find it"):
        wait_until_found(api, tarball, seconds=0)
    [request] = server.received
    assert (request.path, "timeout=20" in request.query) == ("/api/v1/packages/demo/1.0.0/wait", True)
    del answers[0]
    wait_until_found(api, tarball, seconds=0)


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


@pytest.mark.parametrize(
    "body", [b"", {}, [], {"versions": []}, b"[" * 100_000, b"<!DOCTYPE html><title>Welcome</title>"]
)
def test_an_answer_of_something_else_is_explained(
    body: object,
    stand_in: MakeStandIn,
    make_user: MakeUser,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    user = make_user(stand_in(lambda _: Answer(body=body)).url, SYNAPSE_REGISTRY_TOKEN="syn_x")
    user.write_package()
    monkeypatch.chdir(user.folder)
    for name, value in user.environ.items():
        monkeypatch.setenv(name, value)
    for command in COMMANDS:
        monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
        assert main(command.split()) == FAILED, command
        assert "Is this the address of a registry" in capsys.readouterr().err, command


@pytest.mark.parametrize(("status", "wanted"), [(404, FAILED), (403, NOT_ALLOWED), (500, FAILED), (414, FAILED)])
async def test_a_website_is_no_registry(status: int, wanted: int, stand_in: MakeStandIn, make_user: MakeUser):
    user = make_user(stand_in(lambda _: Answer(status, b"<html>Not found</html>")).url)
    ran = await user.run("info", "demo")
    assert (ran.status, ran.out) == (wanted, "")
    assert f"status {status} and is not from a registry" in ran.err
    assert "Check --url" in ran.err


async def test_a_proxy_that_has_no_registry_now_is_asked_again(stand_in: MakeStandIn, make_user: MakeUser):
    page = Answer(503, b"<html>Unavailable</html>", {"Retry-After": "3600"})
    ran = await make_user(stand_in(lambda _: page).url).run("info", "demo", "--json")
    assert (ran.status, ran.json["status"]) == (TRY_LATER, 503)


async def test_problems_without_a_form_are_left_out(stand_in: MakeStandIn, make_user: MakeUser):
    refused = error(
        400, "invalid_input", "It is wrong.", errors=[1, {"field": 5}, {"field": "name", "message": "is bad"}]
    )
    ran = await make_user(stand_in(lambda _: refused).url).run("info", "demo")
    assert (ran.status, ran.err) == (FAILED, "error: name: is bad\n")
