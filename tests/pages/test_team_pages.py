"""The account's pages about teams and machines: invitations, pending publishers, webhooks and the audit log."""

from aiohttp import web

from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.owners.test_owners_http import invited, join, members
from tests.pages.entered import entered
from tests.pages.visitor import Visitor
from tests.until import until
from tests.webhooks.receiver import LOCAL, receiving

PATHS = ("/account/invitations", "/account/publishers", "/account/webhooks", "/account/audit")


async def test_strangers_are_led_to_the_sign_in_and_users_see_empty_pages_that_say_what_to_do(registry: Registry):
    async with Visitor(registry.url) as stranger:
        for path in PATHS:
            page = await stranger.get(path, status=303, follow=False)
            assert page.headers["Location"] == f"/login?next={path.replace('/', '%2F')}"
    async with await entered(registry, "ada") as ada:
        titles = set()
        for path in PATHS:
            page = await ada.get(path)
            assert page.headers["Cache-Control"] == "no-store"
            assert page.all(".side-nav [aria-current=page]")[0].get("href") == path
            titles.add(page.title)
            if path != "/account/audit":
                assert page.texts(".empty b")
        assert len(titles) == len(PATHS)


async def test_invitations_are_accepted_and_declined(registry: Registry):
    owner, _ = await registry.user("ada"), await registry.user("bob")
    for name in ("demo", "other"):
        await owner.publish(name)
        assert (await invited(owner, name, "maintainer", username="bob")).status == 201
    async with await entered(registry, "bob") as bob:
        page = await bob.get("/account/invitations")
        assert "ada invites you to be a maintainer." in page.text
        page = await bob.send(page, "Decline", at=1)
        assert await members(registry, "other") == {"ada": "owner"}
        old = page
        page = await bob.send(page, "Accept")
        assert await members(registry, "demo") == {"ada": "owner", "bob": "maintainer"}
        assert page.texts(".empty b") == ["No open invitations"]
        gone = await bob.send(old, "Accept", status=404)
        assert "There is no such invitation for you." in gone.text
        await bob.send(old, "Accept", status=403, csrf="")


async def test_a_transfer_says_what_it_does_before_it_is_accepted(registry: Registry):
    owner = await registry.user("ada")
    await owner.publish("demo")
    await join(owner, await registry.user("eve"), "demo")
    await registry.user("bob")
    assert (await owner.call("POST", "/packages/demo/transfer", json={"username": "bob"})).status == 201
    async with await entered(registry, "bob") as bob:
        page = await bob.get("/account/invitations")
        assert "ada wants to transfer it to you. You become its only owner." in page.text
        await bob.send(page, "Accept")
    assert await members(registry, "demo") == {"bob": "owner", "eve": "maintainer"}


async def test_an_invitation_by_mail_needs_a_verified_address(registry: Registry):
    owner = await registry.user("ada")
    await owner.publish("demo")
    sent = await invited(owner, "demo", "owner", email="bob@example.org")
    await registry.user("bob", email="bob@example.org")
    async with await entered(registry, "bob") as bob:
        page = await bob.get("/account/invitations")
        assert page.texts(".empty b") == ["No open invitations"]
        other = await bob.get("/account/publishers")
        answer = await bob.call(
            "POST",
            "/account/invitations/accept",
            data={"csrf": other.form("Add publisher").fields["csrf"], "id": sent.json["id"]},
        )
        assert answer.status == 403
        assert "must be verified" in answer.text


async def test_a_pending_publisher_is_added_for_a_new_name_and_removed(registry: Registry):
    user = await registry.user("ada")
    await user.publish("taken")
    fields = {"repository": "org/demo", "workflow": "release.yml"}
    async with await entered(registry, "ada") as ada:
        page = await ada.send(await ada.get("/account/publishers"), "Add publisher", package="Demo", **fields)
        assert page.texts("tbody th") == ["demo"]
        [added] = (await user.call("GET", "/auth/publishers")).json["publishers"]
        assert (added["package"], added["repository"], added["environment"]) == ("demo", "org/demo", None)
        for package, status in (("taken", 409), ("a b", 400), ("demo", 409)):
            refused = await ada.send(page, "Add publisher", status=status, package=package, **fields)
            assert refused.form("Add publisher").fields["package"] == package
            assert refused.texts("[role=alert], .field-error")
        await ada.send(page, "Remove")
    assert (await user.call("GET", "/auth/publishers")).json["publishers"] == []


async def test_a_webhook_shows_its_secret_once_and_is_changed_disabled_and_removed(make_registry: MakeRegistry):
    registry = await make_registry(**LOCAL)
    user = await registry.user("ada")
    await user.publish("demo")
    async with await entered(registry, "ada") as ada:
        page = await ada.get("/account/webhooks?package=demo")
        made = await ada.send(
            page, "Add webhook", url="http://127.0.0.1:9/", events=["version.published", "package.*"], description="CI"
        )
        [secret] = made.texts("[aria-label=Secret]")
        assert secret.startswith("whsec_")
        [hook] = (await user.call("GET", "/webhooks")).json["webhooks"]
        assert hook["scope"] == {"package": "demo"}
        assert (hook["events"], hook["description"]) == (["version.published", "package.*"], "CI")
        path = f"/account/webhooks/{hook['id']}"
        page = await ada.get(path)
        assert secret not in page.body.decode()
        rotated = await ada.send(page, "New secret")
        assert rotated.texts("[aria-label=Secret]") not in ([], [secret])
        page = await ada.send(page, "Save", url="http://127.0.0.1:9/new", events=["*"])
        [hook] = (await user.call("GET", "/webhooks")).json["webhooks"]
        assert (hook["url"], hook["events"]) == ("http://127.0.0.1:9/new", ["*"])
        page = await ada.send(page, "Disable")
        assert "This webhook is disabled" in page.text
        refused = await ada.send(page, "Ping", status=409)
        assert "This webhook is disabled." in refused.text
        page = await ada.send(page, "Enable")
        page = await ada.send(page, "Remove")
        assert page.texts(".empty b") == ["No webhooks yet"]
        await ada.get(path, status=404)


async def test_a_refused_webhook_keeps_what_was_typed(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="webhook=7/hour")
    async with await entered(registry, "ada") as ada:
        page = await ada.get("/account/webhooks")
        for fields, wrong in (
            ({"url": "http://example.com/"}, "url"),
            ({"url": "https://ci.example.invalid/", "events": []}, "events"),
            ({"url": "https://ci.example.invalid/", "scope": "package", "package": ""}, "package"),
            ({"url": "https://ci.example.invalid/", "scope": "package", "package": "missing"}, "package"),
            ({"url": "https://ci.example.invalid/", "scope": "all"}, None),
        ):
            given = {"description": "mine", **fields}
            page.form("Add webhook").fields  # noqa: B018 - fails without the form
            raw = {**given, "csrf": page.form("Add webhook").fields["csrf"]}
            refused = await ada.call("POST", "/account/webhooks", data={"scope": "owner", "events": "*", **raw})
            assert refused.status in (400, 403, 404), fields
            form = refused.form("Add webhook")
            assert (form.fields["url"], form.fields["description"]) == (fields["url"], "mine")
            if wrong:
                assert refused.texts(f"#{wrong}-error"), fields
            else:
                assert "Only an admin may do this." in refused.text
        await ada.send(page, "Add webhook", status=403, csrf="")
        limited = await ada.send(page, "Add webhook", status=400, url="http://x/")
        limited = await ada.send(page, "Add webhook", status=429, url="http://x/")
        assert limited.headers["Retry-After"]
    async with await entered(registry, "root", admin=True) as root:
        assert "All packages of the registry" in (await root.get("/account/webhooks")).text


async def test_deliveries_are_shown_with_their_attempts_and_sent_again(make_registry: MakeRegistry):
    registry = await make_registry(**LOCAL)
    user = await registry.user("ada")

    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500, text="<b>broken</b>")

    async with receiving() as receiver, await entered(registry, "ada") as ada:
        receiver.answers["/"] = refuse
        page = await ada.send(await ada.get("/account/webhooks"), "Add webhook", url=receiver.url())
        [hook] = (await user.call("GET", "/webhooks")).json["webhooks"]
        path = f"/account/webhooks/{hook['id']}"
        page = await ada.send(page, "Ping")
        assert "The ping is on its way." in page.text
        await until(lambda: len(receiver.received) == 1)

        async def attempted() -> bool:
            return "status 500" in (await ada.get(path)).text

        await until(attempted)
        page = await ada.get(path)
        assert page.texts(".attempt pre") == ["<b>broken</b>"]
        del receiver.answers["/"]
        page = await ada.send(page, "Redeliver")
        await until(lambda: len(receiver.received) >= 2)
        assert len(set(receiver.ids("/"))) == 1
        published = await user.publish("demo")
        await until(lambda: "version.published" in str([each.body for each in receiver.received]))
        before = len(receiver.received)
        page = await ada.get(path)
        refused = await ada.send(page, "Redeliver", at=-1, status=400, from_seq="x", to_seq="2")
        assert refused.texts("#from_seq-error") == ["Must be the number of a change."]
        seq = str(published["seq"])
        await ada.send(page, "Redeliver", at=-1, from_seq=seq, to_seq=seq)
        await until(lambda: len(receiver.received) > before)
    async with await entered(registry, "eve") as eve:
        await eve.get(path, status=404)


async def test_the_account_has_its_own_audit_log(registry: Registry):
    user = await registry.user("ada")
    await user.publish("demo")
    await (await registry.user("bob")).publish("other")
    async with await entered(registry, "ada") as ada:
        page = await ada.get("/account/audit")
        assert "version.publish" in page.texts(".entry code")
        assert "other" not in page.text
        page = await ada.send(page, "Filter", package="demo")
        assert set(page.texts(".entry a")) == {"demo"}
        sheet = await ada.get(f"/account/audit{page.link('Download CSV')}")
        assert sheet.body.startswith(b"at,action,actor,")


async def test_a_read_only_registry_shows_no_form_on_pages_of_the_account(make_registry: MakeRegistry):
    owner = await (await make_registry()).user("ada")
    await owner.publish("demo")
    await owner.call("POST", "/packages/demo/invitations", json={"username": "bob", "role": "owner"})
    registry = await make_registry(REGISTRY_READ_ONLY="true")
    async with await entered(registry, "ada", exists=True) as ada:
        for path in PATHS:
            page = await ada.get(path)
            assert set(page.buttons()) <= {"Sign out"}, path
            assert "This registry is read-only." in page.body.decode(), path
