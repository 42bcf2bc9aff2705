"""Reports of packages over HTTP."""

from tests.client import Registry
from tests.conftest import MakeRegistry

TEXT = "It sends the environment to evil.example."


async def test_an_admin_reads_a_report_closes_it_and_opens_it_again(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    admin = await registry.user("root", admin=True)
    await ada.publish("demo")
    sent = await bob.call("POST", "/packages/demo/report", json={"kind": "malware", "text": TEXT})
    assert (sent.status, sent.json["package"], sent.json["kind"]) == (202, "demo", "malware")
    [shown] = (await admin.call("GET", "/admin/reports")).json["reports"]
    assert shown == {
        "id": sent.json["id"], "at": sent.json["at"], "package": "demo", "kind": "malware", "text": TEXT,
        "username": "bob", "closed": False, "closed_at": None,
    }  # fmt: skip
    address = f"/admin/reports/{shown['id']}"
    for _ in range(2):
        closed = await admin.call("PATCH", address, json={"closed": True})
        assert (closed.status, closed.json["closed"]) == (200, True)
        assert closed.json["closed_at"].endswith("Z")
    assert (await admin.call("GET", "/admin/reports?closed=false")).json["reports"] == []
    assert (await admin.call("GET", "/admin/reports?closed=true")).json["reports"] == [closed.json]
    opened = await admin.call("PATCH", address, json={"closed": False})
    assert opened.json == shown
    acts = [entry["action"] for entry in (await admin.call("GET", "/admin/audit")).json["entries"]]
    assert [act for act in acts if act.startswith("report")] == ["report.open", "report.close", "report.create"]


async def test_owners_do_not_learn_who_reported_their_package(registry: Registry):
    ada, bob = await registry.user("ada"), await registry.user("bob")
    await ada.publish("demo")
    assert (await bob.call("POST", "/packages/demo/report", json={"kind": "spam", "text": "x"})).status == 202
    entries = (await ada.call("GET", "/packages/demo/audit")).json["entries"]
    assert [entry["action"] for entry in entries] == ["version.publish"]
    mine = (await bob.call("GET", "/auth/audit")).json["entries"]
    assert "report.create" in [entry["action"] for entry in mine]


async def test_reports_come_in_pages_newest_first(registry: Registry):
    ada, admin = await registry.user("ada"), await registry.user("root", admin=True)
    await ada.publish("demo")
    for number in range(5):
        body = {"kind": "other", "text": str(number)}
        assert (await ada.call("POST", "/packages/demo/report", json=body)).status == 202
    texts, cursor = [], ""
    while True:
        page = (await admin.call("GET", f"/admin/reports?limit=2{cursor}")).json
        texts.append([each["text"] for each in page["reports"]])
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert texts == [["4", "3"], ["2", "1"], ["0"]]


async def test_wrong_reports_are_refused(registry: Registry):
    ada, admin = await registry.user("ada"), await registry.user("root", admin=True)
    await ada.publish("demo")
    for body in (
        {}, {"kind": "malware"}, {"text": "x"}, {"kind": "rude", "text": "x"}, {"kind": "spam", "text": ""},
        {"kind": "spam", "text": "  "}, {"kind": "spam", "text": "x" * 5001}, {"kind": "spam", "text": 5},
    ):  # fmt: skip
        assert (await ada.call("POST", "/packages/demo/report", json=body)).status == 400, body
    good = {"kind": "spam", "text": "x"}
    assert (await ada.call("POST", "/packages/nothing/report", json=good)).status == 404
    assert (await ada.call("GET", "/packages/demo/report")).status == 405
    assert (await registry.call("POST", "/packages/demo/report", json=good)).status == 401
    assert (await ada.call("GET", "/admin/reports")).status == 403
    assert (await admin.call("GET", "/admin/reports")).json == {"reports": [], "next_cursor": None, "limit": 20}
    for number in ("1", "x", "9" * 30):
        assert (await admin.call("PATCH", f"/admin/reports/{number}", json={"closed": True})).status == 404
    assert (await admin.call("GET", "/admin/reports?closed=maybe")).status == 400


async def test_reports_have_a_rate_limit_of_their_own(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="package_report=2/hour,register=off,login=off,publish=off")
    ada = await registry.user("ada")
    await ada.publish("demo")
    body = {"kind": "spam", "text": "x"}
    statuses = [(await ada.call("POST", "/packages/demo/report", json=body)).status for _ in range(3)]
    assert statuses == [202, 202, 429]
