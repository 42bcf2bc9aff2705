"""The account's profile, password, sessions, API tokens and end, as a browser without JavaScript uses them."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import update
from yarl import URL

from registry.db.engine import statement
from registry.db.tables import sessions
from registry.keys import DB
from tests.accounts.authenticating import announce_all
from tests.client import PASSWORD, Registry
from tests.conftest import MakeRegistry
from tests.mail.server import mail_server
from tests.pages.visitor import Page, Visitor, signed_in

NEW = "Another-Horse-43"
SITE = "https://registry.example"


async def age(registry: Registry, **columns: timedelta) -> None:
    """Moves the given times of all sessions back."""
    async with registry.app[DB].transaction() as conn:
        values = {name: sessions.c[name] - by for name, by in columns.items()}
        await conn.run(statement(update(sessions).values(values)))
        await announce_all(conn)


async def grow_stale(registry: Registry) -> None:
    """Makes sensitive acts ask again."""
    await age(registry, confirmed_at=timedelta(minutes=16))


def row_of(page: Page, text: str) -> int:
    """The number of the table's row with this text."""
    [at] = [at for at, row in enumerate(page.texts("tbody tr")) if text in row]
    return at


async def api_call(visitor: Visitor, registry: Registry, token: str) -> int:
    return (await registry.get("/auth/verify", headers={"Authorization": f"Bearer {token}"})).status


async def test_strangers_are_led_to_the_sign_in(registry: Registry):
    async with Visitor(registry.url) as visitor:
        for path in ("/account", "/account/password", "/account/factors", "/account/tokens", "/account/sessions"):
            answer = await visitor.call("GET", path)
            assert (answer.status, URL(answer.headers["Location"]).query["next"]) == (303, path)
        answer = await visitor.call("POST", "/account/tokens", data={"name": "x"})
        assert (answer.status, URL(answer.headers["Location"]).path) == (303, "/login")


async def test_pages_of_the_account_are_never_kept(registry: Registry):
    async with await signed_in(registry, "ada") as visitor:
        titles = set()
        for path in ("/account", "/account/password", "/account/factors", "/account/tokens", "/account/sessions"):
            page = await visitor.get(path)
            assert page.headers["Cache-Control"] == "no-store"
            assert "ETag" not in page.headers
            assert page.all("nav [aria-current=page]")[0].get("href") == path
            titles.add(page.title)
        assert len(titles) == 5


async def test_every_form_of_the_account_needs_its_token(registry: Registry):
    async with await signed_in(registry, "ada") as visitor, await signed_in(registry, "eve") as eve:
        foreign = (await eve.get("/account/tokens")).form("Create token").fields["csrf"]
        for path in ("/account", "/account/password", "/account/factors", "/account/tokens", "/account/sessions"):
            for form in [each for each in (await visitor.get(path)).root.forms if each.method == "POST"]:
                fields = {name: value for name, value in form.form_values() if name != "csrf"}
                action = form.get("action")
                for wrong in ({}, {"csrf": ""}, {"csrf": "x.y"}, {"csrf": foreign}):
                    assert (await visitor.call("POST", action, data={**fields, **wrong})).status == 403, action
                whole = dict(form.form_values())
                for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}):
                    answer = await visitor.call("POST", action, data=whole, headers=headers)
                    assert answer.status == 403, action


async def test_a_new_password_replaces_the_session_and_ends_the_others_and_the_tokens(registry: Registry):
    ada = await registry.user("ada")
    made = await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["read"]})
    async with await signed_in(registry, "ada") as visitor, await signed_in(registry, "ada") as other:
        old = visitor.cookies["session"]
        page = await visitor.get("/account/password")
        for current, new, wrong in (
            ("Wrong-Horse-42", NEW, "current_password"), (PASSWORD, "short", "new_password"),
        ):  # fmt: skip
            page = await visitor.send(page, "Change password", status=400, current_password=current, new_password=new)
            assert [each.get("name") for each in page.all("[aria-invalid=true]")] == [wrong]
        assert "Wrong-Horse-42" not in page.body.decode()
        page = await visitor.send(page, "Change password", current_password=PASSWORD, new_password=NEW)
        assert "Your password is changed" in page.text
        assert visitor.cookies["session"] != old
        assert (await visitor.call("GET", "/account", cookies={"session": old})).status == 303
        assert (await other.call("GET", "/account")).status == 303
        for token in (ada.token, made.json["token"]):
            assert await api_call(visitor, registry, token) == 401
        page = await visitor.send(page, "Sign out")
        await visitor.send(page, "Sign in", status=401, username="ada", password=PASSWORD)
        assert URL((await visitor.sign_in("ada", NEW)).url).path == "/account"


async def test_sessions_are_listed_and_ended(registry: Registry):
    async with await signed_in(registry, "ada") as visitor, await signed_in(registry, "ada") as other:
        page = await visitor.get("/account/sessions")
        rows = page.texts("tbody tr")
        assert ["this browser" in row for row in rows] == [False, True, False]
        assert "Firefox on Linux" in rows[0]
        page = await visitor.send(page, "End session", at=0)
        assert "The session has ended" in page.text
        assert (await other.call("GET", "/account")).status == 303
        page = await visitor.send(page, "End session", at=row_of(page, "this browser"))
        assert URL(page.url).path == "/login"
        assert not visitor.cookies.get("session")


async def test_a_session_ends_when_it_is_idle_or_old(registry: Registry):
    for aged in (
        {"last_used_at": timedelta(days=14, seconds=1)},
        {"created_at": timedelta(days=30, seconds=1)},
    ):
        async with await signed_in(registry, "ada") as visitor:
            await age(registry, last_used_at=timedelta(days=13))
            assert (await visitor.call("GET", "/account")).status == 200
            await age(registry, **aged)
            assert (await visitor.call("GET", "/account")).status == 303
            # The browser still has the cookie of the ended session, and can sign in again.
            assert URL((await visitor.sign_in("ada")).url).path == "/account"


async def test_the_cookie_is_no_credential_of_the_api_nor_a_login_one_of_the_pages(registry: Registry):
    ada = await registry.user("ada")
    async with await signed_in(registry, "ada") as visitor:
        cookie = visitor.cookies["session"]
        assert await api_call(visitor, registry, cookie) == 401
        for method, path in (("GET", "/auth/me"), ("POST", "/auth/tokens"), ("DELETE", "/auth/me")):
            answer = await visitor.call(method, f"/api/v1{path}", json={})
            assert answer.status == 401
    async with Visitor(registry.url) as stranger:
        answer = await stranger.call("GET", "/account", cookies={"session": ada.token})
        assert answer.status == 303
        answer = await stranger.call("GET", "/account", headers={"Authorization": f"Bearer {ada.token}"})
        assert answer.status == 303


async def test_a_token_is_shown_once_and_revoked(registry: Registry):
    async with await signed_in(registry, "ada") as visitor:
        page = await visitor.get("/account/tokens")
        page = await visitor.send(
            page, "Create token", status=400, name="", scopes=["publish"], packages="Not_A Package!"
        )
        assert page.all("input[name=packages]")[0].get("value") == "Not_A Package!"
        assert [each.get("value") for each in page.all("input[name=scopes][checked]")] == ["publish"]
        page = await visitor.send(page, "Create token", name="ci", scopes=["publish"], packages="demo, other")
        [token] = re.findall(r"syn_\w{36}", page.texts(".made code")[0])
        assert page.headers["Cache-Control"] == "no-store"
        me = await registry.get("/auth/verify", headers={"Authorization": f"Bearer {token}"})
        assert me.status == 200
        page = await visitor.get("/account/tokens")
        assert "syn_" not in page.text
        [row] = page.texts("tbody tr")
        assert "ci" in row
        assert "demo, other" in row
        page = await visitor.send(page, "Revoke")
        assert "The token is revoked" in page.text
        assert await api_call(visitor, registry, token) == 401


@pytest.mark.parametrize("days", ["", "7", "x", "-1", "99999"])
async def test_a_token_expires_when_the_form_says(registry: Registry, days: str):
    async with await signed_in(registry, "ada") as visitor:
        form = (await visitor.get("/account/tokens")).form("Create token")
        fields = {**dict(form.form_values()), "name": "ci", "scopes": "read", "expires": days}
        answer = await visitor.call("POST", "/account/tokens", data=fields)
        assert answer.status == (200 if days in ("", "7") else 400)
        rows = answer.texts("tbody tr")
        assert len(rows) == (1 if answer.status == 200 else 0)


async def test_only_admins_are_offered_the_scope_of_admins(registry: Registry):
    async with await signed_in(registry, "ada") as visitor, await signed_in(registry, "root", admin=True) as root:
        assert not (await visitor.get("/account/tokens")).all("input[value=admin]")
        assert (await root.get("/account/tokens")).all("input[value=admin]")
        form = (await visitor.get("/account/tokens")).form("Create token")
        answer = await visitor.call(
            "POST", "/account/tokens", data={**dict(form.form_values()), "name": "x", "scopes": "admin"}
        )
        assert answer.status == 400
        assert "only for an admin" in answer.text


async def test_a_sensitive_act_asks_again_after_a_while_and_is_not_lost(registry: Registry):
    async with await signed_in(registry, "ada") as visitor:
        await grow_stale(registry)
        page = await visitor.get("/account/tokens")
        page = await visitor.send(page, "Create token", status=403, name="ci", packages="demo")
        assert page.heading == "Confirm that it is you"
        page = await visitor.send(page, "Confirm", status=403, confirm_password="Wrong-Horse-42")
        assert "wrong" in page.text
        page = await visitor.send(page, "Confirm", confirm_password=PASSWORD)
        assert page.texts(".made code")
        assert "demo" in page.texts("tbody tr")[0]
        page = await visitor.send(page, "Create token", name="second")
        assert len(page.texts("tbody tr")) == 2


async def test_without_a_time_of_grace_each_sensitive_act_asks_again(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_REAUTH="0s")
    async with await signed_in(registry, "ada") as visitor:
        for name in ("first", "second"):
            page = await visitor.get("/account/tokens")
            page = await visitor.send(page, "Create token", status=403, name=name)
            page = await visitor.send(page, "Confirm", confirm_password=PASSWORD)
            assert page.texts(".made code")
        page = await visitor.send(await visitor.get("/account"), "Delete account", status=403, name="ada")
        assert "Your account is deleted" in (await visitor.send(page, "Confirm", confirm_password=PASSWORD)).text


async def test_the_address_of_a_form_leads_to_its_page(registry: Registry):
    async with await signed_in(registry, "ada") as visitor:
        for path, page in (
            ("/account/email", "/account"), ("/account/delete", "/account"),
            ("/account/factors/totp", "/account/factors"), ("/account/factors/recovery-codes", "/account/factors"),
            ("/login/passkey", "/login"),
        ):  # fmt: skip
            assert URL((await visitor.get(path)).url).path == page


async def test_wrong_confirmations_count_as_wrong_passwords(registry: Registry):
    async with await signed_in(registry, "ada") as visitor:
        await grow_stale(registry)
        page = await visitor.get("/account/tokens")
        page = await visitor.send(page, "Create token", status=403, name="ci")
        for _ in range(30):
            page = await visitor.send(page, "Confirm", status=403, confirm_password="Wrong-Horse-42")
        page = await visitor.send(page, "Confirm", status=429, confirm_password="Wrong-Horse-42")
        assert "Retry-After" in page.headers


async def test_an_account_is_deleted_by_typing_its_name(registry: Registry):
    async with await signed_in(registry, "ada") as visitor:
        page = await visitor.get("/account")
        page = await visitor.send(page, "Delete account", status=400, name="eve")
        assert page.all("input[name=name]")[0].get("value") == "eve"
        await grow_stale(registry)
        page = await visitor.send(page, "Delete account", status=403, name="ada")
        page = await visitor.send(page, "Confirm", confirm_password=PASSWORD)
        assert "Your account is deleted" in page.text
        assert not visitor.cookies.get("session")
        await visitor.send(page, "Sign in", status=401, username="ada", password=PASSWORD)


async def test_the_last_owner_of_a_package_is_told_which_one(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo")
    async with await signed_in(registry, "ada") as visitor:
        page = await visitor.send(await visitor.get("/account"), "Delete account", status=409, name="ada")
        assert "only owner of demo" in page.text
        assert page.link("demo") == "/packages/demo/settings"
        assert (await visitor.call("GET", "/account")).status == 200


async def test_an_address_is_changed_and_its_mail_sent_again(make_registry: MakeRegistry):
    async with mail_server() as mailbox:
        registry = await make_registry(REGISTRY_SMTP_URL=mailbox.url)
        async with await signed_in(registry, "ada", email="ada@example.com") as visitor:
            page = await visitor.get("/account")
            assert "not verified" in page.text
            page = await visitor.send(page, "Send the mail again")
            assert "on its way" in page.text
            page = await visitor.send(page, "Change address", status=400, email="nobody")
            assert page.all("input[name=email]")[0].get("value") == "nobody"
            await grow_stale(registry)
            page = await visitor.send(page, "Change address", status=403, email="lovelace@example.com")
            page = await visitor.send(page, "Confirm", confirm_password=PASSWORD)
            assert "lovelace@example.com" in page.text
            await mailbox.wait_for("lovelace@example.com", "Verify your e-mail address")


async def test_without_mail_no_form_changes_an_address(registry: Registry):
    async with await signed_in(registry, "ada") as visitor:
        page = await visitor.get("/account")
        assert "sends no mail" in page.text
        assert "Add address" not in page.buttons()
