"""Changes of roles that run at the same time. Whatever comes first, a package with a version keeps an owner."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from registry.keys import DB
from tests.client import PASSWORD, Answer, Registry
from tests.owners.test_owners_http import invited, join, members
from tests.packages.ways import value

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
LOCK_BOB = "SELECT FROM users WHERE username = 'bob' FOR UPDATE"
END_BOB = "UPDATE users SET deleted_at = now(), is_active = false WHERE username = 'bob'"


async def held_up(registry: Registry, call: Coroutine[Any, Any, Answer], *, first: str, then: str) -> Answer:
    """The answer to a call that starts between two SQL commands of one transaction, and waits for the transaction."""
    async with registry.app[DB].transaction() as conn:
        await conn.command(first)
        calling = asyncio.create_task(call)
        async with asyncio.timeout(20):
            while not await value(registry, WAITING):
                assert not calling.done(), calling.result()
                await asyncio.sleep(0.02)
        await conn.command(then)
    return await calling


async def test_nobody_accepts_an_invitation_after_its_inviter_lost_the_role(registry: Registry):
    ada, bob, eve = await registry.user("ada"), await registry.user("bob"), await registry.user("eve")
    for number in range(5):
        package = f"demo{number}"
        await ada.publish(package)
        await join(ada, bob, package, "owner")
        sent = (await invited(bob, package, username="eve")).json["id"]
        accepted, removed = await asyncio.gather(
            eve.call("POST", f"/auth/invitations/{sent}/accept"), ada.call("DELETE", f"/packages/{package}/owners/bob")
        )
        assert removed.status == 204
        assert accepted.status in (200, 404)
        joined = {"eve": "maintainer"} if accepted.status == 200 else {}
        assert await members(registry, package) == {"ada": "owner", **joined}
        assert (await eve.call("GET", "/auth/invitations")).json["invitations"] == []


async def test_a_transfer_and_the_removal_of_its_sender_leave_one_owner(registry: Registry):
    ada, bob, eve = await registry.user("ada"), await registry.user("bob"), await registry.user("eve")
    for number in range(5):
        package = f"demo{number}"
        await ada.publish(package)
        await join(ada, bob, package, "owner")
        sent = (await ada.call("POST", f"/packages/{package}/transfer", json={"username": "eve"})).json["id"]
        accepted, removed = await asyncio.gather(
            eve.call("POST", f"/auth/invitations/{sent}/accept"), bob.call("DELETE", f"/packages/{package}/owners/ada")
        )
        assert (accepted.status, removed.status) in ((200, 403), (404, 204))
        assert await members(registry, package) == {"eve" if accepted.status == 200 else "bob": "owner"}


async def test_an_account_that_ends_meanwhile_gets_no_role(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    root = await registry.user("root", admin=True)
    await ada.publish("demo")
    sent = (await invited(ada, "demo", username="bob")).json["id"]
    accepting = bob.call("POST", f"/auth/invitations/{sent}/accept")
    assert (await held_up(registry, accepting, first=LOCK_BOB, then=END_BOB)).status == 401
    async with registry.app[DB].transaction() as conn:
        await conn.command("UPDATE users SET deleted_at = NULL, is_active = true WHERE username = 'bob'")
    body = {"owners": [{"username": "bob", "role": "owner"}], "reason": "ada left"}
    setting = root.call("PUT", "/packages/demo/owners", json=body)
    assert (await held_up(registry, setting, first=LOCK_BOB, then=END_BOB)).status == 409
    assert await members(registry, "demo") == {"ada": "owner"}


async def test_an_account_that_ends_meanwhile_publishes_no_new_package(registry: Registry):
    bob = await registry.user("bob")
    assert (await held_up(registry, bob.put("demo", "1.0.0"), first=LOCK_BOB, then=END_BOB)).status == 401
    assert await value(registry, "SELECT count(*) FROM packages") == 0


async def test_an_account_that_becomes_the_only_owner_meanwhile_does_not_end(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    await ada.publish("demo")
    await ada.publish("other")
    answer = await held_up(
        registry,
        bob.call("DELETE", "/auth/me", json={"password": PASSWORD}),
        first=f"INSERT INTO package_owners (package_id, user_id, role) SELECT id, {bob.id}, 'owner' FROM packages",
        then=f"DELETE FROM package_owners WHERE user_id = {ada.id}",
    )
    assert (answer.status, answer.json["code"], answer.json["packages"]) == (409, "last_owner", ["demo", "other"])
    assert await members(registry, "demo") == {"bob": "owner"}


async def test_ends_of_the_accounts_of_two_owners_leave_one(registry: Registry):
    users = [await registry.user("ada"), await registry.user("bob")]
    await users[0].publish("demo")
    await join(users[0], users[1], "demo", "owner")
    answers = await asyncio.gather(*(user.call("DELETE", "/auth/me", json={"password": PASSWORD}) for user in users))
    assert sorted(answer.status for answer in answers) == [204, 409]
    assert list((await members(registry, "demo")).values()) == ["owner"]
