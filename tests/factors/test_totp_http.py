"""Authenticator apps, recovery codes and confirmations over HTTP."""

import asyncio

from registry.accounts.delays.attempt import FREE_OF_ACCOUNT
from registry.db.engine import Statement
from registry.factors.administer import purge, reseal, reset_factors, unreadable
from registry.keys import DB, SETTINGS
from registry.settings import Settings
from tests.client import PASSWORD, Registry
from tests.conftest import SECRET, MakeRegistry
from tests.factors.conftest import App, add_app, answer, challenge, is_signed_in, log_in
from tests.web.shape import check_error


async def test_a_login_with_an_app_needs_a_code(registry: Registry):
    ada = await registry.user()
    app, codes = await add_app(ada)
    assert len(set(codes)) == 10
    me = (await ada.call("GET", "/auth/me")).json
    assert me["factors"] == me["user"]["factors"] == {"totp": True, "passkeys": 0, "recovery_codes": 10}
    assert me["email_verified"] is False
    asked = await challenge(registry)
    assert asked["methods"] == ["totp", "recovery_code"]
    done = await answer(registry, asked["challenge"], code=app.code())
    assert done.status == 200, done.body
    assert done.json["success"] is True
    assert done.json["user"]["username"] == "ada"
    assert await is_signed_in(registry, done.json["token"])
    assert (await answer(registry, asked["challenge"], code=app.code())).status == 401


async def test_a_code_counts_once_also_between_two_processes(make_registry: MakeRegistry):
    one, two = await make_registry(), await make_registry()
    app, codes = await add_app(await one.user())
    for code in (app.code(), codes[0]):
        asked = [(registry, (await challenge(registry))["challenge"]) for registry in (one, two) * 2]
        answers = await asyncio.gather(*(answer(registry, text, code=code) for registry, text in asked))
        assert sorted(each.status for each in answers) == [200, 401, 401, 401]
        refused = next(each for each in answers if each.status == 401)
        assert refused.json["code"] == "wrong_code"
        assert "clock" in refused.json["error"]
    me = await (await one.user()).call("GET", "/auth/me")
    assert me.json["factors"]["recovery_codes"] == 9


async def test_codes_of_the_steps_before_and_after_are_good_and_older_ones_are_not(registry: Registry):
    ada = await registry.user()
    app, _ = await add_app(ada)
    for _ in range(2):
        text = (await challenge(registry))["challenge"]
        assert (await answer(registry, text, code=app.code())).status == 200
    current = max(app.used)
    text = (await challenge(registry))["challenge"]
    assert (await answer(registry, text, code=app.of(current - 4))).json["code"] == "wrong_code"
    assert (await answer(registry, text, code=app.of(current + 4))).json["code"] == "wrong_code"


async def test_five_wrong_codes_end_the_challenge_also_when_they_come_at_once(registry: Registry):
    app, codes = await add_app(await registry.user())
    text = (await challenge(registry))["challenge"]
    wrong = app.wrong()
    answers = await asyncio.gather(*(answer(registry, text, code=wrong) for _ in range(8)))
    assert [each.status for each in answers] == [401] * 8
    assert sorted(each.json["code"] for each in answers) == ["unauthorized"] * 3 + ["wrong_code"] * 5
    assert (await answer(registry, text, code=app.code())).json["code"] == "unauthorized"
    text = (await challenge(registry))["challenge"]
    for _ in range(4):
        assert (await answer(registry, text, code="no-such-code")).json["code"] == "wrong_code"
    assert (await answer(registry, text, code=codes[0].upper().replace("-", " "))).status == 200


async def test_a_challenge_ends_with_its_time(registry: Registry):
    app, _ = await add_app(await registry.user())
    text = (await challenge(registry))["challenge"]
    async with registry.app[DB].transaction() as conn:
        await conn.command("UPDATE login_challenges SET expires_at = expires_at - interval '5 minutes'")
    assert (await answer(registry, text, code=app.code())).json["code"] == "unauthorized"
    await purge(registry.app[DB])
    async with registry.app[DB].read() as conn:
        assert await conn.value(Statement("SELECT count(*) FROM login_challenges", {})) == 0


async def test_wrong_codes_are_delayed_like_wrong_passwords(registry: Registry):
    app, _ = await add_app(await registry.user())
    for _ in range(FREE_OF_ACCOUNT // 5):
        text = (await challenge(registry))["challenge"]
        for _ in range(5):
            assert (await answer(registry, text, code=app.wrong())).status == 401
    assert (await log_in(registry)).json["code"] == "too_many_failures"


async def test_a_challenge_ends_with_the_password(registry: Registry):
    ada = await registry.user()
    app, _ = await add_app(ada)
    text = (await challenge(registry))["challenge"]
    body = {"current_password": PASSWORD, "new_password": "Another-Horse-43"}
    assert (await ada.call("POST", "/auth/password", json=body)).status == 200
    check_error(await answer(registry, text, code=app.code()), 401)
    for bad in ("x", "", "\u00e9" * 60):
        check_error(await answer(registry, bad, code="123456"), 401)
    check_error(await answer(registry, text), 400)
    check_error(await registry.call("POST", "/auth/login", json={"challenge": 5, "code": "1"}), 400)


async def test_changes_of_factors_need_the_password_or_a_code(registry: Registry):
    ada = await registry.user()
    for path in ("totp", "passkeys/options", "recovery-codes"):
        for body in ({}, {"password": "wrong-password"}, {"code": "123456"}):
            refused = await ada.call("POST", f"/auth/{path}", json=body)
            check_error(refused, 501 if path.startswith("passkeys") and refused.status == 501 else 403)
            if refused.status == 403:
                assert refused.json["code"] == "confirmation_required"
    check_error(await ada.call("POST", "/auth/recovery-codes", json={"password": PASSWORD}), 409)
    app, codes = await add_app(ada)
    check_error(await ada.call("POST", "/auth/totp", json={"password": PASSWORD}), 409)
    fresh = await ada.call("POST", "/auth/recovery-codes", json={"code": app.code()})
    assert len(fresh.json["recovery_codes"]) == 10
    assert not set(fresh.json["recovery_codes"]) & set(codes)
    refused = await ada.call("POST", "/auth/recovery-codes", json={"code": codes[0]})
    assert refused.json["code"] == "confirmation_required"
    assert (await ada.call("DELETE", "/auth/totp")).json["code"] == "confirmation_required"
    assert (await ada.call("DELETE", "/auth/totp", json={"code": app.wrong()})).json["code"] == "wrong_code"
    assert (await ada.call("DELETE", "/auth/totp", json={"code": fresh.json["recovery_codes"][0]})).status == 204
    assert (await ada.call("GET", "/auth/me")).json["factors"] == {"totp": False, "passkeys": 0, "recovery_codes": 0}
    assert (await log_in(registry)).status == 200


async def test_wrong_confirmations_count_as_wrong_logins(registry: Registry):
    ada = await registry.user()
    for _ in range(FREE_OF_ACCOUNT):
        check_error(await ada.call("POST", "/auth/totp", json={"password": "wrong-password"}), 403)
    assert (await ada.call("POST", "/auth/totp", json={"password": PASSWORD})).json["code"] == "too_many_failures"
    assert (await log_in(registry)).json["code"] == "too_many_failures"
    entries = (await ada.call("GET", "/auth/audit?action=login.fail&limit=1")).json["entries"]
    assert entries[0]["details"] == {"step": "confirmation"}


async def test_first_codes_can_not_be_guessed(registry: Registry):
    ada = await registry.user()
    made = await ada.call("POST", "/auth/totp", json={"password": PASSWORD})
    app = App(made.json["secret"])
    for _ in range(FREE_OF_ACCOUNT):
        wrong = await ada.call("POST", "/auth/totp/confirm", json={"code": app.wrong()})
        assert wrong.json["code"] == "wrong_code"
    right = await ada.call("POST", "/auth/totp/confirm", json={"code": app.code()})
    assert right.json["code"] == "too_many_failures"
    assert (await log_in(registry)).status == 200


async def test_an_app_is_no_factor_before_its_first_code(registry: Registry):
    ada = await registry.user()
    first = (await ada.call("POST", "/auth/totp", json={"password": PASSWORD})).json
    second = (await ada.call("POST", "/auth/totp", json={"password": PASSWORD})).json
    assert first["secret"] != second["secret"]
    assert second["uri"].startswith("otpauth://totp/")
    assert (await log_in(registry)).status == 200
    assert (await ada.call("POST", "/auth/totp/confirm", json={"code": "x"})).json["code"] == "wrong_code"
    token = (await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["manage"]})).json["token"]
    refused = await registry.call(
        "POST", "/auth/totp", json={"password": PASSWORD}, headers={"Authorization": f"Bearer {token}"}
    )
    check_error(refused, 403)


async def test_the_audit_log_tells_of_factors_and_of_logins_that_are_complete(registry: Registry):
    ada = await registry.user()
    app, _ = await add_app(ada)
    text = (await challenge(registry))["challenge"]
    await answer(registry, text, code=app.wrong())
    await answer(registry, text, code=app.code())
    raw = await ada.call("GET", "/auth/audit?limit=50")
    found = [(entry["action"], entry["details"]) for entry in raw.json["entries"]]
    assert found[:4] == [
        ("login.succeed", {"method": "totp"}),
        ("login.fail", {"step": "second factor"}),
        ("factor.add", {"factor": "totp"}),
        ("login.succeed", {"method": "password"}),
    ]
    assert app.secret not in raw.body.decode()


async def test_secrets_are_encrypted_and_follow_the_newest_key(make_registry: MakeRegistry):
    old = await make_registry()
    ada = await old.user()
    app, _ = await add_app(ada)
    new_key = "another-0123456789abcdefghijklmnopqrstuvwxyz"
    rotated = await make_registry(REGISTRY_SECRET_KEY=f"{new_key},{SECRET}")
    asked = await challenge(rotated)
    assert (await answer(rotated, asked["challenge"], code=app.code())).status == 200
    db, settings = rotated.app[DB], rotated.app[SETTINGS].accounts
    assert await unreadable(db, Settings.read({"REGISTRY_SECRET_KEY": new_key}).accounts) == [ada.id]
    assert await reseal(db, settings) == 1
    assert await reseal(db, settings) == 0
    assert await unreadable(db, Settings.read({"REGISTRY_SECRET_KEY": new_key}).accounts) == []
    assert await unreadable(db, Settings.read({"REGISTRY_SECRET_KEY": SECRET}).accounts) == [ada.id]
    asked = await challenge(rotated)
    assert (await answer(rotated, asked["challenge"], code=app.code())).status == 200


async def test_an_operator_resets_the_factors_of_a_user(registry: Registry):
    ada = await registry.user()
    await add_app(ada)
    await purge(registry.app[DB])
    await challenge(registry)
    await reset_factors(registry.app[DB], "ada")
    assert (await log_in(registry)).status == 200
    entries = (await ada.call("GET", "/auth/audit?action=factor.reset")).json["entries"]
    assert [entry["actor"] for entry in entries] == [None] or len(entries) == 1
