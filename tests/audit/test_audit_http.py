"""The audit log over HTTP: who sees what, filters, pages, CSV, retention."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest

from registry.audit.purge import purge
from registry.keys import DB
from tests.accounts.test_access_http import token_of
from tests.client import PASSWORD, Registry, User

AGENT = {"User-Agent": "audited/1.0"}


async def entries(user: User, path: str) -> list[dict[str, Any]]:
    answer = await user.call("GET", path)
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json["entries"]
    return found


async def actions(user: User, path: str) -> list[str]:
    return [entry["action"] for entry in await entries(user, path)]


async def test_acts_on_a_package_are_listed_newest_first(registry: Registry):
    ada = await registry.user("ada")
    assert (await ada.put("demo", "1.0.0", headers=AGENT)).status == 201
    yank = {"yanked": True, "reason": "broken"}
    assert (await ada.call("PATCH", "/packages/demo/1.0.0", json=yank)).status == 200
    assert (await ada.call("PATCH", "/packages/demo/1.0.0", json={"yanked": False})).status == 200
    assert (await ada.call("PATCH", "/packages/demo", json={"deprecated": "old"})).status == 200
    assert (await ada.call("DELETE", "/packages/demo/1.0.0")).status == 204
    found = await entries(ada, "/packages/demo/audit")
    assert [entry["action"] for entry in found] == [
        "version.delete", "package.deprecate", "version.unyank", "version.yank", "version.publish",
    ]  # fmt: skip
    assert found[3]["details"] == {"reason": "broken"}
    published = found[4]
    assert (published["actor"], published["token"], published["publisher"]) == ({"username": "ada"}, None, None)
    assert (published["package"], published["version"]) == ("demo", "1.0.0")
    assert (published["ip"], published["user_agent"]) == ("127.0.0.0", "audited/1.0")


async def test_an_act_by_an_api_token_names_the_token(registry: Registry):
    ada = await registry.user("ada")
    token = await token_of(ada, name="robot", scopes=["publish"])
    assert (await token.put("demo", "1.0.0")).status == 201
    [entry] = await entries(ada, "/packages/demo/audit")
    assert entry["actor"] == {"username": "ada"}
    assert entry["token"]["name"] == "robot"
    assert isinstance(entry["token"]["id"], int)
    assert await actions(ada, "/auth/audit") == ["version.publish", "token.create", "login.succeed", "user.create"]


async def test_owners_and_admins_read_a_package_and_only_admins_see_addresses_of_others(registry: Registry):
    ada, bob, eve = await registry.user("ada"), await registry.user("bob"), await registry.user("eve")
    root = await registry.user("root", admin=True)
    await ada.publish("demo")
    sent = await ada.call("POST", "/packages/demo/invitations", json={"username": "bob", "role": "owner"})
    assert (await bob.call("POST", f"/auth/invitations/{sent.json['id']}/accept")).status == 200
    assert (await eve.call("GET", "/packages/demo/audit")).status == 403
    assert (await registry.get("/packages/demo/audit")).status == 401
    accepted, invited, published = await entries(bob, "/packages/demo/audit")
    assert (accepted["ip"], published["ip"], published["user_agent"]) == ("127.0.0.0", None, None)
    assert invited["details"]["username"] == "bob"
    assert accepted["details"]["inviter"] == {"username": "ada"}
    assert {entry["ip"] for entry in await entries(root, "/packages/demo/audit")} == {"127.0.0.0"}


async def test_failed_logins_are_shown_to_the_account_and_unknown_names_are_not_stored(registry: Registry):
    ada, root = await registry.user("ada"), await registry.user("root", admin=True)
    for name in ("ada", "my-password-by-mistake"):
        wrong = {"username": name, "password": "wrong-password"}
        assert (await registry.call("POST", "/auth/login", json=wrong)).status == 401
    failed = (await entries(ada, "/auth/audit"))[0]
    assert (failed["action"], failed["actor"], failed["ip"]) == ("login.fail", {"username": "ada"}, "127.0.0.0")
    everything = (await root.call("GET", "/admin/audit")).body.decode()
    for secret in ("my-password-by-mistake", "wrong-password", PASSWORD, ada.token):
        assert secret not in everything
    fails = [entry["actor"]["username"] for entry in await entries(root, "/admin/audit?action=login.fail")]
    assert fails == [None, "ada"]


async def test_only_a_signed_in_user_reads_the_own_entries_and_only_an_admin_all(registry: Registry):
    ada, root = await registry.user("ada"), await registry.user("root", admin=True)
    token = await token_of(ada, scopes=["read", "manage"])
    assert (await token.call("GET", "/auth/audit")).status == 403
    assert (await ada.call("GET", "/admin/audit")).status == 403
    assert "user.role" in await actions(root, "/auth/audit")
    assert await actions(ada, "/auth/audit") == ["token.create", "login.succeed", "user.create"]


async def test_filters(registry: Registry):
    ada, root = await registry.user("ada"), await registry.user("root", admin=True)
    await ada.publish("demo")
    await root.publish("other")
    for query, packages in (
        ("action=version.publish", ["other", "demo"]),
        ("action=version.publish&actor=ADA", ["demo"]),
        ("action=version.publish&package=Other", ["other"]),
        ("action=version.publish&actor=nobody", []),
        ("action=version.publish&from=2020-01-01", ["other", "demo"]),
        ("action=version.publish&to=2020-01-01", []),
        ("action=version.publish&from=2999-01-01T00:00:00Z", []),
        ("action=version.publish&to=2999-01-01T00:00:00%2B02:00", ["other", "demo"]),
    ):
        found = await entries(root, f"/admin/audit?{query}")
        assert [entry["package"] for entry in found] == packages, query


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("format=xml", "format"), ("limit=0", "limit"), ("limit=x", "limit"), ("cursor=x", "cursor"),
        ("from=yesterday", "from"), ("to=2026-01-01T00:00:00", "to"), ("from=2026-13-01", "from"),
        ("action=", "action"), ("actor=%00", "actor"), (f"package={'x' * 300}", "package"), ("to=9999-12-31", "to"),
    ],
)  # fmt: skip
async def test_wrong_filters_name_the_parameter(registry: Registry, query: str, field: str):
    root = await registry.user("root", admin=True)
    answer = await root.call("GET", f"/admin/audit?{query}")
    assert (answer.status, answer.json["errors"][0]["field"]) == (400, field)


async def test_pages(registry: Registry):
    ada = await registry.user("ada")
    for number in range(5):
        await ada.publish("demo", f"1.{number}.0")
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await ada.call("GET", f"/packages/demo/audit?limit=2{cursor}")).json
        seen += [entry["version"] for entry in page["entries"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ["1.4.0", "1.3.0", "1.2.0", "1.1.0", "1.0.0"]
    assert [(await ada.call("GET", f"/auth/audit?limit={limit}")).json["limit"] for limit in (2, 1000)] == [2, 100]


async def test_every_action_is_dotted(registry: Registry):
    ada = await registry.user("ada")
    token = await token_of(ada, scopes=["read"])
    for user in (token, ada):
        assert (await user.call("POST", "/auth/logout")).status == 200
    again = await registry.call("POST", "/auth/login", json={"username": "ada", "password": PASSWORD})
    found = await actions(User(registry, ada.id, "ada", again.json["token"]), "/auth/audit")
    assert found == ["login.succeed", "session.end", "token.delete", "token.create", "login.succeed", "user.create"]


async def test_a_table_has_no_formulas(registry: Registry):
    ada = await registry.user("ada")
    assert (await ada.put("demo", "1.0.0", headers={"User-Agent": "=HYPERLINK(1)"})).status == 201
    answer = await ada.call("GET", "/packages/demo/audit?format=csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    header, row = csv.reader(io.StringIO(answer.body.decode()))
    assert header == ["at", "action", "actor", "token", "ip", "user_agent", "package", "version", "details"]
    assert row[0].endswith("Z")
    assert row[1:] == ["version.publish", "ada", "", "127.0.0.0", "'=HYPERLINK(1)", "demo", "1.0.0", "{}"]


async def test_old_entries_are_purged_only_with_a_retention(registry: Registry):
    ada, db = await registry.user("ada"), registry.app[DB]
    async with db.transaction() as conn:
        await conn.command(
            "INSERT INTO audit_entries (at, action, account_id, details) "
            "SELECT now() - interval '100 days', 'login.succeed', %(user)s, '{}' FROM generate_series(1, 3)",
            user=ada.id,
        )
    assert await purge(db, None) == 0
    assert await purge(db, timedelta(days=101)) == 0
    assert await purge(db, timedelta(days=99)) == 3
    assert await actions(ada, "/auth/audit") == ["login.succeed", "user.create"]
