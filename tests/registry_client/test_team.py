"""Owners, invitations, second factors and successors, through the client and the real registry."""

import json

import pytest

from registry.client.failures import FAILED, NOT_ALLOWED, NOT_FOUND, WRONG_USAGE
from registry.keys import DB
from tests.client import PASSWORD, Registry
from tests.conftest import MakeRegistry
from tests.factors.authenticator import Authenticator
from tests.factors.conftest import ORIGIN, add_app, add_passkey
from tests.registry_client.commands import User
from tests.registry_client.conftest import MakeUser

LOGIN = ("login", "--username", "ada", "--password-stdin")


@pytest.fixture
async def team(registry: Registry, make_user: MakeUser) -> dict[str, User]:
    """Three signed-in users. ada owns the package demo, and root is an admin."""
    users: dict[str, User] = {}
    for name in ("ada", "grace", "root"):
        await registry.user(name, admin=name == "root", email=f"{name}@example.com")
        users[name] = make_user(registry.url)
        await users[name].sign_in(name, PASSWORD)
    await (await registry.user("ada")).publish("demo")
    return users


async def roles(registry: Registry) -> dict[str, str]:
    owners = (await registry.get("/packages/demo/owners")).json["owners"]
    return {owner["username"]: owner["role"] for owner in owners}


async def test_a_maintainer_is_invited_promoted_and_removed(registry: Registry, team: dict[str, User]):
    ada, grace = team["ada"], team["grace"]
    sent = await ada.done("owners", "invite", "demo", "grace", "--role", "maintainer", "--json")
    number = str(sent.json["id"])
    mine = (await grace.done("owners", "invitations")).out.splitlines()
    assert mine[1].split()[:5] == [number, "demo", "grace", "maintainer", "ada"]
    assert (await grace.done("owners", "accept", number)).out == "You are now maintainer of demo.\n"
    assert (await grace.done("owners", "invitations")).out == "You have no invitations.\n"
    listed = (await grace.done("owners", "list", "demo")).out.splitlines()
    assert [line.split()[:2] for line in listed] == [["USER", "ROLE"], ["ada", "owner"], ["grace", "maintainer"]]

    assert (await grace.run("owners", "remove", "demo", "ada")).status == NOT_ALLOWED
    said = await ada.done("owners", "role", "demo", "grace", "owner")
    assert said.out == "grace is now owner of demo.\n"
    assert await roles(registry) == {"ada": "owner", "grace": "owner"}
    assert (await ada.done("owners", "remove", "demo", "grace")).out == "grace has no role in demo any more.\n"
    last = await ada.run("owners", "remove", "demo", "ada", "--json")
    assert (last.status, last.json["code"]) == (FAILED, "last_owner")


async def test_invitations_are_withdrawn_and_declined(registry: Registry, team: dict[str, User]):
    ada, grace = team["ada"], team["grace"]
    by_mail = await ada.done("owners", "invite", "demo", "grace@example.com")
    assert by_mail.out.startswith("grace@example.com is invited to be owner of demo. Invitation ")
    open_ones = (await ada.done("owners", "invitations", "demo", "--json")).json["invitations"]
    assert [each["username"] for each in open_ones] == [None]
    assert "(by e-mail)" in (await ada.done("owners", "invitations", "demo")).out
    number = str(open_ones[0]["id"])
    refused = await grace.run("owners", "accept", number, "--json")
    assert (refused.status, refused.json["code"]) == (NOT_ALLOWED, "email_not_verified")
    await ada.done("owners", "withdraw", "demo", number)
    assert (await ada.done("owners", "invitations", "demo")).out == "demo has no open invitations.\n"
    again = str((await ada.done("owners", "invite", "demo", "grace", "--json")).json["id"])
    assert (await grace.done("owners", "decline", again)).out == f"Invitation {again} is declined.\n"
    assert (await grace.run("owners", "accept", again)).status == NOT_FOUND
    assert (await grace.run("owners", "accept", "x")).status == NOT_FOUND
    assert await roles(registry) == {"ada": "owner"}


async def test_a_package_is_transferred_and_set_by_an_admin(registry: Registry, team: dict[str, User]):
    sent = await team["ada"].done("owners", "transfer", "demo", "grace", "--json")
    assert "only owner" in (await team["grace"].done("owners", "invitations")).out
    await team["grace"].done("owners", "accept", str(sent.json["id"]))
    assert await roles(registry) == {"grace": "owner"}
    users = ("ada", "grace:maintainer")
    assert (await team["grace"].run("owners", "set", "demo", *users, "--reason", "why")).status == NOT_ALLOWED
    said = await team["root"].done("owners", "set", "demo", *users, "--reason", "grace asked for it")
    assert said.out == "demo now belongs to ada (owner), grace (maintainer).\n"
    assert await roles(registry) == {"ada": "owner", "grace": "maintainer"}


async def test_a_token_may_manage(registry: Registry, team: dict[str, User]):
    ada = team["ada"]
    made = await ada.done("token", "create", "bot", "--scope", "manage", "--package", "demo")
    bot = {"SYNAPSE_REGISTRY_TOKEN": made.out.strip()}
    await ada.done("owners", "invite", "demo", "grace", **bot)
    assert (await ada.run("yank", "demo@1.0.0", **bot)).status == NOT_ALLOWED
    weak = await ada.done("token", "create", "ci", "--scope", "publish")
    refused = await ada.run("owners", "invite", "demo", "root", SYNAPSE_REGISTRY_TOKEN=weak.out.strip())
    assert refused.status == NOT_ALLOWED
    assert "manage" in refused.err


async def test_a_successor_is_shown_wherever_the_package_is(registry: Registry, team: dict[str, User]):
    ada = team["ada"]
    await ada.done("deprecate", "demo", "--message", "It is slow.", "--successor", "other")
    assert (await registry.get("/packages/demo")).json["deprecation"]["successor"] == "other"
    told = "It is slow. Use other instead."
    assert told in (await ada.done("info", "demo")).out
    assert told in (await ada.done("info", "demo@1.0.0")).out
    assert told in (await ada.done("download", "demo")).err
    await registry.drain()
    assert "[deprecated] About demo" in (await ada.done("search", "demo")).out
    for wrong in (["--undo", "--successor", "other"], ["--successor", "other"], ["--undo", "--message", "x"]):
        assert (await ada.run("deprecate", "demo", *wrong)).status == WRONG_USAGE
    await ada.done("deprecate", "demo", "--undo")
    assert (await registry.get("/packages/demo")).json["deprecation"] is None


async def test_a_script_signs_in_with_a_second_factor(registry: Registry, make_user: MakeUser):
    app, recovery_codes = await add_app(await registry.user("ada"))
    user = make_user(registry.url)
    without = await user.run(*LOGIN, "--json", stdin=PASSWORD)
    assert (without.status, without.json["code"]) == (NOT_ALLOWED, "second_factor_required")
    assert "--code" in without.json["error"]
    wrong = await user.run(*LOGIN, "--code", app.wrong(), stdin=PASSWORD)
    assert (wrong.status, user.logins) == (NOT_ALLOWED, [])
    assert "clock" in wrong.err
    for code in (app.code(), recovery_codes[0]):
        await user.done(*LOGIN, "--code", code, stdin=PASSWORD)
        assert (await user.done("whoami")).out == f"ada at {registry.url}\n"
    assert (await user.run(*LOGIN, "--code", recovery_codes[0], stdin=PASSWORD)).status == NOT_ALLOWED


async def test_a_passkey_alone_can_not_be_used_here(make_registry: MakeRegistry, make_user: MakeUser):
    registry = await make_registry(REGISTRY_PUBLIC_URL=ORIGIN)
    await add_passkey(await registry.user("ada"), Authenticator(ORIGIN))
    async with registry.app[DB].transaction() as conn:
        await conn.command("DELETE FROM recovery_codes")
    refused = await make_user(registry.url).run(*LOGIN, "--code", "123456", stdin=PASSWORD)
    assert refused.status == NOT_ALLOWED
    assert "API token" in refused.err


async def test_reads_go_on_when_a_login_has_ended(registry: Registry, team: dict[str, User]):
    ada = team["ada"]
    token = json.loads(ada.logins[0].read_text())["token"]
    await registry.call("POST", "/auth/logout", headers={"Authorization": f"Bearer {token}"})
    for command in (["search", "x"], ["info", "demo"], ["download", "demo"], ["owners", "list", "demo"]):
        ran = await ada.done(*command)
        assert ran.err == f"Your login at {registry.url} has ended. To use it, sign in with `synapse-registry login`.\n"
    ended = await ada.run("whoami")
    assert ended.status == NOT_ALLOWED
    assert "synapse-registry login" in ended.err
    # A wrong token of the environment is a mistake that its user must learn about.
    assert (await ada.run("info", "demo", SYNAPSE_REGISTRY_TOKEN=token)).status == NOT_ALLOWED


async def test_an_ended_login_reads_nothing_from_a_private_registry(make_registry: MakeRegistry, make_user: MakeUser):
    registry = await make_registry(REGISTRY_ACCESS="private")
    await registry.user("ada")
    user = make_user(registry.url)
    await user.sign_in("ada", PASSWORD)
    token = json.loads(user.logins[0].read_text())["token"]
    await registry.call("POST", "/auth/logout", headers={"Authorization": f"Bearer {token}"})
    ran = await user.run("search", "x")
    assert ran.status == NOT_ALLOWED
    assert "synapse-registry login" in ran.err
