"""Owners, maintainers, invitations and transfers over HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from registry.keys import DB
from registry.owners import invite
from tests.accounts.test_access_http import token_of
from tests.client import Answer, Registry, User


async def invited(owner: User, package: str, role: str = "maintainer", **whom: str) -> Answer:
    return await owner.call("POST", f"/packages/{package}/invitations", json={**whom, "role": role})


async def join(owner: User, user: User, package: str, role: str = "maintainer") -> None:
    """Makes `user` a member of the package."""
    sent = await invited(owner, package, role, username=user.username)
    assert sent.status == 201, sent.body
    answer = await user.call("POST", f"/auth/invitations/{sent.json['id']}/accept")
    assert (answer.status, answer.json) == (200, {"success": True, "package": package, "role": role})


async def members(registry: Registry, package: str) -> dict[str, str]:
    answer = await registry.get(f"/packages/{package}/owners")
    assert answer.status == 200, answer.body
    return {each["username"]: each["role"] for each in answer.json["owners"]}


async def changes(registry: Registry) -> list[str]:
    async with registry.app[DB].read() as conn:
        from registry.events import log as event_log

        return [event.type for event in await event_log.read_after(conn, 0, 100)]


async def test_the_first_publisher_is_the_owner(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo")
    [owner] = (await registry.get("/packages/demo/owners")).json["owners"]
    assert (owner["username"], owner["role"]) == ("ada", "owner")
    assert datetime.fromisoformat(owner["since"]) <= datetime.now(UTC)
    assert (await registry.get("/packages/nothing/owners")).status == 404


async def test_an_invitation_is_listed_accepted_once_and_gives_the_role(registry: Registry):
    ada, bob, eve = await registry.user("ada"), await registry.user("bob"), await registry.user("eve")
    await ada.publish("demo")
    sent = await invited(ada, "demo", "maintainer", username="BOB")
    assert (sent.status, sent.json["username"], sent.json["role"]) == (201, "bob", "maintainer")
    left = datetime.fromisoformat(sent.json["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=13, hours=23) < left <= timedelta(days=14)
    [mine] = (await bob.call("GET", "/auth/invitations")).json["invitations"]
    assert (mine["id"], mine["package"], mine["inviter"]) == (sent.json["id"], "demo", "ada")
    assert (await eve.call("GET", "/auth/invitations")).json == {"invitations": [], "next_cursor": None, "limit": 20}
    accept = f"/auth/invitations/{mine['id']}/accept"
    assert (await eve.call("POST", accept)).status == 404
    assert (await bob.put("demo", "2.0.0")).status == 403
    assert (await bob.call("POST", accept)).status == 200
    assert (await bob.call("POST", accept)).status == 404
    assert await members(registry, "demo") == {"ada": "owner", "bob": "maintainer"}
    assert (await bob.put("demo", "2.0.0")).status == 201
    assert (await registry.get("/packages/demo")).json["owners"] == ["ada"]


async def test_a_maintainer_publishes_and_yanks_but_changes_no_owners_and_deletes_nothing(registry: Registry):
    ada, bob, eve = await registry.user("ada"), await registry.user("bob"), await registry.user("eve")
    await ada.publish("demo")
    await join(ada, bob, "demo")
    assert (await bob.put("demo", "2.0.0")).status == 201
    assert (await bob.call("PATCH", "/packages/demo/2.0.0", json={"yanked": True})).status == 200
    assert (await bob.call("PATCH", "/packages/demo", json={"deprecated": "old"})).status == 200
    assert (await bob.call("DELETE", "/packages/demo/2.0.0")).status == 403
    assert (await invited(bob, "demo", username="eve")).status == 403
    assert (await bob.call("DELETE", "/packages/demo/owners/ada")).status == 403
    assert (await bob.call("PATCH", "/packages/demo/owners/bob", json={"role": "owner"})).status == 403
    assert (await bob.call("POST", "/packages/demo/transfer", json={"username": "bob"})).status == 403
    assert (await eve.call("DELETE", "/packages/demo/owners/bob")).status == 403


async def test_the_last_owner_stays(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    await ada.publish("demo")
    await join(ada, bob, "demo")
    for answer in (
        await ada.call("DELETE", "/packages/demo/owners/ada"),
        await ada.call("PATCH", "/packages/demo/owners/ada", json={"role": "maintainer"}),
    ):
        assert (answer.status, answer.json["code"]) == (409, "last_owner")
    promoted = await ada.call("PATCH", "/packages/demo/owners/bob", json={"role": "owner"})
    assert (promoted.status, promoted.json["role"]) == (200, "owner")
    assert (await ada.call("DELETE", "/packages/demo/owners/ADA")).status == 204
    assert await members(registry, "demo") == {"bob": "owner"}
    assert (await ada.put("demo", "2.0.0")).status == 403


async def test_of_two_owners_who_remove_each_other_one_stays(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    for number in range(5):
        package = f"demo{number}"
        await ada.publish(package)
        await join(ada, bob, package, "owner")
        answers = await asyncio.gather(
            ada.call("DELETE", f"/packages/{package}/owners/bob"), bob.call("DELETE", f"/packages/{package}/owners/ada")
        )
        assert sorted(answer.status for answer in answers) == [204, 403]
        assert list((await members(registry, package)).values()) == ["owner"]


async def test_a_maintainer_may_leave(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    await ada.publish("demo")
    await join(ada, bob, "demo")
    assert (await bob.call("DELETE", "/packages/demo/owners/bob")).status == 204
    assert (await bob.call("DELETE", "/packages/demo/owners/bob")).status == 404
    assert await members(registry, "demo") == {"ada": "owner"}


async def test_whoever_has_the_role_is_not_invited_to_it(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    await ada.publish("demo")
    await join(ada, bob, "demo")
    for username, role in (("ada", "owner"), ("ada", "maintainer"), ("bob", "maintainer")):
        answer = await invited(ada, "demo", role, username=username)
        assert (answer.status, answer.json["code"]) == (409, "already_owner"), (username, role)
    await join(ada, bob, "demo", "owner")
    assert await members(registry, "demo") == {"ada": "owner", "bob": "owner"}


async def test_an_invitation_ends_with_its_inviters_role_and_with_the_role_got_otherwise(registry: Registry):
    ada, bob, eve = await registry.user("ada"), await registry.user("bob"), await registry.user("eve")
    root = await registry.user("root", admin=True)
    await ada.publish("demo")
    await join(ada, bob, "demo", "owner")
    sent = await invited(bob, "demo", username="eve")
    assert (await ada.call("DELETE", "/packages/demo/owners/bob")).status == 204
    assert (await eve.call("GET", "/auth/invitations")).json["invitations"] == []
    assert (await eve.call("POST", f"/auth/invitations/{sent.json['id']}/accept")).status == 404
    assert (await invited(ada, "demo", username="eve")).status == 201
    owners = [{"username": "ada", "role": "owner"}, {"username": "eve", "role": "maintainer"}]
    body = {"owners": owners, "reason": "agreed by mail"}
    assert (await root.call("PUT", "/packages/demo/owners", json=body)).status == 200
    assert (await eve.call("GET", "/auth/invitations")).json["invitations"] == []


async def test_an_invitation_can_be_declined_withdrawn_and_expires(registry: Registry):
    ada, bob, eve = await registry.user("ada"), await registry.user("bob"), await registry.user("eve")
    await ada.publish("demo")
    first = (await invited(ada, "demo", username="bob")).json["id"]
    assert (await eve.call("POST", f"/auth/invitations/{first}/decline")).status == 404
    assert (await bob.call("POST", f"/auth/invitations/{first}/decline")).status == 204
    assert (await bob.call("POST", f"/auth/invitations/{first}/accept")).status == 404
    second = (await invited(ada, "demo", username="bob")).json["id"]
    assert (await bob.call("DELETE", f"/packages/demo/invitations/{second}")).status == 403
    [listed] = (await ada.call("GET", "/packages/demo/invitations")).json["invitations"]
    assert (listed["id"], listed["username"]) == (second, "bob")
    assert (await ada.call("DELETE", f"/packages/demo/invitations/{second}")).status == 204
    assert (await ada.call("DELETE", f"/packages/demo/invitations/{second}")).status == 404
    third = (await invited(ada, "demo", username="bob")).json["id"]
    async with registry.app[DB].transaction() as conn:
        await conn.command("UPDATE invitations SET expires_at = now()")
    assert (await bob.call("POST", f"/auth/invitations/{third}/accept")).status == 404
    assert await invite.purge(registry.app[DB]) == 1


async def test_an_invitation_by_email_needs_the_verified_address(registry: Registry):
    ada = await registry.user("ada")
    bob = await registry.user("bob", email="Bob@example.org")
    await ada.publish("demo")
    sent = await invited(ada, "demo", email="bob@EXAMPLE.org")
    assert (sent.status, sent.json["username"]) == (201, None)
    accept = f"/auth/invitations/{sent.json['id']}/accept"
    async with registry.app[DB].transaction() as conn:
        await conn.command(
            "UPDATE users SET email = 'ada@example.org', email_verified_at = now() WHERE username = 'ada'"
        )
    for path in (accept, accept.replace("accept", "decline")):
        for user in (ada, bob):
            refused = await user.call("POST", path)
            assert (refused.status, refused.json["code"]) == (403, "email_not_verified")
    assert (await bob.call("GET", "/auth/invitations")).json["invitations"] == []
    async with registry.app[DB].transaction() as conn:
        await conn.command("UPDATE users SET email_verified_at = now() WHERE username = 'bob'")
    assert len((await bob.call("GET", "/auth/invitations")).json["invitations"]) == 1
    assert (await bob.call("POST", accept)).status == 200
    assert await members(registry, "demo") == {"ada": "owner", "bob": "maintainer"}


async def test_an_invitation_by_email_takes_no_role_away(registry: Registry):
    ada = await registry.user("ada", email="ada@example.org")
    await ada.publish("demo")
    async with registry.app[DB].transaction() as conn:
        await conn.command("UPDATE users SET email_verified_at = now() WHERE username = 'ada'")
    for role in ("maintainer", "owner"):
        sent = await invited(ada, "demo", role, email="ada@example.org")
        refused = await ada.call("POST", f"/auth/invitations/{sent.json['id']}/accept")
        assert (refused.status, refused.json["code"]) == (409, "already_owner"), role
    assert await members(registry, "demo") == {"ada": "owner"}


async def test_a_transfer_leaves_one_owner_and_the_maintainers(registry: Registry):
    ada, bob, eve = await registry.user("ada"), await registry.user("bob"), await registry.user("eve")
    await ada.publish("demo")
    await join(ada, eve, "demo")
    sent = await ada.call("POST", "/packages/demo/transfer", json={"username": "bob"})
    assert sent.status == 201
    assert await members(registry, "demo") == {"ada": "owner", "eve": "maintainer"}
    assert (await bob.call("POST", f"/auth/invitations/{sent.json['id']}/accept")).status == 200
    assert await members(registry, "demo") == {"bob": "owner", "eve": "maintainer"}
    assert await changes(registry) == [
        "package.created", "version.published", "package.owners_changed", "package.transferred",
    ]  # fmt: skip
    refused = await bob.call("POST", "/packages/demo/transfer", json={"username": "bob"})
    assert (refused.status, refused.json["code"]) == (409, "already_owner")


async def test_a_transfer_to_one_of_the_owners_removes_the_others(registry: Registry):
    ada, bob, eve = await registry.user("ada"), await registry.user("bob"), await registry.user("eve")
    await ada.publish("demo")
    await join(ada, bob, "demo", "owner")
    await join(ada, eve, "demo", "owner")
    mine = await ada.call("POST", "/packages/demo/transfer", json={"username": "ada"})
    assert (mine.status, mine.json["code"]) == (409, "already_owner")
    sent = await ada.call("POST", "/packages/demo/transfer", json={"username": "bob"})
    assert sent.status == 201, sent.body
    assert (await bob.call("POST", f"/auth/invitations/{sent.json['id']}/accept")).status == 200
    assert await members(registry, "demo") == {"bob": "owner"}


async def test_an_admin_sets_owners_with_a_reason_also_of_a_package_without_versions(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    root = await registry.user("root", admin=True)
    await ada.publish("demo")
    body: dict[str, Any] = {"owners": [{"username": "bob", "role": "owner"}], "reason": "ada left"}
    assert (await ada.call("PUT", "/packages/demo/owners", json=body)).status == 403
    for wrong, field in (
        ({**body, "reason": ""}, "reason"),
        ({**body, "reason": " "}, "reason"),
        ({"owners": body["owners"]}, "reason"),
        ({**body, "owners": []}, "owners"),
        ({**body, "owners": [{"username": "bob", "role": "maintainer"}]}, "owners"),
        ({**body, "owners": [{"username": "nobody", "role": "owner"}]}, "owners.0.username"),
        ({**body, "owners": [*body["owners"], {"username": "BOB", "role": "owner"}]}, "owners.1.username"),
        ({**body, "owners": [{"username": "bob", "role": "king"}]}, "owners.0.role"),
    ):
        answer = await root.call("PUT", "/packages/demo/owners", json=wrong)
        assert (answer.status, answer.json["errors"][0]["field"]) == (400, field), answer.json
    assert (await ada.call("DELETE", "/packages/demo/1.0.0")).status == 204
    assert (await registry.get("/packages/demo/owners")).status == 404
    answer = await root.call("PUT", "/packages/demo/owners", json=body)
    assert (answer.status, [each["username"] for each in answer.json["owners"]]) == (200, ["bob"])
    assert (await bob.put("demo", "2.0.0")).status == 201
    assert (await ada.put("demo", "3.0.0")).status == 403


async def test_a_token_needs_the_scope_manage_and_the_package(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    for package in ("demo", "other"):
        await ada.publish(package)
    manager = await token_of(ada, scopes=["manage"], packages=["demo"])
    publisher = await token_of(ada, scopes=["publish", "read", "yank"])
    assert (await invited(publisher, "demo", username="bob")).status == 403
    assert (await invited(manager, "other", username="bob")).status == 403
    assert (await invited(manager, "demo", username="bob")).status == 201
    assert (await publisher.call("GET", "/packages/demo/audit")).status == 403
    assert (await manager.call("GET", "/packages/demo/audit")).status == 200
    reader = await token_of(bob, scopes=["read"])
    assert (await reader.call("GET", "/auth/invitations")).status == 403


async def test_a_token_that_is_bound_to_packages_sees_all_invitations_to_these(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    for package in ("demo", "first", "last"):
        await ada.publish(package)
    for package in ("first", "demo", "last"):
        assert (await invited(ada, package, username="bob")).status == 201
    bound = await token_of(bob, scopes=["manage"], packages=["first", "last"])
    seen, address = [], "/auth/invitations?limit=1"
    while True:
        page = (await bound.call("GET", address)).json
        seen += [each["package"] for each in page["invitations"]]
        if page["next_cursor"] is None:
            break
        address = f"/auth/invitations?limit=1&cursor={page['next_cursor']}"
    assert seen == ["first", "last"]


async def test_wrong_invitations_name_their_fields(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo")
    for body, field in (
        ({"role": "owner"}, "username"),
        ({"role": "owner", "username": "bob", "email": "b@example.org"}, "username"),
        ({"username": "bob"}, "role"),
        ({"username": "bob", "role": "king"}, "role"),
        ({"email": "nonsense", "role": "owner"}, "email"),
        ({"username": "", "role": "owner"}, "username"),
    ):
        answer = await ada.call("POST", "/packages/demo/invitations", json=body)
        assert (answer.status, answer.json["errors"][0]["field"]) == (400, field), answer.json
    assert (await invited(ada, "demo", username="nobody")).status == 404
    assert (await invited(ada, "nothing", username="bob")).status == 404


async def test_lists_come_in_pages(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    for number in range(3):
        await ada.publish(f"demo{number}")
        assert (await invited(ada, f"demo{number}", username="bob")).status == 201
    first = (await bob.call("GET", "/auth/invitations?limit=2")).json
    second = (await bob.call("GET", f"/auth/invitations?limit=2&cursor={first['next_cursor']}")).json
    assert [each["package"] for each in first["invitations"] + second["invitations"]] == ["demo0", "demo1", "demo2"]
    assert second["next_cursor"] is None
    await join(ada, bob, "demo0")
    first = (await registry.get("/packages/demo0/owners?limit=1")).json
    second = (await registry.get(f"/packages/demo0/owners?limit=1&cursor={first['next_cursor']}")).json
    assert [each["username"] for each in first["owners"] + second["owners"]] == ["ada", "bob"]
    assert second["next_cursor"] is None
    assert (await registry.get("/packages/demo0/owners?cursor=x")).status == 400
