"""What webhooks send when their maker, the maker's role or the package ends."""

from registry.accounts.administer import deactivate, set_role
from registry.keys import DB, SETTINGS
from registry.webhooks.deliveries.purge import purge
from tests.changes.events import sql, value
from tests.client import PASSWORD, Registry
from tests.conftest import MakeRegistry
from tests.mail.server import mail_server, text_of
from tests.owners.test_owners_http import join
from tests.until import until
from tests.web.shape import check_error
from tests.webhooks.receiver import LOCAL, Receiver, answering, hook


async def test_a_webhook_is_silent_once_the_role_ends(sending: Registry, receiver: Receiver):
    ada, bob, root = await sending.user("ada"), await sending.user("bob"), await sending.user("root", admin=True)
    await ada.publish("demo")
    sent = await ada.call("POST", "/packages/demo/invitations", json={"username": "bob", "role": "maintainer"})
    assert (await bob.call("POST", f"/auth/invitations/{sent.json['id']}/accept")).status == 200
    of_bob = await hook(bob, receiver.url("/bob"), {"package": "demo"})
    of_root = await hook(root, receiver.url("/root"), "all")
    await hook(ada, receiver.url("/ada"), {"package": "demo"})
    await ada.publish("demo", "1.1.0")
    await until(lambda: all(receiver.of(path) for path in ("/bob", "/root", "/ada")))
    await set_role(sending.app[DB], "root", "user")
    assert (await ada.call("DELETE", "/packages/demo/owners/bob")).status == 204
    await ada.publish("demo", "1.2.0")
    await until(lambda: len(receiver.of("/ada")) == 3)
    assert len(receiver.of("/bob")) == len(receiver.of("/root")) == 1
    redelivery = {"delivery": receiver.of("/bob")[0].id}
    check_error(await bob.call("POST", f"/webhooks/{of_bob['id']}/redeliver", json=redelivery), 403)
    assert (await bob.call("GET", f"/webhooks/{of_bob['id']}")).json["silent"]
    assert of_root["silent"] is False


async def test_a_former_owner_hears_of_the_transfer_and_nothing_after_it(sending: Registry, receiver: Receiver):
    ada, bob = await sending.user("ada"), await sending.user("bob")
    await ada.publish("demo")
    await hook(ada, receiver.url("/ada"), {"package": "demo"})
    sent = await ada.call("POST", "/packages/demo/transfer", json={"username": "bob"})
    assert (await bob.call("POST", f"/auth/invitations/{sent.json['id']}/accept")).status == 200
    await hook(bob, receiver.url("/bob"), {"package": "demo"})
    await bob.publish("demo", "2.0.0")
    await until(lambda: bool(receiver.of("/bob") and receiver.of("/ada")))
    assert [each.json["type"] for each in receiver.of("/ada")] == ["package.transferred"]
    assert (await bob.call("DELETE", "/packages/demo/1.0.0")).status < 300
    assert (await bob.call("DELETE", "/packages/demo/2.0.0")).status < 300
    await until(lambda: len(receiver.of("/bob")) == 3)
    assert [each.json["type"] for each in receiver.of("/bob")][1:] == ["version.deleted"] * 2


async def test_a_deactivated_user_is_sent_nothing(sending: Registry, receiver: Receiver):
    """Not even what waits: a retry, and a ping."""
    ada, bob = await sending.user("ada"), await sending.user("bob")
    await ada.publish("demo")
    receiver.answers["/ada"] = answering(500)
    made = await hook(ada, receiver.url("/ada"), {"owner": "me"})
    pinged = await hook(ada, receiver.url("/pinged"), {"package": "demo"})
    await join(ada, bob, "demo")
    await until(lambda: bool(receiver.of("/ada") and receiver.of("/pinged")))
    other = await hook(bob, receiver.url("/bob"), {"package": "demo"})
    before = len(receiver.of("/ada")), len(receiver.of("/pinged"))
    await deactivate(sending.app[DB], "ada")
    add_ping = "INSERT INTO webhook_deliveries (webhook_id, type, is_repeat) SELECT {}, 'ping', true"
    await sql(sending.app[DB], add_ping.format(pinged["id"]))
    await sql(sending.app[DB], "UPDATE webhook_deliveries SET due_at = now() WHERE state = 'pending'")
    await bob.publish("demo", "1.1.0")
    waiting = "SELECT count(*) FROM webhook_deliveries WHERE state = 'pending' AND webhook_id <> {}"

    async def is_over() -> bool:
        return not await value(sending.app[DB], waiting.format(other["id"]))

    await until(lambda: bool(receiver.of("/bob")))
    await until(is_over)
    assert (len(receiver.of("/ada")), len(receiver.of("/pinged"))) == before
    failed = f"SELECT attempts->-1->>'error' FROM webhook_deliveries WHERE webhook_id = {made['id']}"
    assert "role" in await value(sending.app[DB], failed)


async def test_the_end_of_an_account_ends_its_webhooks(sending: Registry, receiver: Receiver):
    ada, bob = await sending.user("ada"), await sending.user("bob")
    await ada.publish("demo")
    await join(ada, bob, "demo")
    for scope in ({"package": "demo"}, {"owner": "me"}):
        await hook(bob, receiver.url("/bob"), scope)
    await hook(ada, receiver.url("/ada"), {"package": "demo"})
    ended = await bob.call("DELETE", "/auth/me", json={"password": PASSWORD})
    assert ended.status < 300, ended.body
    assert await value(sending.app[DB], "SELECT count(*) FROM webhooks WHERE deleted_at IS NULL") == 1
    await ada.publish("demo", "1.1.0")
    await until(lambda: len(receiver.of("/ada")) == 2)
    assert [each.json["type"] for each in receiver.of("/ada")] == ["package.owners_changed", "version.published"]
    assert not receiver.of("/bob")
    await purge(sending.app[DB], sending.app[SETTINGS].webhooks.retention)
    assert await value(sending.app[DB], "SELECT count(*) FROM webhooks") == 1


async def test_a_webhook_hears_of_the_quarantine_of_its_package(sending: Registry, receiver: Receiver):
    ada, root = await sending.user("ada"), await sending.user("root", admin=True)
    await ada.publish("demo")
    await hook(ada, receiver.url(), {"package": "demo"})
    await hook(ada, receiver.url("/owner"), {"owner": "me"})
    quarantined = await root.call("PATCH", "/packages/demo", json={"quarantined": True, "reason": "malware"})
    assert quarantined.status < 300, quarantined.body
    await until(lambda: len(receiver.received) == 2)
    assert {each.json["type"] for each in receiver.received} == {"package.quarantined"}


async def test_the_maker_is_told_by_mail_that_a_webhook_was_disabled(make_registry: MakeRegistry, receiver: Receiver):
    async with mail_server() as mailbox:
        registry = await make_registry(**LOCAL, REGISTRY_SMTP_URL=mailbox.url)
        ada = await registry.user("ada", email="ada@example.com")
        receiver.answers["/secret-path"] = answering(410)
        made = await hook(ada, receiver.url("/secret-path"), {"owner": "me"})
        assert (await ada.call("POST", f"/webhooks/{made['id']}/ping")).status == 202
        told = text_of(await mailbox.wait_for("ada@example.com", "webhook was disabled"))
    assert f"webhook {made['id']} to 127.0.0.1:{receiver.port}" in told
    assert "410 Gone" in told
    assert "secret-path" not in told
