"""The client's commands against the real registry."""

import gzip
import io
import json
import random
import stat
import tarfile

import pytest

from registry.client.failures import FAILED, NOT_ALLOWED, NOT_FOUND, TRY_LATER, WRONG_USAGE
from tests.client import PASSWORD, Registry, sha256
from tests.conftest import MakeRegistry
from tests.registry_client.commands import User
from tests.registry_client.conftest import MakeUser
from tests.registry_client.cutting import CuttingProxy


@pytest.fixture
async def ada(registry: Registry, make_user: MakeUser) -> User:
    """A signed-in user of the client."""
    user = make_user(registry.url)
    await registry.user("ada")
    await user.sign_in("ada", PASSWORD)
    return user


async def test_from_nothing_to_a_downloaded_package(registry: Registry, make_user: MakeUser):
    user = make_user(registry.url)
    await registry.user("ada")
    said = await user.sign_in("ada", PASSWORD)
    assert said.out == f"Signed in to {registry.url} as ada. The token is in a file that only you can read.\n"
    assert [stat.S_IMODE(file.stat().st_mode) for file in user.logins] == [0o600]
    assert (await user.done("whoami")).out == f"ada at {registry.url}\n"

    user.write_package("demo", "1.0.0", README__md="# Demo\n")
    packed = await user.done("pack", "demo", "--json")
    file = user.folder / "demo-1.0.0.tar.gz"
    assert packed.json["file"] == file.name
    assert packed.json["checksum"] == sha256(file.read_bytes())
    published = await user.done("publish", "demo", "--wait")
    assert packed.json["checksum"] in published.out

    found = await user.done("search", "demo")
    assert found.out.splitlines()[1].split() == ["demo", "1.0.0", "About", "demo"]
    shown = await user.done("info", "demo@1.0.0")
    assert shown.out.startswith("demo 1.0.0\n")
    assert packed.json["checksum"] in shown.out
    await user.done("download", "demo", "--output", "copy.tar.gz")
    assert (user.folder / "copy.tar.gz").read_bytes() == file.read_bytes()

    await user.done("logout")
    assert user.logins == []
    assert (await user.run("whoami")).status == NOT_ALLOWED


async def test_the_token_ends_with_logout(registry: Registry, ada: User):
    token = json.loads(ada.logins[0].read_text())["token"]
    assert (await registry.get("/auth/me", headers={"Authorization": f"Bearer {token}"})).status == 200
    await ada.done("logout")
    assert (await registry.get("/auth/me", headers={"Authorization": f"Bearer {token}"})).status == 401
    assert (await ada.done("logout")).out == f"You are not signed in to {registry.url}.\n"


async def test_a_login_may_be_wrong(registry: Registry, make_user: MakeUser):
    await registry.user("ada")
    user = make_user(registry.url)
    wrong = await user.run("login", "--username", "ada", "--password-stdin", stdin="nonsense\n")
    assert (wrong.status, wrong.out, user.logins) == (NOT_ALLOWED, "", [])
    assert "nonsense" not in wrong.err
    without = await user.run("login", "--username", "ada")
    assert without.status == WRONG_USAGE
    assert "--password-stdin" in without.err


async def test_the_only_login_is_the_default_registry(registry: Registry, make_user: MakeUser):
    await registry.user("ada")
    user = make_user()
    login = ("login", "--username", "ada", "--password-stdin")
    await user.done(*login, "--url", f"{registry.url}/api/v1/", stdin=PASSWORD)
    assert (await user.done("whoami", "--json")).json["url"] == registry.url
    await user.done(*login, "--url", registry.url.replace("127.0.0.1", "localhost"), stdin=PASSWORD)
    several = await user.run("whoami")
    assert several.status == WRONG_USAGE
    assert "--url" in several.err


async def test_a_token_of_the_environment_is_enough(registry: Registry, make_user: MakeUser):
    grace = await registry.user("grace")
    made = await grace.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["publish"]})
    user = make_user(registry.url, SYNAPSE_REGISTRY_TOKEN=made.json["token"])
    user.write_package()
    await user.done("publish", "demo")
    assert (await registry.get("/packages/demo")).json["owners"] == ["grace"]
    assert user.logins == []


async def test_all_problems_of_a_publish_are_told_at_once(registry: Registry, ada: User):
    grace = await registry.user("grace")
    await grace.publish("demo", "1.0.0")
    ada.write_package("demo", "1.0.0")
    refused = await ada.run("publish", "demo", "--json")
    assert refused.status == NOT_ALLOWED
    assert refused.json["code"] == "forbidden"
    # A problem of the folder itself is found before anything is sent.
    (ada.folder / "demo" / "synapse.json").write_text('{"name": "Demo", "version": "1"}')
    folder = await ada.run("publish", "demo")
    assert folder.status == FAILED
    assert [line.split(":")[1].strip() for line in folder.err.splitlines()] == ["name", "version", "description"]


async def test_a_version_is_published_once(registry: Registry, ada: User):
    ada.write_package()
    await ada.done("publish", "demo")
    again = await ada.run("publish", "demo", "--json")
    assert (again.status, again.json["code"]) == (FAILED, "version_exists")
    assert again.json["errors"][0]["field"] == "version"


async def test_a_dry_run_publishes_nothing(registry: Registry, ada: User):
    ada.write_package()
    said = await ada.done("publish", "demo", "--dry-run")
    assert said.out.startswith("demo 1.0.0 (")
    assert (await registry.get("/packages/demo")).status == 404


async def test_a_tarball_is_published_as_it_is(registry: Registry, ada: User):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        data = json.dumps({"name": "other", "version": "2.0.0", "description": "x"}).encode()
        info = tarfile.TarInfo("folder/synapse.json")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    (ada.folder / "any.tgz").write_bytes(gzip.compress(buffer.getvalue(), 1))
    await ada.done("publish", "any.tgz")
    assert (await registry.get("/packages/other/2.0.0/tarball")).body == (ada.folder / "any.tgz").read_bytes()
    (ada.folder / "bad.tgz").write_bytes(b"nonsense")
    bad = await ada.run("publish", "bad.tgz")
    assert (bad.status, bad.err) == (FAILED, "error: bad.tgz: The tarball is not gzip-compressed.\n")


async def test_a_lost_answer_does_not_publish_twice(registry: Registry, ada: User):
    """The connection ends after the registry has published and before the client has the answer."""
    ada.write_package()
    proxy = CuttingProxy(registry.url, answer_bytes=0, matching=b"PUT /api/v1/packages/demo/1.0.0 ")
    async with proxy.running() as url:
        said = await ada.done("publish", "demo", "--url", url, SYNAPSE_REGISTRY_TOKEN=ada_token(ada))
    keys = [
        line.split(b": ")[1]
        for request in proxy.requests
        for line in request.split(b"\r\n")
        if line.startswith(b"Idempotency-Key") and b"dry_run" not in request
    ]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert "Trying again" in said.err
    package = (await registry.get("/packages/demo")).json
    assert [version["version"] for version in package["versions"]] == ["1.0.0"]


async def test_a_download_continues_where_it_stopped(registry: Registry, ada: User):
    data = bytes(range(256)) * 2000
    ada.write_package("demo", "1.0.0", data__bin=random_bytes(300_000) + data)
    await ada.done("publish", "demo")
    proxy = CuttingProxy(registry.url, answer_bytes=150_000, answers_cut=6, matching=b"/tarball ")
    async with proxy.running() as url:
        stopped = await ada.run("download", "demo", "--url", url)
        ranges = [part for request in proxy.requests for part in request.split(b"\r\n") if part.startswith(b"Range")]
        assert len(ranges) >= 1
        assert not (ada.folder / "demo-1.0.0.tar.gz").exists() or stopped.status == 0
        finished = await ada.done("download", "demo", "--url", url)
    assert sha256((ada.folder / "demo-1.0.0.tar.gz").read_bytes()) in finished.out + stopped.out
    assert list(ada.folder.glob(".*.part")) == []
    starts = [int(part.split(b"=")[1].rstrip(b"-")) for part in ranges]
    assert starts == sorted(set(starts))


async def test_a_part_with_wrong_bytes_is_found(registry: Registry, ada: User):
    ada.write_package("demo", "1.0.0", data__bin=random_bytes(10_000))
    published = await ada.done("publish", "demo", "--json")
    part = ada.folder / f".{published.json['checksum'][:32]}.part"
    part.write_bytes(b"x" * 100)
    refused = await ada.run("download", "demo", "--json")
    assert (refused.status, refused.json["code"]) == (FAILED, "checksum_mismatch")
    assert list(ada.folder.glob("*.tar.gz")) == list(ada.folder.glob(".*.part")) == []
    part.write_bytes(b"x" * 1_000_000)
    await ada.done("download", "demo")


async def test_a_file_is_never_replaced_by_a_download(registry: Registry, ada: User):
    ada.write_package()
    await ada.done("publish", "demo")
    await ada.done("download", "demo")
    assert "is here already" in (await ada.done("download", "demo@1.0.0")).out
    await registry.flush()
    assert (await registry.get("/packages/demo")).json["total_downloads"] == 1
    (ada.folder / "demo-1.0.0.tar.gz").write_bytes(b"mine")
    refused = await ada.run("download", "demo")
    assert refused.status == FAILED
    assert (ada.folder / "demo-1.0.0.tar.gz").read_bytes() == b"mine"
    assert (await ada.done("download", "demo", "--output", "..")).out.startswith("../demo-1.0.0.tar.gz")


async def test_downloads_are_counted_as_those_of_a_person_or_a_build(registry: Registry, ada: User):
    ada.write_package()
    await ada.done("publish", "demo")
    await ada.done("download", "demo", "--output", "a")
    await ada.done("download", "demo", "--output", "b", CI="true")
    await registry.flush()

    stats = await registry.get("/packages/demo/stats", params={"interval": "day", "group_by": "kind"})
    points = stats.json["series"]["points"]
    assert {point["group"]: point["downloads"] for point in points if point["downloads"]} == {"human": 1, "ci": 1}


async def test_versions_are_yanked_and_packages_deprecated(registry: Registry, ada: User):
    ada.write_package()
    await ada.done("publish", "demo")
    said = await ada.done("yank", "demo@1.0.0", "--reason", "loses data")
    assert said.out == "demo 1.0.0 is yanked: new installs skip it.\n"
    version = (await registry.get("/packages/demo/1.0.0")).json
    assert (version["yanked"], version["yank_reason"]) == (True, "loses data")
    assert "yanked: loses data" in (await ada.done("download", "demo@1.0.0")).err
    await ada.done("unyank", "demo@1.0.0")
    assert (await registry.get("/packages/demo/1.0.0")).json["yanked"] is False

    await ada.done("deprecate", "demo", "--message", "Use other.")
    assert (await registry.get("/packages/demo")).json["deprecated"] == "Use other."
    assert "Use other." in (await ada.done("info", "demo")).out
    await ada.done("deprecate", "demo", "--undo")
    assert (await registry.get("/packages/demo")).json["deprecated"] == ""
    for wrong in (["yank", "demo"], ["deprecate", "demo"], ["deprecate", "demo@1.0.0", "--undo"]):
        assert (await ada.run(*wrong)).status == WRONG_USAGE


async def test_another_spelling_of_a_name_is_followed(registry: Registry, ada: User):
    ada.write_package("some-package")
    await ada.done("publish", "some-package")
    assert (await ada.done("info", "some_package")).out.startswith("some-package 1.0.0\n")
    await ada.done("yank", "some_package@1.0.0")
    assert (await registry.get("/packages/some-package/1.0.0")).json["yanked"] is True


async def test_tokens_are_made_listed_and_deleted(registry: Registry, ada: User):
    made = await ada.done(
        *("token", "create", "ci", "--scope", "publish", "--scope", "yank", "--package", "demo", "--expires-in", "9")
    )
    headers = {"Authorization": f"Bearer {made.out.strip()}"}
    assert (await registry.get("/auth/me", headers=headers)).status == 200
    listed = await ada.done("token", "list", "--json")
    [token] = listed.json["tokens"]
    assert (token["name"], token["scopes"], token["packages"]) == ("ci", ["publish", "yank"], ["demo"])
    assert "publish,yank" in (await ada.done("token", "list")).out
    await ada.done("token", "delete", str(token["id"]))
    assert (await registry.get("/auth/me", headers=headers)).status == 401
    assert (await ada.done("token", "list")).out == "You have no API tokens.\n"


async def test_exit_statuses_tell_what_went_wrong(registry: Registry, ada: User, make_user: MakeUser):
    assert (await ada.run("info", "nothing")).status == NOT_FOUND
    assert (await ada.run("download", "nothing@1.0.0")).status == NOT_FOUND
    assert (await ada.run("token", "delete", "12345")).status == NOT_FOUND
    assert (await ada.run("search", "x", "--limit", "1000")).status == WRONG_USAGE
    assert (await ada.run("publish", "nothing")).status == WRONG_USAGE
    stranger = make_user(registry.url)
    stranger.write_package()
    assert (await stranger.run("publish", "demo")).status == NOT_ALLOWED
    assert (await stranger.run("publish", "demo", SYNAPSE_REGISTRY_TOKEN="syn_wrong")).status == NOT_ALLOWED
    assert (await stranger.run("logout", "--url", "http://registry.example.com")).status == WRONG_USAGE
    for command in (["search", "x", "--limit", "1000"], ["search", "x", "--nonsense"], ["owners", "list"]):
        wrong = await ada.run(*command, "--json")
        assert (wrong.status, wrong.json["status"], wrong.err) == (WRONG_USAGE, None, "")
        assert f"synapse-registry {command[0]}" in wrong.json["error"] or "--nonsense" in wrong.json["error"]
    failed = await stranger.run("info", "nothing", "--json")
    assert (failed.status, failed.json["code"], failed.json["status"], failed.err) == (NOT_FOUND, "not_found", 404, "")


async def test_too_many_requests_are_told_with_the_time_to_wait(make_registry: MakeRegistry, make_user: MakeUser):
    registry = await make_registry(REGISTRY_RATE_LIMITS="search=1/hour")
    user = make_user(registry.url)
    await user.done("search", "x")
    refused = await user.run("search", "x", "--json")
    assert (refused.status, refused.json["code"]) == (TRY_LATER, "rate_limited")


async def test_a_private_registry_needs_the_token(make_registry: MakeRegistry, make_user: MakeUser):
    await (await make_registry()).user("ada")
    registry = await make_registry(REGISTRY_ACCESS="private")
    user = make_user(registry.url)
    assert (await user.run("search", "demo")).status == NOT_ALLOWED
    await user.sign_in("ada", PASSWORD)
    user.write_package()
    await user.done("publish", "demo", "--wait")
    assert "demo" in (await user.done("search", "demo")).out
    await user.done("download", "demo")


def ada_token(user: User) -> str:
    token: str = json.loads(user.logins[0].read_text())["token"]
    return token


def random_bytes(count: int) -> bytes:
    """Bytes that don't compress; the same at each call."""
    return random.Random(7).randbytes(count)
