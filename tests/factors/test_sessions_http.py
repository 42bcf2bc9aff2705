"""Sessions, required factors and the end of an account, over HTTP."""

import asyncio

import pytest

from registry.accounts.administer import reactivate, verify_email
from registry.db.engine import Statement
from registry.errors import NotFound
from registry.keys import DB
from tests.client import PASSWORD, Registry, User
from tests.conftest import MakeRegistry
from tests.factors.conftest import add_app, challenge, is_signed_in, log_in
from tests.web.shape import check_error

NEW_PASSWORD = "Another-Horse-43"


async def sessions_of(user: User) -> list[dict]:
    listed = await user.call("GET", "/auth/sessions")
    assert listed.status == 200, listed.body
    return listed.json["sessions"]


async def test_sessions_are_listed_and_ended(registry: Registry):
    ada = await registry.user()
    body = {"username": "ada", "password": PASSWORD}
    other = await registry.call("POST", "/auth/login", json=body, headers={"User-Agent": "phone/1.0"})
    found = await sessions_of(ada)
    assert found[0]["user_agent"] == "phone/1.0"
    assert [each["current"] for each in found] == [False, True]
    assert set(found[0]) == {"id", "created_at", "last_used_at", "ip", "user_agent", "current"}
    assert found[0]["ip"] == "127.0.0.0"
    assert await is_signed_in(registry, other.json["token"])
    eve = await registry.user("eve")
    check_error(await eve.call("DELETE", f"/auth/sessions/{found[0]['id']}"), 404)
    assert (await ada.call("DELETE", f"/auth/sessions/{found[0]['id']}")).status == 204
    check_error(await ada.call("DELETE", f"/auth/sessions/{found[0]['id']}"), 404)
    check_error(await ada.call("DELETE", "/auth/sessions/x"), 404)
    assert not await is_signed_in(registry, other.json["token"])
    assert [each["current"] for each in await sessions_of(ada)] == [True]
    page = await ada.call("GET", "/auth/sessions?limit=1")
    assert page.json["next_cursor"] is None
    entries = (await ada.call("GET", "/auth/audit?action=session.end")).json["entries"]
    assert len(entries) == 1


async def test_addresses_are_as_precise_as_those_of_downloads(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_DOWNLOAD_IP="full")
    ada = await registry.user()
    assert (await sessions_of(ada))[0]["ip"] == "127.0.0.1"
    assert {entry["ip"] for entry in (await ada.call("GET", "/auth/audit")).json["entries"]} == {"127.0.0.1"}


async def test_sign_out_and_a_new_password_end_sessions(registry: Registry):
    ada = await registry.user()
    token = (await log_in(registry)).json["token"]
    assert len(await sessions_of(ada)) == 2
    ended = (await sessions_of(ada))[0]["id"]
    await registry.call("POST", "/auth/logout", headers={"Authorization": f"Bearer {token}"})
    assert len(await sessions_of(ada)) == 1
    assert (await ada.call("GET", "/auth/audit")).json["entries"][0]["details"] == {"session": ended}
    leaked = (await log_in(registry)).json["token"]
    await registry.call("POST", "/auth/tokens/report", json={"token": leaked})
    assert len(await sessions_of(ada)) == 1
    changed = await ada.call(
        "POST", "/auth/password", json={"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    )
    fresh = User(registry, ada.id, "ada", changed.json["token"])
    assert [each["current"] for each in await sessions_of(fresh)] == [True]


async def test_api_tokens_may_not_see_or_end_sessions(registry: Registry):
    ada = await registry.user()
    made = await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["read", "manage"]})
    machine = User(registry, ada.id, "ada", made.json["token"])
    check_error(await machine.call("GET", "/auth/sessions"), 403)
    check_error(await machine.call("DELETE", f"/auth/sessions/{(await sessions_of(ada))[0]['id']}"), 403)


async def test_who_lacks_a_required_factor_can_add_one_and_nothing_else(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_REQUIRE_2FA="all")
    open_ = await make_registry()
    ada = await open_.user()
    token = (await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["publish"]})).json["token"]
    ada = User(registry, ada.id, "ada", ada.token)
    machine = User(registry, ada.id, "ada", token)
    await machine.publish("demo")
    for method, path in (
        ("POST", "/auth/tokens"), ("GET", "/auth/tokens"), ("GET", "/auth/sessions"), ("DELETE", "/auth/me"),
        ("PATCH", "/packages/demo"), ("GET", "/auth/audit"),
    ):  # fmt: skip
        refused = await ada.call(method, path, json={})
        assert (refused.status, refused.json["code"]) == (403, "second_factor_needed"), path
    assert (await ada.put("demo", "2.0.0")).json["code"] == "second_factor_needed"
    assert (await ada.call("GET", "/packages/demo")).status == 200
    assert (await ada.call("GET", "/auth/me")).status == 200
    assert (await log_in(registry)).status == 200
    await add_app(ada)
    assert (await ada.put("demo", "2.0.0")).status == 201
    assert (await ada.call("GET", "/auth/tokens")).status == 200


async def test_publishers_may_need_a_factor_while_others_do_not(make_registry: MakeRegistry):
    open_, registry = await make_registry(), await make_registry(REGISTRY_REQUIRE_2FA="publishers")
    ada, eve = await open_.user(), await open_.user("eve")
    await ada.publish("demo")
    ada, eve = (User(registry, each.id, each.username, each.token) for each in (ada, eve))
    assert (await ada.call("GET", "/auth/tokens")).json["code"] == "second_factor_needed"
    assert (await eve.call("GET", "/auth/tokens")).status == 200
    assert (await eve.put("new", "1.0.0")).json["code"] == "second_factor_needed"
    body = {"name": "ci", "scopes": ["publish"]}
    assert (await eve.call("POST", "/auth/tokens", json=body)).json["code"] == "second_factor_needed"
    assert (await eve.call("POST", "/auth/invitations/1/accept")).json["code"] == "second_factor_needed"
    assert (await eve.call("POST", "/auth/invitations/1/decline")).json["code"] == "not_found"
    await add_app(eve)
    assert (await eve.put("new", "1.0.0")).status == 201


async def test_a_private_registry_shows_nothing_without_a_required_factor(make_registry: MakeRegistry):
    open_ = await make_registry()
    ada = await open_.user()
    registry = await make_registry(REGISTRY_ACCESS="private", REGISTRY_REQUIRE_2FA="all")
    refused = await registry.get("/packages", headers=ada.headers)
    assert refused.json["code"] == "second_factor_needed"
    await add_app(ada)
    assert (await registry.get("/packages", headers=ada.headers)).status == 200


async def test_an_account_ends_with_everything_it_could_act_with(registry: Registry):
    ada, eve = await registry.user(email="ada@example.com"), await registry.user("eve")
    await ada.publish("mine")
    await ada.publish("shared")
    sent = await ada.call("POST", "/packages/shared/invitations", json={"username": "eve", "role": "owner"})
    open_one = await ada.call("POST", "/packages/mine/invitations", json={"username": "eve", "role": "maintainer"})
    assert (await eve.call("POST", f"/auth/invitations/{sent.json['id']}/accept")).status == 200
    token = (await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["read"]})).json["token"]
    pending = {"kind": "github", "repository": "ada/new", "workflow": "release.yml", "package": "new"}
    assert (await ada.call("POST", "/auth/publishers", json=pending)).status == 201
    hook = {"url": "https://ci.example.invalid/", "scope": {"owner": "me"}, "events": ["*"]}
    assert (await ada.call("POST", "/webhooks", json=hook)).status == 201
    for body in ({}, {"password": "wrong-password"}, {"code": "000000"}):
        assert (await ada.call("DELETE", "/auth/me", json=body)).json["code"] == "confirmation_required"
    refused = await ada.call("DELETE", "/auth/me", json={"password": PASSWORD})
    assert (refused.status, refused.json["code"], refused.json["packages"]) == (409, "last_owner", ["mine"])
    assert (await ada.call("DELETE", "/packages/mine/1.0.0")).status == 204
    await add_app(ada)
    assert (await ada.call("DELETE", "/auth/me", json={"password": PASSWORD})).status == 204
    assert not await is_signed_in(registry, ada.token)
    assert not await is_signed_in(registry, token)
    check_error(await log_in(registry), 401)
    check_error(await log_in(registry, "ada@example.com"), 401)
    assert (await eve.call("GET", "/auth/invitations")).json["invitations"] == []
    check_error(await eve.call("POST", f"/auth/invitations/{open_one.json['id']}/accept"), 404)
    owners = (await registry.get("/packages/shared/owners")).json["owners"]
    assert [each["username"] for each in owners] == ["eve"]
    assert (await registry.get("/packages/shared")).json["owners"] == ["eve"]
    audit = (await eve.call("GET", "/packages/shared/audit")).json["entries"]
    assert (audit[0]["action"], audit[0]["actor"]) == ("owner.remove", {"username": "deleted"})
    assert audit[0]["details"] == {"username": "deleted", "role": "owner", "account_deleted": True}
    assert "ada" not in str(audit)
    async with registry.app[DB].read() as conn:
        assert await conn.value(Statement("SELECT count(*) FROM publishers", {})) == 0
        assert await conn.value(Statement("SELECT count(*) FROM webhooks WHERE deleted_at IS NULL", {})) == 0
        assert await conn.value(Statement("SELECT count(*) FROM sessions WHERE user_id = %(id)s", {}), id=ada.id) == 0
        assert await conn.value(Statement("SELECT count(*) FROM recovery_codes", {})) == 0
    with pytest.raises(NotFound):
        await reactivate(registry.app[DB], "ada")
    again = {"username": "Ada", "password": PASSWORD, "email": "ada@example.com"}
    assert (await registry.call("POST", "/auth/register", json=again)).json["code"] == "user_exists"
    assert (await registry.call("POST", "/auth/register", json={**again, "username": "lovelace"})).status == 201
    reserved = {"username": "Deleted", "password": PASSWORD}
    assert (await registry.call("POST", "/auth/register", json=reserved)).status == 400


async def test_two_owners_who_end_their_accounts_at_once_leave_one(registry: Registry):
    ada, eve = await registry.user(), await registry.user("eve")
    await ada.publish("shared")
    sent = await ada.call("POST", "/packages/shared/invitations", json={"username": "eve", "role": "owner"})
    await eve.call("POST", f"/auth/invitations/{sent.json['id']}/accept")
    answers = await asyncio.gather(
        *(user.call("DELETE", "/auth/me", json={"password": PASSWORD}) for user in (ada, eve))
    )
    assert sorted(each.status for each in answers) == [204, 409]
    assert len((await registry.get("/packages/shared/owners")).json["owners"]) == 1


async def test_a_code_of_a_factor_confirms_the_end_of_an_account(registry: Registry):
    ada = await registry.user()
    app, _ = await add_app(ada)
    await challenge(registry)
    assert (await ada.call("DELETE", "/auth/me", json={"code": app.code()})).status == 204


async def test_an_operator_verifies_an_address(registry: Registry):
    ada = await registry.user(email="ada@example.com")
    assert (await ada.call("GET", "/auth/me")).json["email_verified"] is False
    await verify_email(registry.app[DB], "ada")
    me = (await ada.call("GET", "/auth/me")).json
    assert (me["email_verified"], me["user"]["email_verified"]) == (True, True)
