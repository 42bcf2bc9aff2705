"""Names that admins reserve, over HTTP where there is a route."""

import pytest

from registry.accounts.identity import Principal
from registry.errors import Conflict, Forbidden, InvalidInput, NotFound
from registry.keys import DB, SETTINGS
from registry.packages import manage
from registry.packages.reserved.reserve import list_names, release_name, reserve_name
from registry.web.paging import NEWEST
from tests.accounts.authenticating import authenticate
from tests.client import Registry, User

GITHUB = {"kind": "github", "repository": "org/repo", "workflow": "release.yml"}


async def principal(registry: Registry, user: User) -> Principal:
    return await authenticate(registry.app[DB], registry.app[SETTINGS].accounts, user.token)


async def test_only_admins_publish_a_new_package_under_a_reserved_name(registry: Registry):
    db = registry.app[DB]
    ada, admin = await registry.user("ada"), await registry.user("root", admin=True)
    root = await principal(registry, admin)
    await ada.publish("taken")
    for name in ("big-brand", "taken"):
        await reserve_name(db, root, name, "A trade mark")
    for name in ("big-brand", "big_brand"):
        for query in ("", "?dry_run=true"):
            refused = await ada.put(name, "1.0.0", query=query)
            assert (refused.status, refused.json["code"]) == (403, "name_reserved"), name
    pending = await ada.call("POST", "/auth/publishers", json={**GITHUB, "package": "big-brand"})
    assert (pending.status, pending.json["code"]) == (403, "name_reserved")
    await ada.publish("taken", "1.1.0")
    await admin.publish("big-brand")
    found = await list_names(db, root, NEWEST, 9)
    assert [(each["name"], each["has_package"], each["username"]) for each in found] == [
        ("taken", True, "root"), ("big-brand", True, "root"),
    ]  # fmt: skip


async def test_a_released_name_can_be_published_again_and_both_acts_are_in_the_audit_log(registry: Registry):
    db = registry.app[DB]
    ada, admin = await registry.user("ada"), await registry.user("root", admin=True)
    root = await principal(registry, admin)
    await reserve_name(db, root, "big-brand", "A trade mark")
    [reserved] = await list_names(db, root, NEWEST, 9)
    await release_name(db, root, reserved["id"])
    await ada.publish("big-brand")
    entries = (await admin.call("GET", "/admin/audit?actor=root")).json["entries"]
    assert [(each["action"], each["details"]) for each in entries if each["action"].startswith("name.")] == [
        ("name.release", {"name": "big-brand"}), ("name.reserve", {"name": "big-brand", "reason": "A trade mark"}),
    ]  # fmt: skip


async def test_wrong_reservations_are_refused(registry: Registry):
    db = registry.app[DB]
    root = await principal(registry, await registry.user("root", admin=True))
    ada = await principal(registry, await registry.user("ada"))
    await reserve_name(db, root, "big-brand", "")
    for name in ("big_brand", "big-brand", "api"):
        with pytest.raises(Conflict):
            await reserve_name(db, root, name, "")
    with pytest.raises(InvalidInput):
        await reserve_name(db, root, "Big Brand", "")
    with pytest.raises(NotFound):
        await release_name(db, root, 99)
    for act in (reserve_name(db, ada, "x-y", ""), release_name(db, ada, 1), list_names(db, ada, NEWEST, 1)):
        with pytest.raises(Forbidden):
            await act


async def test_admins_list_the_packages_in_quarantine(registry: Registry):
    db = registry.app[DB]
    ada, admin = await registry.user("ada"), await registry.user("root", admin=True)
    root = await principal(registry, admin)
    for name in ("one", "two", "three"):
        await ada.publish(name)
    for name in ("one", "three"):
        body = {"quarantined": True, "reason": f"{name} steals"}
        assert (await admin.call("PATCH", f"/packages/{name}", json=body)).status == 200
    found = await manage.list_quarantined(db, root, NEWEST, 9)
    assert [(each["name"], each["reason"]) for each in found] == [("three", "three steals"), ("one", "one steals")]
    assert all(each["since"] is not None for each in found)
    assert [each["name"] for each in await manage.list_quarantined(db, root, found[0]["id"], 9)] == ["one"]
    with pytest.raises(Forbidden):
        await manage.list_quarantined(db, await principal(registry, ada), NEWEST, 9)
