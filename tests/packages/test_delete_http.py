"""Deleting, restoring, yanking and deprecating over HTTP."""

import asyncio

from registry.keys import DB
from tests.client import Answer, Registry, User
from tests.packages.ways import blobs, value


async def delete(user: User, name: str, version: str = "1.0.0") -> int:
    return (await user.call("DELETE", f"/packages/{name}/{version}")).status


async def patch(user: User, path: str, body: object) -> Answer:
    return await user.call("PATCH", f"/packages/{path}", json=body)


async def restore(user: User, name: str, version: str = "1.0.0") -> Answer:
    return await user.call("POST", f"/packages/{name}/{version}/restore")


async def events(registry: Registry) -> list[str]:
    joined = await value(registry, "SELECT string_agg(type, ' ' ORDER BY seq) FROM events")
    return str(joined).split()


async def test_a_deleted_version_is_gone_from_every_read(registry: Registry):
    ada = await registry.user()
    for version in ("1.0.0", "1.1.0"):
        await ada.publish("demo", version)
    answer = await ada.call("DELETE", "/packages/Demo/1.1.0")
    assert (answer.status, answer.body) == (204, b"")
    for path in ("/packages/demo/1.1.0", "/packages/demo/1.1.0/tarball"):
        assert (await registry.get(path)).status == 404
    info = (await registry.get("/packages/demo")).json
    assert info["latest_version"] == "1.0.0"
    assert [item["version"] for item in info["versions"]] == ["1.0.0"]
    assert (await registry.get("/packages/demo/versions")).json["versions"] == ["1.0.0"]
    assert (await registry.get("/packages/demo/latest")).json["version"] == "1.0.0"
    assert (await registry.get("/stats")).json["packages"]["versions"] == 1
    assert await registry.search("demo") == ["demo"]
    assert await delete(ada, "demo", "1.1.0") == 404
    assert await events(registry) == ["package.created", "version.published", "version.published", "version.deleted"]


async def test_a_package_is_gone_when_its_last_version_is_deleted(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo")
    await ada.publish("my-lib")
    assert await delete(ada, "demo") == 204
    assert await delete(ada, "my-lib") == 204
    for path in ("", "/versions", "/stats", "/latest", "/1.0.0", "/latest/tarball", "/1.0.0/tarball"):
        assert (await registry.get(f"/packages/demo{path}")).status == 404, path
    assert (await registry.get("/packages/my_lib")).status == 404
    assert (await registry.get("/packages")).json["packages"] == []
    assert (await registry.get("/stats")).json["packages"] == {"total": 0, "versions": 0, "downloads": 0}
    assert await registry.search("demo") == []
    for path, body in (("demo", {"deprecated": "x"}), ("demo/1.0.0", {"yanked": True})):
        assert (await patch(ada, path, body)).status == 404


async def test_a_deleted_version_can_not_be_published_again(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo", "1.0.0+a")
    assert await delete(ada, "demo", "1.0.0") == 204
    for version in ("1.0.0", "1.0.0+a", "1.0.0+b"):
        for query in ("", "?dry_run=true"):
            answer = await ada.put("demo", version, headers={"X-Force": "true"}, query=query)
            assert (answer.status, answer.json["code"]) == (409, "version_burned")
    assert (await ada.put("demo", "1.0.1")).status == 201
    assert (await registry.get("/packages/demo")).json["latest_version"] == "1.0.1"


async def test_the_owner_keeps_the_name_of_a_deleted_package(registry: Registry):
    ada, eve = await registry.user("ada"), await registry.user("eve")
    await ada.publish("my-lib")
    assert await delete(ada, "my-lib") == 204
    assert (await eve.put("my-lib", "2.0.0")).status == 403
    assert (await eve.put("my_lib", "2.0.0")).json["code"] == "name_too_similar"
    assert (await ada.put("my-lib", "2.0.0")).status == 201
    assert (await registry.get("/packages/my-lib/versions")).json["versions"] == ["2.0.0"]


async def test_only_the_owner_and_admins_delete(registry: Registry):
    ada, eve = await registry.user("ada"), await registry.user("eve")
    root = await registry.user("root", admin=True)
    for version in ("1.0.0", "2.0.0"):
        await ada.publish("demo", version)
    assert await delete(eve, "demo") == 403
    assert await delete(eve, "nothing") == 404
    assert (await registry.call("DELETE", "/packages/demo/1.0.0")).status == 401
    assert (await registry.get("/packages/demo/1.0.0")).status == 200
    assert await delete(root, "demo") == 204
    assert await delete(ada, "demo", "2.0.0") == 204
    for version in ("2.0.0", "3.0.0", "x", "%00"):
        assert await delete(ada, "demo", version) == 404, version


async def test_one_of_many_concurrent_deletes_succeeds(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo")
    statuses = await asyncio.gather(*(delete(ada, "demo") for _ in range(8)))
    assert sorted(statuses) == [204] + [404] * 7
    assert await events(registry) == ["package.created", "version.published", "version.deleted"]


async def test_an_admin_can_restore_within_the_grace_period(registry: Registry):
    ada, root = await registry.user("ada"), await registry.user("root", admin=True)
    published = await ada.publish("demo", "1.0.0", keywords=["k"])
    await registry.get("/packages/demo/1.0.0/tarball")
    await registry.flush()
    await delete(ada, "demo")
    assert (await restore(ada, "demo")).status == 403
    answer = await restore(root, "demo")
    assert answer.status == 200, answer.body
    assert (answer.json["checksum"], answer.json["downloads"]) == (published["checksum"], 1)
    assert (await registry.get("/packages/demo/1.0.0/tarball")).status == 200
    assert (await registry.get("/packages/demo")).json["keywords"] == ["k"]
    assert await registry.search("demo") == ["demo"]
    assert (await restore(root, "demo")).status == 409
    assert (await restore(root, "demo", "9.9.9")).status == 404
    assert (await restore(root, "nothing")).status == 404
    assert (await restore(root, "demo", "junk")).status == 404
    assert await events(registry) == ["package.created", "version.published", "version.deleted", "version.restored"]


async def test_a_swept_version_can_not_be_restored(registry: Registry):
    ada, root = await registry.user("ada"), await registry.user("root", admin=True)
    await ada.publish("demo")
    await delete(ada, "demo")
    assert len(await blobs(registry)) == 1
    async with registry.app[DB].transaction() as conn:
        await conn.command("UPDATE package_versions SET swept_at = now()")
    assert (await restore(root, "demo")).status == 409
    assert (await registry.get("/packages/demo/1.0.0")).status == 404


async def test_a_yanked_version_stays_installable_and_is_no_longer_the_latest(registry: Registry):
    ada, eve = await registry.user("ada"), await registry.user("eve")
    for version in ("1.0.0", "1.1.0", "2.0.0-rc.1"):
        await ada.publish("demo", version)
    assert (await patch(eve, "demo/1.1.0", {"yanked": True})).status == 403
    answer = await patch(ada, "demo/1.1.0", {"yanked": True, "reason": "broken"})
    assert answer.status == 200
    assert (answer.json["yanked"], answer.json["yank_reason"]) == (True, "broken")
    assert (await registry.get("/packages/demo/latest")).json["version"] == "1.0.0"
    info = (await registry.get("/packages/demo")).json
    assert {item["version"]: item["yanked"] for item in info["versions"]} == {
        "1.0.0": False, "1.1.0": True, "2.0.0-rc.1": False,
    }  # fmt: skip
    assert (await registry.get("/packages/demo/1.1.0/tarball")).status == 200
    assert "1.1.0" in (await registry.get("/packages/demo/versions")).json["versions"]
    assert (await patch(ada, "demo/1.0.0", {"yanked": True})).json["yank_reason"] == ""
    assert (await registry.get("/packages/demo/latest")).json["version"] == "2.0.0-rc.1"
    await patch(ada, "demo/2.0.0-rc.1", {"yanked": True})
    assert (await registry.get("/packages/demo/latest")).json["version"] == "1.1.0"
    back = await patch(ada, "demo/1.0.0", {"yanked": False, "reason": "not kept"})
    assert (back.json["yanked"], back.json["yank_reason"]) == (False, "")
    assert (await registry.get("/packages/demo/latest")).json["version"] == "1.0.0"


async def test_yanking_again_adds_an_event_only_if_the_reason_changes(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo")
    for reason in ("one", "two", "two"):
        answer = await patch(ada, "demo/1.0.0", {"yanked": True, "reason": reason})
        assert answer.json["yank_reason"] == reason
    assert await events(registry) == ["package.created", "version.published", "version.yanked", "version.yanked"]


async def test_a_package_shows_its_deprecation_until_it_ends(registry: Registry):
    ada, eve = await registry.user("ada"), await registry.user("eve")
    await ada.publish("demo")
    assert (await patch(eve, "demo", {"deprecated": "mine"})).status == 403
    answer = await patch(ada, "demo", {"deprecated": "Take other-demo"})
    assert (answer.status, answer.json["deprecated"]) == (200, "Take other-demo")
    assert (await registry.get("/packages/demo/1.0.0")).json["deprecated"] == "Take other-demo"
    assert (await registry.get("/packages/demo/latest")).json["version"] == "1.0.0"
    assert (await patch(ada, "demo", {"deprecated": None})).json["deprecated"] == ""
    assert await events(registry) == [
        "package.created",
        "version.published",
        "package.deprecated",
        "package.undeprecated",
    ]


async def test_an_invalid_patch_is_400_or_415(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo")
    for body in ({}, {"yanked": "true"}, {"yanked": 1}, {"yanked": None}, {"yanked": True, "reason": 5}, [],
                 {"yanked": True, "reason": "x" * 256}, {"yanked": True, "reason": "a\0b"}, None):  # fmt: skip
        answer = await patch(ada, "demo/1.0.0", body)
        assert answer.status in (400, 415), body
        assert answer.json["error"]
    for body in ({}, {"deprecated": ""}, {"deprecated": 5}, {"deprecated": "x" * 256}, {"deprecated": "a\0b"}):
        assert (await patch(ada, "demo", body)).status == 400, body
    plain = await ada.call("PATCH", "/packages/demo", data=b"{}", headers={"Content-Type": "text/plain"})
    assert plain.status == 415
    assert (await registry.get("/packages/demo")).json["deprecated"] == ""
