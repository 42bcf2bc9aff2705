"""Making, changing, listing and ending webhooks over HTTP."""

from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from registry.db.engine import Statement
from registry.keys import DB
from registry.webhooks.deliveries import log
from tests.changes.events import value
from tests.client import Registry, User
from tests.conftest import MakeRegistry
from tests.contracts.test_access import scoped
from tests.until import until
from tests.web.shape import check_error
from tests.webhooks.receiver import LOCAL, Receiver, answering, deliveries, hook

URL = "https://ci.example.invalid/hook"


async def make(user: User, **members: Any) -> Any:
    return await user.call("POST", "/webhooks", json={"url": URL, "scope": {"owner": "me"}, **members})


async def test_a_new_webhook_shows_its_secret_once(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo")
    made = await make(ada, scope={"package": "demo"}, events=["version.*"], description="CI")
    assert made.status == 201
    secret = made.json["secret"]
    assert secret.startswith("whsec_")
    shown = (await ada.call("GET", f"/webhooks/{made.json['id']}")).json
    assert shown == {name: value for name, value in made.json.items() if name != "secret"}
    assert shown["scope"] == {"package": "demo"}
    assert (shown["enabled"], shown["disabled_at"], shown["disabled_reason"]) == (True, None, None)
    listed = (await ada.call("GET", "/webhooks")).json
    assert listed == {"webhooks": [shown], "next_cursor": None, "limit": 20}
    async with registry.app[DB].read() as conn:
        stored = await conn.value(Statement("SELECT secret FROM webhooks", {}))
        audited = await conn.value(Statement("SELECT details FROM audit_entries WHERE action = 'webhook.create'", {}))
    assert secret not in stored
    assert secret not in str(audited)


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"events": ["version.renamed"]}, "events"),
        ({"events": []}, "events"),
        ({"events": ["version"]}, "events"),
        ({"url": "http://ci.example.invalid/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "https://localhost/"}, "url"),
        ({"url": "https://[::1]/"}, "url"),
        ({"url": "https://user:password@ci.example.invalid/"}, "url"),
        ({"scope": "mine"}, "scope"),
        ({"scope": {"owner": "ada"}}, "scope"),
        ({"description": "x" * 501}, "description"),
    ],
)
async def test_wrong_values_are_400(registry: Registry, members: dict[str, Any], field: str):
    ada = await registry.user("ada")
    answer = await make(ada, **members)
    check_error(answer, 400)
    assert answer.json["errors"][0]["field"].startswith(field)


async def test_only_those_with_a_role_make_webhooks_of_a_package(registry: Registry):
    ada, eve = await registry.user("ada"), await registry.user("eve")
    await ada.publish("demo")
    check_error(await make(eve, scope={"package": "demo"}), 403)
    check_error(await make(ada, scope={"package": "absent"}), 404)
    check_error(await make(ada, scope="all"), 403)
    for scopes in (("read",), ("publish",), ("publish", "yank", "read")):
        headers = await scoped(ada, *scopes)
        refused = await registry.call(
            "POST", "/webhooks", headers=headers, json={"url": URL, "scope": {"package": "demo"}}
        )
        check_error(refused, 403)
        check_error(await registry.get("/webhooks", headers=headers), 403)
    managing = await scoped(ada, "manage")
    made = await registry.call("POST", "/webhooks", headers=managing, json={"url": URL, "scope": {"package": "demo"}})
    assert made.status == 201


async def test_a_bound_token_reaches_only_webhooks_of_its_packages(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo")
    await ada.publish("other")
    mine = await hook(ada, URL, {"package": "demo"})
    others = [await hook(ada, URL, {"package": "other"}), await hook(ada, URL, {"owner": "me"})]
    bound = await scoped(ada, "manage", packages=["demo"])
    listed = (await registry.get("/webhooks", headers=bound)).json["webhooks"]
    assert [each["id"] for each in listed] == [mine["id"]]
    for other in others:
        check_error(await registry.get(f"/webhooks/{other['id']}", headers=bound), 404)
    for scope in ({"package": "other"}, {"owner": "me"}):
        check_error(await registry.call("POST", "/webhooks", headers=bound, json={"url": URL, "scope": scope}), 403)


async def test_a_bound_token_does_not_learn_of_other_packages_in_a_private_registry(make_registry: MakeRegistry):
    ada = await (await make_registry()).user("ada")
    private = await make_registry(REGISTRY_ACCESS="private")
    await ada.publish("demo")
    await ada.publish("other")
    bound = await scoped(ada, "manage", packages=["demo"])
    for name, status in (("other", 404), ("absent", 404), ("demo", 201)):
        body = {"url": URL, "scope": {"package": name}}
        assert (await private.call("POST", "/webhooks", headers=bound, json=body)).status == status, name


async def test_a_webhook_exists_only_for_its_maker(registry: Registry):
    ada, eve = await registry.user("ada"), await registry.user("eve")
    made = await hook(ada, URL, {"owner": "me"})
    path = f"/webhooks/{made['id']}"
    for method, below in (("GET", ""), ("DELETE", ""), ("POST", "/rotate"), ("POST", "/ping"), ("GET", "/deliveries")):
        check_error(await eve.call(method, path + below), 404)
    check_error(await eve.call("PATCH", path, json={"enabled": False}), 404)
    assert (await ada.call("DELETE", path)).status == 204
    check_error(await ada.call("GET", path), 404)


async def test_a_change_replaces_only_what_is_given(registry: Registry):
    ada = await registry.user("ada")
    made = await hook(ada, URL, {"owner": "me"}, events=["version.published"], description="CI")
    path = f"/webhooks/{made['id']}"
    changed = await ada.call("PATCH", path, json={"events": ["*"], "enabled": False})
    assert changed.status == 200
    shown = changed.json
    assert (shown["url"], shown["events"], shown["description"]) == (URL, ["*"], "CI")
    assert not shown["enabled"]
    assert shown["disabled_at"]
    assert shown["disabled_reason"]
    check_error(await ada.call("POST", f"{path}/ping"), 409)
    check_error(await ada.call("PATCH", path, json={"url": "https://10.0.0.1/"}), 400)
    revived = (await ada.call("PATCH", path, json={"enabled": True})).json
    assert (revived["enabled"], revived["disabled_at"], revived["disabled_reason"]) == (True, None, None)


async def test_the_list_has_pages(registry: Registry):
    ada = await registry.user("ada")
    made = [(await hook(ada, URL, {"owner": "me"}))["id"] for _ in range(3)]
    first = (await ada.call("GET", "/webhooks?limit=2")).json
    rest = (await ada.call("GET", f"/webhooks?limit=2&cursor={first['next_cursor']}")).json
    assert [each["id"] for each in first["webhooks"] + rest["webhooks"]] == made
    assert rest["next_cursor"] is None


async def test_the_reference_library_verifies_pings_and_both_secrets_after_a_rotation(
    sending: Registry, receiver: Receiver
):
    ada = await sending.user("ada")
    made = await hook(ada, receiver.url(), {"owner": "me"})
    path = f"/webhooks/{made['id']}"
    pinged = await ada.call("POST", f"{path}/ping")
    assert pinged.status == 202
    await until(lambda: len(receiver.received) == 1)
    [ping] = receiver.received
    assert ping.id == pinged.json["delivery"]
    assert ping.json["type"] == "ping"
    assert ping.json["data"] == {}
    Webhook(made["secret"]).verify(ping.body, ping.headers)
    rotated = (await ada.call("POST", f"{path}/rotate")).json
    await ada.call("POST", f"{path}/ping")
    await until(lambda: len(receiver.received) == 2)
    for secret in (made["secret"], rotated["secret"]):
        Webhook(secret).verify(receiver.received[1].body, receiver.received[1].headers)
    async with sending.app[DB].transaction() as conn:
        await conn.run(Statement("UPDATE webhooks SET old_secret_until = now() - interval '1 second'", {}))
    await ada.call("POST", f"{path}/ping")
    await until(lambda: len(receiver.received) == 3)
    last = receiver.received[2]
    Webhook(rotated["secret"]).verify(last.body, last.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(made["secret"]).verify(last.body, last.headers)


async def test_a_delivery_contains_the_change(sending: Registry, receiver: Receiver):
    ada = await sending.user("ada")
    await ada.publish("demo", "0.9.0")
    made = await hook(ada, receiver.url(), {"package": "demo"}, events=["version.*"])
    await hook(ada, receiver.url("/yanks"), {"package": "demo"}, events=["version.yanked"])
    await ada.publish("other")
    await ada.publish("demo", "1.0.0")
    await until(lambda: len(receiver.of("/")) == 1)
    [received] = receiver.of("/")
    changes = (await sending.get("/changes?limit=1000")).json["changes"]
    change = next(each for each in changes if each["version"] == "1.0.0" and each["package"] == "demo")
    assert received.json == {"type": "version.published", "timestamp": change["at"], "data": change}
    Webhook(made["secret"]).verify(received.body, received.headers)

    async def is_delivered() -> bool:
        return (await deliveries(ada, made["id"]))[0]["state"] == "delivered"

    await until(is_delivered)
    [shown] = await deliveries(ada, made["id"])
    assert (shown["id"], shown["seq"], shown["type"]) == (received.id, change["seq"], "version.published")
    [attempt] = shown["attempts"]
    assert (attempt["status"], attempt["error"], attempt["response"]) == (200, None, "")
    assert not receiver.of("/yanks")


async def test_redelivery_of_one_keeps_its_id_and_of_a_range_makes_new_ones(sending: Registry, receiver: Receiver):
    ada = await sending.user("ada")
    for version in ("1.0.0", "1.1.0"):
        await ada.publish("demo", version)
    made = await hook(ada, receiver.url(), {"package": "demo"})
    await ada.publish("demo", "1.2.0")
    await until(lambda: len(receiver.received) == 1)
    path = f"/webhooks/{made['id']}/redeliver"
    seq = receiver.received[0].json["data"]["seq"]
    assert (await ada.call("POST", path, json={"delivery": receiver.received[0].id})).status == 202
    await until(lambda: len(receiver.received) == 2)
    assert receiver.received[1].id == receiver.received[0].id
    assert (await ada.call("POST", path, json={"from_seq": 0, "to_seq": seq})).status == 202
    await until(lambda: len(receiver.received) == 6)
    changes = (await sending.get("/changes?limit=1000")).json["changes"]
    assert sorted(receiver.seqs("/")[2:]) == [each["seq"] for each in changes]
    assert len({each.id for each in receiver.received[2:]} | {receiver.received[0].id}) == 5
    check_error(await ada.call("POST", path, json={"delivery": "msg_" + "0" * 32}), 404)
    for wrong in ({}, {"from_seq": 1}, {"from_seq": 2, "to_seq": 1}, {"delivery": "msg_1", "from_seq": 1, "to_seq": 1}):
        check_error(await ada.call("POST", path, json=wrong), 400)


async def test_a_range_ends_with_the_log_and_is_limited(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    ada = await registry.user("ada")
    await ada.publish("demo")
    made = await hook(ada, URL, {"package": "demo"})
    path = f"/webhooks/{made['id']}/redeliver"
    wide = {"from_seq": 0, "to_seq": 1 << 40}
    assert (await ada.call("POST", path, json=wide)).json["queued"] == 2
    assert (await ada.call("POST", path, json={"from_seq": 1 << 39, "to_seq": 1 << 40})).json["queued"] == 0
    monkeypatch.setattr(log, "MAX_RANGE", 2)
    check_error(await ada.call("POST", path, json=wide), 400)


async def test_a_redelivered_change_has_its_hash_although_no_worker_has_chained_it(make_registry: MakeRegistry):
    registry = await make_registry(with_background=False)
    ada = await registry.user("ada")
    await ada.publish("demo")
    made = await hook(ada, URL, {"package": "demo"})
    queued = await ada.call("POST", f"/webhooks/{made['id']}/redeliver", json={"from_seq": 0, "to_seq": 1 << 40})
    assert queued.json["queued"] == 2
    unchained = "SELECT count(*) FROM webhook_deliveries LEFT JOIN changes USING (seq) WHERE hash IS NULL"
    assert await value(registry.app[DB], unchained) == 0


async def test_a_failure_is_retried_under_the_same_id_and_the_last_one_is_final(sending: Registry, receiver: Receiver):
    ada = await sending.user("ada")
    await ada.publish("demo")
    receiver.answers["/"] = answering(500, "broken \0 here")
    made = await hook(ada, receiver.url(), {"package": "demo"})
    await ada.publish("demo", "1.1.0")
    make_due = Statement("UPDATE webhook_deliveries SET due_at = now() WHERE state = 'pending'", {})

    async def attempts() -> list[Any]:
        found = await deliveries(ada, made["id"])
        return found[0]["attempts"] if found else []

    for tries in range(1, 9):

        async def has_tried(number: int = tries) -> bool:
            return len(await attempts()) == number

        await until(has_tried)
        [shown] = await deliveries(ada, made["id"])
        assert shown["state"] == ("pending" if tries < 8 else "failed")
        async with sending.app[DB].transaction() as conn:
            await conn.run(make_due)
    assert len({each.id for each in receiver.received}) == 1
    attempt = shown["attempts"][0]
    assert (attempt["status"], attempt["response"]) == (500, "broken \ufffd here")
    assert (await ada.call("GET", f"/webhooks/{made['id']}")).json["failing_since"]


async def test_410_disables_and_a_patch_revives(sending: Registry, receiver: Receiver):
    ada = await sending.user("ada")
    await ada.publish("demo")
    receiver.answers["/"] = answering(410)
    made = await hook(ada, receiver.url(), {"package": "demo"})
    path = f"/webhooks/{made['id']}"

    async def is_disabled() -> bool:
        return not (await ada.call("GET", path)).json["enabled"]

    await ada.publish("demo", "1.1.0")
    await until(is_disabled)
    shown = (await ada.call("GET", path)).json
    assert "410" in shown["disabled_reason"]
    audited = (await ada.call("GET", "/auth/audit?action=webhook.disable")).json["entries"]
    assert audited[0]["details"]["webhook"] == made["id"]
    await ada.publish("demo", "1.2.0")
    del receiver.answers["/"]
    assert (await ada.call("PATCH", path, json={"enabled": True})).json["enabled"]
    await ada.publish("demo", "1.3.0")
    await until(lambda: len(receiver.received) == 2)
    assert [each.json["data"]["version"] for each in receiver.received] == ["1.1.0", "1.3.0"]


async def test_five_days_without_a_success_disable(sending: Registry, receiver: Receiver):
    ada = await sending.user("ada")
    await ada.publish("demo")
    receiver.answers["/"] = answering(503)
    made = await hook(ada, receiver.url(), {"package": "demo"})
    async with sending.app[DB].transaction() as conn:
        await conn.run(Statement("UPDATE webhooks SET failing_since = now() - interval '5 days'", {}))

    async def is_disabled() -> bool:
        return not (await ada.call("GET", f"/webhooks/{made['id']}")).json["enabled"]

    await ada.publish("demo", "1.1.0")
    await until(is_disabled)


async def test_http_and_private_addresses_need_the_operator(make_registry: MakeRegistry, receiver: Receiver):
    """Also for a webhook that was made before the operator took the permission back."""
    first = await make_registry(**LOCAL, with_background=False)
    ada = await first.user("ada")
    await ada.publish("demo")
    made = await hook(ada, receiver.url(), {"package": "demo"})
    await make_registry(REGISTRY_WEBHOOK_HTTP="true")
    await ada.publish("demo", "1.1.0")

    async def is_refused() -> bool:
        found = await deliveries(ada, made["id"])
        return bool(found and found[0]["attempts"])

    await until(is_refused)
    [attempt] = (await deliveries(ada, made["id"]))[0]["attempts"]
    assert attempt["status"] is None
    assert "not public" in attempt["error"] or "not allowed" in attempt["error"]
    assert not receiver.received
