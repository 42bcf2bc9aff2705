"""Deleting a whole package, and what its owners see of it, by the use cases that the pages call."""

import pytest

from registry.accounts.identity import Principal
from registry.errors import Forbidden, NotFound, Quarantined
from registry.events import log as event_log
from registry.keys import DB
from registry.owners.standing import standing
from registry.packages.manage import delete_package
from tests.client import Registry, User
from tests.owners.test_owners_http import join


def principal(user: User, role: str = "user") -> Principal:
    return Principal(user.id, user.username, role, 1, jti="session")


async def test_all_versions_end_together_with_an_event_and_an_audit_entry_each(registry: Registry):
    ada = await registry.user("ada")
    for version in ("1.0.0", "1.10.0", "1.2.0"):
        await ada.publish("demo", version)
    assert await delete_package(registry.app[DB], principal(ada), "demo") == 3
    assert (await registry.get("/packages/demo")).status == 404
    assert await registry.search("demo") == []
    changes = (await registry.get("/changes")).json["changes"]
    assert [(each["type"], each["version"]) for each in changes[-3:]] == [
        ("version.deleted", "1.0.0"), ("version.deleted", "1.2.0"), ("version.deleted", "1.10.0"),
    ]  # fmt: skip
    entries = (await ada.call("GET", "/packages/demo/audit", params={"action": "version.delete"})).json["entries"]
    assert [(each["version"], each["actor"]["username"]) for each in entries] == [
        ("1.10.0", "ada"), ("1.2.0", "ada"), ("1.0.0", "ada"),
    ]  # fmt: skip
    assert (await ada.put("demo", "1.2.0")).json["code"] == "version_burned"
    assert (await ada.put("demo", "2.0.0")).status == 201
    async with registry.app[DB].read() as conn:
        seqs = [event.seq for event in await event_log.read_after(conn, 0, 100)]
    assert seqs == list(range(1, len(seqs) + 1))


async def test_only_owners_and_admins_delete_a_package_and_only_admins_one_in_quarantine(registry: Registry):
    ada, bob, root = await registry.user("ada"), await registry.user("bob"), await registry.user("root", admin=True)
    await ada.publish("demo")
    await join(ada, bob, "demo")
    db = registry.app[DB]
    with pytest.raises(Forbidden):
        await delete_package(db, principal(bob), "demo")
    quarantine = {"quarantined": True, "reason": "malware"}
    assert (await root.call("PATCH", "/packages/demo", json=quarantine)).status == 200
    with pytest.raises(Quarantined):
        await delete_package(db, principal(ada), "demo")
    assert await delete_package(db, principal(root, "admin"), "demo") == 1
    with pytest.raises(NotFound):
        await delete_package(db, principal(ada), "nothing")


async def test_the_standing_tells_members_what_they_may_change_and_others_whom_to_ask(registry: Registry):
    ada, bob, eve = await registry.user("ada"), await registry.user("bob"), await registry.user("eve")
    root = await registry.user("root", admin=True)
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        await ada.publish("demo", version)
    await join(ada, bob, "demo")
    await bob.call("PATCH", "/packages/demo/1.1.0", json={"yanked": True, "reason": "loses data"})
    db = registry.app[DB]
    seen = await standing(db, principal(bob), "demo")
    assert (seen.name, seen.role, seen.is_owner) == ("demo", "maintainer", False)
    assert [each.version for each in seen.current] == ["1.2.0", "1.0.0"]
    assert [(each.version, each.yank_reason) for each in seen.yanked] == [("1.1.0", "loses data")]
    assert (await standing(db, principal(root, "admin"), "demo")).role is None
    with pytest.raises(Forbidden, match=r"Ask ada\.$"):
        await standing(db, principal(eve), "demo")


async def test_owners_see_whom_they_invited_by_mail(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo")
    for whom in ({"email": "bob@example.org"}, {"username": (await registry.user("bob")).username}):
        await ada.call("POST", "/packages/demo/invitations", json={**whom, "role": "maintainer"})
    listed = (await ada.call("GET", "/packages/demo/invitations")).json["invitations"]
    assert [(each["username"], each["email"]) for each in listed] == [(None, "bob@example.org"), ("bob", None)]
