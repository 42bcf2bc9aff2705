"""Deprecation, quarantine and closed names over HTTP."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from registry.db.engine import Statement
from registry.keys import DB
from tests.client import Answer, Registry, User
from tests.conftest import MakeRegistry
from tests.owners.test_owners_http import changes, join
from tests.packages.ways import value
from tests.web.shape import check_error

REASON = "It steals tokens."


async def patch(user: User, package: str, **body: Any) -> Answer:
    return await user.call("PATCH", f"/packages/{package}", json=body)


async def quarantine(admin: User, package: str = "demo") -> None:
    answer = await patch(admin, package, quarantined=True, reason=REASON)
    assert answer.status == 200, answer.body
    assert (answer.json["name"], answer.json["quarantined"], answer.json["quarantine_reason"]) == (
        package, True, REASON,
    )  # fmt: skip


def check_quarantined(answer: Answer) -> None:
    check_error(answer, 403, more={"reason"})
    assert (answer.json["code"], answer.json["reason"]) == ("quarantined", REASON)
    assert REASON in answer.json["detail"]


async def actions(user: User, package: str) -> list[str]:
    entries = (await user.call("GET", f"/packages/{package}/audit")).json["entries"]
    return [entry["action"] for entry in entries]


async def test_a_deprecation_has_a_message_a_successor_and_a_time_wherever_the_package_is_shown(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo")
    await ada.publish("demo", "2.0.0-rc.1")
    answer = await patch(ada, "demo", deprecated=True, message="Take other", successor="other-demo")
    assert (answer.status, answer.json["deprecated"]) == (200, "Take other")
    deprecation = answer.json["deprecation"]
    assert (deprecation["message"], deprecation["successor"]) == ("Take other", "other-demo")
    assert deprecation["at"].endswith("Z")
    assert datetime.fromisoformat(deprecation["at"]) <= datetime.now(UTC)
    await registry.drain()
    for path in ("/packages?limit=1", "/search?q=demo", "/search?q=demo&versions=all"):
        for shown in (await registry.get(path)).json["packages"]:
            assert (shown["deprecated"], shown["deprecation"]) == ("Take other", deprecation), path
    for path in ("/packages/demo/1.0.0", "/packages/demo/latest", "/packages/demo"):
        shown = (await registry.get(path)).json
        assert (shown["deprecated"], shown["deprecation"]) == ("Take other", deprecation), path
    for ended in (False, None):
        await patch(ada, "demo", deprecated=True)
        answer = await patch(ada, "demo", deprecated=ended, message="ignored")
        assert (answer.status, answer.json["deprecated"], answer.json["deprecation"]) == (200, "", None)


@pytest.mark.parametrize(
    ("body", "message", "successor"),
    [
        ({"deprecated": True}, "This package is deprecated.", None),
        ({"deprecated": True, "message": " "}, "This package is deprecated.", None),
        ({"deprecated": True, "message": None, "successor": None}, "This package is deprecated.", None),
        ({"deprecated": "Old text"}, "Old text", None),
        ({"deprecated": "Old text", "successor": "new"}, "Old text", "new"),
    ],
)
async def test_a_deprecation_may_lack_message_and_successor(
    registry: Registry, body: dict[str, Any], message: str, successor: str | None
):
    ada = await registry.user("ada")
    await ada.publish("demo")
    answer = await patch(ada, "demo", **body)
    shown = answer.json["deprecation"]
    assert (answer.json["deprecated"], shown["message"], shown["successor"]) == (message, message, successor)


async def test_an_equal_deprecation_adds_no_event_and_another_one_does(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo")
    for body in (
        {"deprecated": None}, {"deprecated": "old"}, {"deprecated": True, "message": "old"},
        {"deprecated": "old", "successor": "new"}, {"deprecated": False}, {"deprecated": False},
    ):  # fmt: skip
        assert (await patch(ada, "demo", **body)).status == 200
    assert (await changes(registry))[2:] == ["package.deprecated", "package.deprecated", "package.undeprecated"]
    data = await value(registry, "SELECT data FROM events WHERE seq = 4")
    assert data == {"message": "old", "successor": "new"}


async def test_wrong_changes_of_a_package_are_refused(registry: Registry):
    ada, admin = await registry.user("ada"), await registry.user("root", admin=True)
    await ada.publish("demo")
    for body, field in (
        ({}, "deprecated"),
        ({"message": "x"}, "deprecated"),
        ({"deprecated": 1}, "deprecated"),
        ({"deprecated": []}, "deprecated"),
        ({"deprecated": True, "message": "x" * 256}, "message"),
        ({"deprecated": True, "message": 5}, "message"),
        ({"deprecated": True, "successor": "No Name"}, "successor"),
        ({"deprecated": True, "successor": "demo"}, "successor"),
        ({"deprecated": True, "successor": 5}, "successor"),
        ({"deprecated": True, "quarantined": True, "reason": "x"}, "deprecated"),
        ({"quarantined": True}, "reason"),
        ({"quarantined": True, "reason": " "}, "reason"),
        ({"quarantined": True, "reason": "x" * 1001}, "reason"),
        ({"quarantined": None}, "quarantined"),
        ({"quarantined": "true"}, "quarantined"),
    ):
        answer = await patch(admin, "demo", **body)
        check_error(answer, 400)
        assert [error["field"] for error in answer.json["errors"]] == [field], body
    assert (await registry.get("/packages/demo")).json["deprecated"] == ""


async def test_only_an_admin_puts_a_package_in_quarantine(registry: Registry):
    ada, admin = await registry.user("ada"), await registry.user("root", admin=True)
    await ada.publish("demo")
    check_error(await patch(ada, "demo", quarantined=True, reason=REASON), 403)
    check_error(await patch(admin, "nothing", quarantined=True, reason=REASON), 404)
    assert (await registry.get("/packages/demo")).status == 200
    for _ in range(2):
        await quarantine(admin)
    for _ in range(2):
        released = await patch(admin, "demo", quarantined=False)
        assert (released.status, released.json["quarantined"], released.json["version"]) == (200, False, "1.0.0")
    assert (await changes(registry))[2:] == ["package.quarantined", "package.released"]
    assert await actions(ada, "demo") == ["package.release", "package.quarantine", "version.publish"]


async def test_nobody_reads_a_package_in_quarantine(registry: Registry):
    ada, admin = await registry.user("ada"), await registry.user("root", admin=True)
    await ada.publish("demo_lib")
    await ada.publish("demo_lib", "2.0.0")
    paths = [
        "", "/versions", "/1.0.0", "/latest", "/9.9.9", "/stats", "/badge/version.svg", "/1.0.0/tarball",
        "/latest/tarball", "/stats?from=2026-01-01&to=2026-01-31", "/1.0.0/wait",
    ]  # fmt: skip
    kept = [path for path in paths if not path.endswith(("9", "wait"))]
    first = {path: await registry.get(f"/packages/demo_lib{path}") for path in kept}
    await quarantine(admin, "demo_lib")
    for user in (None, ada, admin):
        headers = user.headers if user else {}
        for path in paths:
            address = f"/packages/demo_lib{path}"
            check_quarantined(await registry.get(address, headers=headers))
            assert (await registry.call("HEAD", address, headers=headers)).status == 403
        for path, answer in first.items():
            cached = {**headers, "If-None-Match": answer.headers["ETag"]}
            check_quarantined(await registry.get(f"/packages/demo_lib{path}", headers=cached))
        part = {**headers, "Range": "bytes=5-9"}
        check_quarantined(await registry.get("/packages/demo_lib/1.0.0/tarball", headers=part))
    assert (await registry.get("/packages/demo-lib")).status == 301
    await patch(admin, "demo_lib", quarantined=False)
    for path, answer in first.items():
        again = await registry.get(f"/packages/demo_lib{path}")
        assert again.status == 200
        if path.endswith("tarball"):
            assert again.body == answer.body


async def test_redirected_and_handed_over_tarballs_are_in_quarantine_too(make_registry: MakeRegistry):
    plain = await make_registry()
    ada, admin = await plain.user("ada"), await plain.user("root", admin=True)
    await ada.publish("demo")
    handing = await make_registry(REGISTRY_ACCEL_LOCATION="/blobs/")
    assert "X-Accel-Redirect" in (await handing.get("/packages/demo/1.0.0/tarball")).headers
    await quarantine(admin)
    # The other process learns of it by an announcement.
    async with asyncio.timeout(20):
        while (answer := await handing.get("/packages/demo/1.0.0/tarball")).status == 200:
            await asyncio.sleep(0.02)
    check_quarantined(answer)
    assert "X-Accel-Redirect" not in answer.headers


async def test_a_package_in_quarantine_is_in_no_list_no_search_and_no_total(registry: Registry):
    ada, admin = await registry.user("ada"), await registry.user("root", admin=True)
    for version in ("1.0.0", "2.0.0"):
        await ada.publish("demo", version)
    await ada.publish("other", description="Works with demo")

    async def shown() -> tuple[Any, ...]:
        totals = (await registry.get("/stats")).json
        listed = (await registry.get("/packages")).json
        return (
            await registry.search("demo"),
            await registry.search("demo", versions="all"),
            (await registry.get("/search/suggest?q=de")).json["suggestions"],
            [each["name"] for each in listed["packages"]],
            listed["total"],
            [each["name"] for each in totals["top_packages"]],
            (totals["packages"]["total"], totals["packages"]["versions"]),
        )

    everything = await shown()
    assert everything == (
        ["demo", "other"], ["demo", "demo", "other"], ["demo"], ["demo", "other"], 2, ["demo", "other"], (2, 3),
    )  # fmt: skip
    await quarantine(admin)
    assert await shown() == (["other"], ["other"], [], ["other"], 1, ["other"], (1, 1))
    explained = (await registry.get("/search/explain?q=demo&name=demo")).json
    assert (explained["found"], explained["reason"]) == (False, "quarantined")
    await patch(admin, "demo", quarantined=False)
    assert await shown() == everything


async def test_owners_change_nothing_in_quarantine_and_admins_may(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    admin = await registry.user("root", admin=True)
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        await ada.publish("demo", version)
    await join(ada, bob, "demo")
    eve = await registry.user("eve")
    sent = await ada.call("POST", "/packages/demo/invitations", json={"username": "eve", "role": "owner"})
    await quarantine(admin)
    before = await changes(registry)
    owners = [{"username": "ada", "role": "owner"}, {"username": "bob", "role": "maintainer"}]
    calls: list[tuple[str, str, Any]] = [
        ("PATCH", "/packages/demo/1.0.0", {"yanked": True, "reason": "bad"}),
        ("PATCH", "/packages/demo", {"deprecated": True}),
        ("DELETE", "/packages/demo/1.1.0", None),
        ("POST", "/packages/demo/1.1.0/restore", None),
        ("PUT", "/packages/demo/owners", {"owners": owners, "reason": "A test"}),
    ]
    for method, path, body in calls[:3]:
        check_quarantined(await ada.call(method, path, json=body))
    check_quarantined(await ada.put("demo", "2.0.0"))
    check_quarantined(await ada.put("demo", "2.0.0", query="?dry_run=true"))
    check_quarantined(await ada.post("demo", "2.0.0"))
    check_quarantined(await ada.call("DELETE", "/packages/demo/owners/bob"))
    check_quarantined(await ada.call("PATCH", "/packages/demo/owners/bob", json={"role": "owner"}))
    check_quarantined(await ada.call("POST", "/packages/demo/transfer", json={"username": "bob"}))
    check_quarantined(await bob.call("DELETE", "/packages/demo/owners/bob"))
    check_quarantined(await eve.call("POST", f"/auth/invitations/{sent.json['id']}/accept"))
    assert await changes(registry) == before
    for method, path, body in calls:
        answer = await admin.call(method, path, json=body)
        assert answer.status in (200, 204), (path, answer.body)
    check_quarantined(await registry.get("/packages/demo"))
    assert (await registry.get("/packages")).json["total"] == 0
    await patch(admin, "demo", quarantined=False)
    info = (await registry.get("/packages/demo")).json
    assert {each["version"]: each["yank_reason"] for each in info["versions"]} == {
        "1.0.0": "bad", "1.1.0": "", "1.2.0": "",
    }  # fmt: skip
    assert (info["version"], info["deprecated"]) == ("1.2.0", "This package is deprecated.")
    assert (await ada.put("demo", "2.0.0")).status == 201


async def test_owners_and_audit_stay_readable_to_owners_and_admins_in_quarantine(registry: Registry):
    ada, bob, eve = await registry.user("ada"), await registry.user("bob"), await registry.user("eve")
    admin = await registry.user("root", admin=True)
    await ada.publish("demo")
    await join(ada, bob, "demo")
    await quarantine(admin)
    for user in (ada, admin):
        owners = (await user.call("GET", "/packages/demo/owners")).json["owners"]
        assert [each["username"] for each in owners] == ["ada", "bob"]
    check_quarantined(await registry.get("/packages/demo/owners"))
    for user in (bob, eve):
        check_quarantined(await user.call("GET", "/packages/demo/owners"))
    check_quarantined(await ada.call("GET", "/packages/demo/publishers"))
    assert (await admin.call("GET", "/packages/demo/publishers")).status == 200
    for user in (ada, admin):
        assert (await actions(user, "demo"))[0] == "package.quarantine"
        assert (await user.call("GET", "/packages/demo/invitations")).status == 200
    check_error(await eve.call("GET", "/packages/demo/audit"), 403)


async def test_a_sole_owner_stays_one_in_quarantine(registry: Registry):
    from registry.packages.owners import store

    ada, admin = await registry.user("ada"), await registry.user("root", admin=True)
    await ada.publish("demo")
    await ada.publish("gone")
    assert (await ada.call("DELETE", "/packages/gone/1.0.0")).status == 204
    await quarantine(admin)
    async with registry.app[DB].read() as conn:
        assert await store.solely_owned(conn, ada.id, 10) == ["demo"]


async def test_a_name_without_owners_and_versions_is_closed_until_an_admin_sets_owners(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    admin = await registry.user("root", admin=True)
    await ada.publish("demo")
    await join(ada, bob, "demo")
    assert (await ada.call("DELETE", "/packages/demo/1.0.0")).status == 204
    async with registry.app[DB].transaction() as conn:
        # The end of an account removes its roles.
        await conn.run(Statement("DELETE FROM package_owners WHERE role = 'owner'", {}))
    for user in (ada, bob, admin):
        for query in ("", "?dry_run=true"):
            answer = await user.put("demo", "2.0.0", query=query)
            check_error(answer, 403)
            assert answer.json["code"] == "name_closed"
    pending = {"kind": "github", "repository": "org/repo", "workflow": "release.yml", "package": "demo"}
    answer = await ada.call("POST", "/auth/publishers", json=pending)
    check_error(answer, 403)
    assert answer.json["code"] == "name_closed"
    # Otherwise there would be a version without an owner.
    check_error(await admin.call("POST", "/packages/demo/1.0.0/restore"), 409)
    owners = [{"username": "bob", "role": "owner"}]
    answer = await admin.call("PUT", "/packages/demo/owners", json={"owners": owners, "reason": "bob goes on"})
    assert answer.status == 200
    assert (await ada.put("demo", "2.0.0")).status == 403
    assert (await bob.put("demo", "2.0.0")).status == 201
    assert (await admin.call("POST", "/packages/demo/1.0.0/restore")).status == 200
    assert (await registry.get("/packages/demo")).json["owners"] == ["bob"]


async def test_a_yanked_package_shows_the_reason(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo")
    assert (await registry.get("/packages/demo")).json["yank_reason"] == ""
    await ada.call("PATCH", "/packages/demo/1.0.0", json={"yanked": True, "reason": "Broken"})
    shown = [(await registry.get("/packages/demo")).json, (await registry.get("/packages/demo/1.0.0")).json]
    shown += (await registry.get("/packages")).json["packages"]
    assert {(each["yanked"], each["yank_reason"]) for each in shown} == {(True, "Broken")}
