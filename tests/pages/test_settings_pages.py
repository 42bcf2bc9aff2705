"""The settings of a package: who sees and does what, by the forms of the page."""

from typing import Any

import pytest

from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.owners.test_owners_http import join, members
from tests.pages.entered import entered, expire_confirmations
from tests.pages.visitor import Page, Visitor

SETTINGS = "/packages/demo/settings"
GITHUB = {"repository": "org/demo", "workflow": "release.yml"}


async def acts(page: Page) -> set[str]:
    return set(page.buttons()) - {"Sign out"}


async def publish_demo(registry: Registry) -> None:
    """ada owns demo 1.0.0 and 1.1.0, bob maintains it."""
    ada, bob = await registry.user("ada"), await registry.user("bob")
    for version in ("1.0.0", "1.1.0"):
        await ada.publish("demo", version)
    await join(ada, bob, "demo")


async def test_who_sees_what(registry: Registry):
    await publish_demo(registry)
    async with Visitor(registry.url) as stranger:
        page = await stranger.get(SETTINGS, status=303, follow=False)
        assert page.headers["Location"] == "/login?next=%2Fpackages%2Fdemo%2Fsettings"
    async with await entered(registry, "eve") as eve:
        page = await eve.get(SETTINGS, status=403)
        assert "Only owners, maintainers and admins" in page.text
        assert "Ask ada." in page.text
        assert (await eve.get(f"{SETTINGS}/audit", status=403)).title
        missing = await eve.get("/packages/nothing/settings", status=404)
        assert "There is no package of this name." in missing.text
    async with await entered(registry, "bob") as bob:
        page = await bob.get(SETTINGS)
        assert await acts(page) == {"Yank", "Deprecate"}
        assert page.headers["Cache-Control"] == "no-store"
        assert (await bob.get(f"{SETTINGS}/audit", status=403)).title
    everything = {
        "Make maintainer", "Make owner", "Remove", "Invite", "Transfer", "Yank", "Deprecate", "Add publisher",
        "Delete version", "Delete package",
    }  # fmt: skip
    async with await entered(registry, "ada") as ada:
        page = await ada.get(SETTINGS)
        assert await acts(page) == everything
        assert page.link("Add webhook").startswith("/account/webhooks?package=demo")
    async with await entered(registry, "root", admin=True) as root:
        page = await root.get(SETTINGS)
        assert await acts(page) == {"Set owners", "Yank", "Deprecate", "Delete version", "Delete package"}


async def test_a_maintainer_may_send_no_form_of_owners(registry: Registry):
    await publish_demo(registry)
    async with await entered(registry, "ada") as ada, await entered(registry, "bob") as bob:
        theirs, own = await ada.get(SETTINGS), await bob.get(SETTINGS)
        token = own.form("Yank").fields["csrf"]
        for button, fields in (
            ("Invite", {"username": "eve"}), ("Transfer", {"new_owner": "bob"}),
            ("Delete version", {"version": "1.0.0"}),
            ("Delete package", {"package": "demo"}), ("Add publisher", GITHUB),
        ):  # fmt: skip
            refused = await bob.send(theirs, button, status=403, csrf=token, **fields)
            assert "You may not" in refused.heading, button
    assert await members(registry, "demo") == {"ada": "owner", "bob": "maintainer"}


async def test_owners_invite_withdraw_change_roles_and_remove(registry: Registry):
    await publish_demo(registry)
    eve = await registry.user("eve")
    async with await entered(registry, "ada") as ada:
        page = await ada.send(await ada.get(SETTINGS), "Invite", username=" EVE ", role="owner")
        assert "The invitation is sent." in page.text
        page = await ada.send(page, "Invite", username="grace@example.org", role="maintainer")
        assert page.texts("caption + thead + tbody th[scope=row]")[2:4] == ["eve", "grace@example.org"]
        assert [each["role"] for each in (await eve.call("GET", "/auth/invitations")).json["invitations"]] == ["owner"]
        page = await ada.send(page, "Withdraw")
        page = await ada.send(page, "Withdraw")
        assert (await eve.call("GET", "/auth/invitations")).json["invitations"] == []
        page = await ada.send(page, "Make owner")
        assert await members(registry, "demo") == {"ada": "owner", "bob": "owner"}
        page = await ada.send(page, "Make maintainer", at=1)
        page = await ada.send(page, "Remove", at=1)
        assert await members(registry, "demo") == {"ada": "owner"}
        refused = await ada.send(page, "Remove", status=409)
        assert "ada is the last owner of demo" in refused.text


async def test_a_refused_form_keeps_what_was_typed_and_says_what_is_wrong(registry: Registry):
    await publish_demo(registry)
    async with await entered(registry, "ada") as ada:
        page = await ada.get(SETTINGS)
        for button, name, value, status in (
            ("Invite", "username", "nobody", 404), ("Invite", "username", "a@b@c", 400),
            ("Invite", "username", "ada", 409),
            ("Transfer", "new_owner", "nobody", 404), ("Yank", "reason", "x" * 3000, 400),
            ("Deprecate", "successor", "not a name", 400), ("Deprecate", "successor", "demo", 400),
            ("Delete version", "version", "9.9.9", 404), ("Delete package", "package", "other", 400),
            ("Add publisher", "repository", "org", 400),
        ):  # fmt: skip
            refused = await ada.send(page, button, status=status, **{name: value})
            form = refused.form(button)
            assert form.fields[name] == value, (button, value)
            assert "Nothing was changed." in refused.text
            assert "/api/" not in refused.text
            if status == 400 or name == "version":
                [wrong] = form.cssselect(f"[aria-invalid=true][name={name}]")
                described = wrong.get("aria-describedby").split()[0]
                assert refused.texts(f"#{described}") != [""]
            assert len({each.get("id") for each in refused.all("[id]")}) == len(refused.all("[id]"))
    assert (await registry.get("/packages/demo")).json["versions"][0]["yanked"] is False


async def test_versions_are_yanked_with_a_reason_and_unyanked(registry: Registry):
    await publish_demo(registry)
    async with await entered(registry, "bob") as bob:
        page = await bob.send(await bob.get(SETTINGS), "Yank", version="1.1.0", reason="loses data")
        shown = (await registry.get("/packages/demo/1.1.0")).json
        assert (shown["yanked"], shown["yank_reason"]) == (True, "loses data")
        assert "loses data" in page.text
        await bob.send(page, "Unyank")
        assert (await registry.get("/packages/demo/1.1.0")).json["yanked"] is False


async def test_a_package_is_deprecated_with_a_successor_and_undeprecated(registry: Registry):
    await publish_demo(registry)
    async with await entered(registry, "bob") as bob:
        page = await bob.send(await bob.get(SETTINGS), "Deprecate", message="Use the new one.", successor="demo-two")
        deprecation = (await registry.get("/packages/demo")).json["deprecation"]
        assert (deprecation["message"], deprecation["successor"]) == ("Use the new one.", "demo-two")
        page = await bob.send(page, "Undeprecate")
        assert (await registry.get("/packages/demo")).json["deprecation"] is None
        await bob.send(page, "Deprecate")
        assert (await registry.get("/packages/demo")).json["deprecated"] == "This package is deprecated."


async def test_a_version_and_a_package_are_deleted_by_typing_them(registry: Registry):
    await publish_demo(registry)
    async with await entered(registry, "ada") as ada:
        page = await ada.send(await ada.get(SETTINGS), "Delete version", version="1.0.0")
        assert (await registry.get("/packages/demo/versions")).json["versions"] == ["1.1.0"]
        await (await registry.user("ada")).publish("demo", "1.2.0")
        page = await ada.send(page, "Delete package", package="Demo")
        assert "All versions are deleted." in page.text
        assert await acts(page) & {"Yank", "Delete package"} == set()
    assert (await registry.get("/packages/demo")).status == 404


async def test_a_transfer_is_an_invitation_and_asks_again_who_it_is_after_a_while(registry: Registry):
    await publish_demo(registry)
    eve = await registry.user("eve")
    async with await entered(registry, "ada") as ada:
        page = await ada.get(SETTINGS)
        await expire_confirmations(registry)
        asked = await ada.send(page, "Transfer", status=403, new_owner="eve")
        assert asked.heading == "Confirm that it is you"
        assert (await eve.call("GET", "/auth/invitations")).json["invitations"] == []
        asked = await ada.send(asked, "Confirm", status=403, confirm_password="Wrong-Horse-42")
        page = await ada.send(asked, "Confirm", confirm_password="Correct-Horse-42")
        assert "The transfer waits for the user" in page.text
        [invitation] = (await eve.call("GET", "/auth/invitations")).json["invitations"]
        assert invitation["transfer"] is True
        for button, fields in (("Delete version", {"version": "1.0.0"}), ("Delete package", {"package": "demo"})):
            await expire_confirmations(registry)
            asked = await ada.send(page, button, status=403, **fields)
            assert asked.heading == "Confirm that it is you"
    assert (await registry.get("/packages/demo/1.0.0")).status == 200


async def test_an_admin_sets_owners_with_a_reason(registry: Registry):
    await publish_demo(registry)
    await registry.user("eve")
    async with await entered(registry, "root", admin=True) as root:
        page = await root.get(SETTINGS)
        refused = await root.send(page, "Set owners", status=400, owners="eve", maintainers="")
        assert refused.form("Set owners").fields["owners"] == "eve"
        await root.send(page, "Set owners", owners="eve, bob", maintainers="ada", reason="Agreed by mail.")
    assert await members(registry, "demo") == {"eve": "owner", "bob": "owner", "ada": "maintainer"}


@pytest.mark.parametrize(
    ("at", "fields", "shown"),
    [
        (0, GITHUB, "release.yml of org/demo"),
        (1, {"project": "group/demo", "ref": "main"}, "pipelines of group/demo"),
        (2, {"claims": "sub = repo\nteam=release"}, "tokens of https://ci.example"),
    ],
)
async def test_publishers_of_each_kind_are_added_and_removed(
    make_registry: MakeRegistry, at: int, fields: dict[str, Any], shown: str
):
    registry = await make_registry(REGISTRY_OIDC_ISSUERS="https://ci.example")
    await publish_demo(registry)
    owner = await registry.user("ada")
    async with await entered(registry, "ada") as ada:
        page = await ada.send(await ada.get(SETTINGS), "Add publisher", at=at, **fields)
        assert shown in page.text
        [added] = (await owner.call("GET", "/packages/demo/publishers")).json["publishers"]
        if "claims" in fields:
            assert added["claims"] == {"sub": "repo", "team": "release"}
        else:
            assert {name: added[name] for name in fields} == fields
        refused = await ada.send(page, "Add publisher", at=at, status=409, **fields)
        assert "There is such a trusted publisher already." in refused.text
        [opened] = refused.all(".publisher-forms details[open]")
        assert opened.xpath(".//form/input[@name='kind']/@value") == [added["kind"]]
        await ada.send(page, "Remove", at=2)
    assert (await owner.call("GET", "/packages/demo/publishers")).json["publishers"] == []


async def test_the_audit_log_has_filters_pages_and_csv(registry: Registry):
    await publish_demo(registry)
    owner = await registry.user("ada")
    for number in range(24):
        reason = f"reason {number}"
        await owner.call("PATCH", "/packages/demo/1.0.0", json={"yanked": True, "reason": reason})
    async with await entered(registry, "ada") as ada:
        page = await ada.get((await ada.get(SETTINGS)).link("Open the audit log"))
        assert len(page.all(".entries > li")) == 20
        assert "reason 23" in page.text
        page = await ada.get(f"{SETTINGS}/audit{page.link('Older')}")
        assert "reason 0" in page.text
        page = await ada.send(page, "Filter", action="version.publish", actor="ada")
        assert page.texts(".entry code") == ["version.publish"] * 2
        sheet = await ada.get(f"{SETTINGS}/audit{page.link('Download CSV')}")
        assert sheet.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert len(sheet.body.splitlines()) == 3
        empty = await ada.send(page, "Filter", action="version.delete")
        assert "No entries fit these filters" in empty.text
        wrong = await ada.get(f"{SETTINGS}/audit?from=yesterday", status=400)
        assert wrong.texts("#from-error") == ["Must be a day such as 2026-01-31, or a time with a zone."]


async def test_in_quarantine_owners_see_owners_and_audit_only(registry: Registry):
    await publish_demo(registry)
    admin = await registry.user("root", admin=True)
    await admin.call("PATCH", "/packages/demo", json={"quarantined": True, "reason": "It steals keys."})
    async with await entered(registry, "ada") as ada:
        page = await ada.get(SETTINGS)
        assert "This package is in quarantine. It steals keys." in page.text
        assert await acts(page) == set()
        assert page.texts(".side-nav a") == ["Owners", "Audit log"]
        assert "package.quarantine" in (await ada.get(f"{SETTINGS}/audit")).text
    async with await entered(registry, "bob") as bob:
        assert "It steals keys." in (await bob.get(SETTINGS, status=403)).text
    async with await entered(registry, "root") as root:
        assert {"Yank", "Deprecate", "Set owners", "Delete package"} <= await acts(await root.get(SETTINGS))


async def test_other_spellings_lead_to_the_package(registry: Registry):
    await (await registry.user("ada")).publish("my-lib")
    async with await entered(registry, "ada") as ada:
        page = await ada.get("/packages/My_Lib/settings")
        assert page.url.endswith("/packages/my-lib/settings")
        page = await ada.get("/packages/my-lib/settings/invite")
        assert page.url.endswith("/packages/my-lib/settings")


async def test_forms_count_against_the_limits_of_the_api(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="invite=3/hour,delete=1/hour,publishers=1/hour")
    await publish_demo(registry)  # bob's acceptance and ada's invitation count, each for its user
    owner = await registry.user("ada")
    async with await entered(registry, "ada") as ada:
        page = await ada.get(SETTINGS)
        await ada.send(page, "Invite", username="x@example.org")
        await ada.send(page, "Delete version", version="9.9.9", status=404)
        await ada.send(page, "Add publisher", status=400, repository="org")
        assert (await owner.call("DELETE", "/packages/demo/1.0.0")).status == 429
        body = {"kind": "github", **GITHUB}
        assert (await owner.call("POST", "/packages/demo/publishers", json=body)).status == 429
        await ada.send(page, "Invite", username="y@example.org")
        limited = await ada.send(page, "Invite", username="z@example.org", status=429)
        assert int(limited.headers["Retry-After"]) > 0
        assert limited.heading == "Too many requests"


async def test_a_form_without_its_token_is_refused(registry: Registry):
    await publish_demo(registry)
    async with await entered(registry, "ada") as ada:
        page = await ada.get(SETTINGS)
        for button, fields in (("Yank", {}), ("Invite", {"username": "eve"}), ("Delete package", {"package": "demo"})):
            await ada.send(page, button, status=403, csrf="", **fields)
    assert (await registry.get("/packages/demo")).status == 200


async def test_a_read_only_registry_shows_no_form_and_says_why(make_registry: MakeRegistry):
    await publish_demo(await make_registry())
    registry = await make_registry(REGISTRY_READ_ONLY="true")
    async with await entered(registry, "ada", exists=True) as ada:
        page = await ada.get(SETTINGS)
        assert await acts(page) == set()
        assert "This registry is read-only." in page.body.decode()
